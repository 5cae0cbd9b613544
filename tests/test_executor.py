import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask_processes
import filelock
import pytest

from lib import processes
from lib.batch import dask_executor as executors
from lib.batch.dask_executor import Executor
from lib.errors import DarkroomError


def gather(executor, number):
    found = {}
    while len(found) < number:
        outcomes = executor.poll(30)
        assert outcomes, "nothing came within 30 s"
        found.update({outcome.name: outcome for outcome in outcomes})
    return found


def die_once(marker):
    """Kills its worker the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_nothing_starts_before_there_is_work():
    with Executor(workers=2) as executor:
        assert executor.poll(10) == []  # at once, though 10 s were allowed
        assert executor._client is None
    assert "distributed" not in _modules_after(
        "from lib.batch.dask_executor import Executor; Executor().close()"
    )


def whoami():
    print("noise that must not come between the answers")
    return os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"]


def refuse(why):
    raise KeyError(why)


def crash():
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def test_work_apart_has_its_share_is_kept_and_may_fail_crash_or_be_stopped(monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    )
    with Executor(workers=1) as executor:
        executor.submit("first", whoami, isolated=True, cores=1)
        executor.submit("second", whoami, isolated=True, cores=1)
        executor.submit("refuses", refuse, "no such thing", isolated=True)
        executor.submit("crashes", crash, isolated=True)
        found = gather(executor, 4)
        assert found["first"].value == found["second"].value  # one process did both
        assert found["first"].value[0] != os.getpid() and found["first"].value[1:] == ("1", "false")
        refused = found["refuses"].error
        assert repr(refused) == "KeyError('no such thing')" and "in refuse" in refused.__notes__[0]
        assert isinstance(found["crashes"].error, processes.WorkerDied)
        assert "was killed by signal 11" in str(found["crashes"].error) and "last words" in str(
            found["crashes"].error
        )
        begun = time.monotonic()
        executor.submit("long", time.sleep, 60, isolated=True)
        assert executor.poll(0.5) == []
        executor.cancel("long")
        assert gather(executor, 1)["long"].value is None
        executor.submit("after", os.getpid, isolated=True)  # its place is free again
        assert gather(executor, 1)["after"].value != os.getpid()
        assert time.monotonic() - begun < 30


def test_more_cores_and_memory_than_there_are_stand_for_all_of_them():
    with Executor(workers=1) as executor:
        executor.submit("greedy", sum, [1], cores=10_000, memory_gb=1e6)
        assert gather(executor, 1)["greedy"].value == 1


def test_more_gpus_than_any_worker_has_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with Executor() as executor:
        executor.check(tmp_path, gpus=2)  # none at all: the study runs without
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with pytest.raises(DarkroomError, match="wants 2 GPUs, but no worker has more than 1"):
            executor.check(tmp_path, gpus=2)


def _modules_after(code):
    asked = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.split()


def test_values_and_errors_come_back():
    with Executor(workers=2) as executor:
        executor.submit("sum", sum, [1, 2, 3])
        executor.submit("no", int, "x")
        found = gather(executor, 2)
    assert found["sum"].value == 6 and found["sum"].error is None
    assert isinstance(found["no"].error, ValueError)


def test_cancelled_work_comes_back_without_a_value():
    with Executor(workers=1) as executor:
        executor.submit("long", time.sleep, 3)
        executor.submit("waiting", sum, [1])
        executor.cancel("waiting")
        found = gather(executor, 1)
        assert (found["waiting"].value, found["waiting"].error) == (None, None)


def test_a_word_that_is_no_address_of_a_cluster_is_refused_before_any_work():
    with pytest.raises(
        DarkroomError, match="--cluster 'foo' is not an address; expected one such as"
    ):
        Executor(cluster="foo")
    for address in ("tcp://[::1]:8786", "tls://node:8786", "10.0.0.1:8786"):
        Executor(cluster=address).close()


def test_a_cluster_that_is_not_there_is_refused():
    with (
        Executor(cluster="tcp://127.0.0.1:9") as executor,
        pytest.raises(DarkroomError, match="No cluster answers at 'tcp://127"),
    ):
        executor.submit("sum", sum, [1])


@pytest.fixture
def cluster(tmp_path):
    """A scheduler on loopback with two worker processes, each under a nanny that starts it anew."""
    file = tmp_path / "scheduler.json"
    # The scheduler, too, reads the work's name.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    scheduler, address = dask_processes.start_scheduler(file, env=environment)
    options = ["--nworkers", "2", "--nthreads", "1", "--local-directory", str(tmp_path)]
    workers = dask_processes.start("dask_worker", file, *options, env=environment)
    yield address
    for process in (workers, scheduler):
        process.terminate()
        process.wait(timeout=600)


def test_work_of_a_lost_worker_is_done_again_and_a_cluster_that_does_not_fit_is_refused(
    cluster, tmp_path, monkeypatch
):
    with Executor(cluster=cluster) as executor:
        executor.check(tmp_path)
        executor.submit("dies", die_once, str(tmp_path / "marker"))
        assert gather(executor, 1)["dies"].value == "done"
        monkeypatch.setattr(
            executors.hashing, "library", lambda: "other"
        )  # here, not on the workers
        with pytest.raises(DarkroomError, match="has another version of the suite"):
            executor.check(tmp_path)
        monkeypatch.setattr(filelock.FileLock, "acquire", lambda lock: Path(lock.lock_file).touch())
        monkeypatch.setattr(filelock.FileLock, "release", lambda lock, force=False: None)
        with pytest.raises(
            DarkroomError, match="can lock a file in .* that this machine holds locked"
        ):
            executor.check(tmp_path)
