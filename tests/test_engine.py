import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.batch.engine import Engine
from lib.errors import DarkroomError


def gather(engine, number):
    found = {}
    while len(found) < number:
        outcomes = engine.poll(30)
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
    with Engine(workers=2) as engine:
        assert engine.poll(10) == []  # at once, though 10 s were allowed
        assert engine._client is None
    assert "distributed" not in _modules_after("from lib.batch.engine import Engine; Engine().close()")


def _modules_after(code):
    asked = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return asked.stdout.split()


def test_values_and_errors_come_back():
    with Engine(workers=2) as engine:
        engine.submit("sum", sum, [1, 2, 3])
        engine.submit("no", int, "x")
        found = gather(engine, 2)
    assert found["sum"].value == 6 and found["sum"].error is None
    assert isinstance(found["no"].error, ValueError)


def test_cancelled_work_comes_back_without_a_value():
    with Engine(workers=1) as engine:
        engine.submit("long", time.sleep, 3)
        engine.submit("waiting", sum, [1])
        engine.cancel("waiting")
        found = gather(engine, 1)
        assert (found["waiting"].value, found["waiting"].error) == (None, None)


def test_a_cluster_that_is_not_there_is_refused():
    with Engine(cluster="tcp://127.0.0.1:9") as engine, pytest.raises(DarkroomError, match="No cluster answers at 'tcp://127"):
        engine.submit("sum", sum, [1])


@pytest.fixture
def cluster(tmp_path):
    """A scheduler on loopback with two worker processes, each under a nanny that starts it anew."""
    file = tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    begin = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # the scheduler, too, reads the work's name
    started = [subprocess.Popen(begin, stderr=subprocess.DEVNULL, env=environment)]
    while not file.exists():
        time.sleep(0.1)
    work = [sys.executable, "-m", "distributed.cli.dask_worker", *options, "--nworkers", "2", "--nthreads", "1"]
    started.append(subprocess.Popen([*work, "--local-directory", str(tmp_path)], stderr=subprocess.DEVNULL, env=environment))
    yield json.loads(file.read_text())["address"]
    for process in reversed(started):
        process.terminate()
        process.wait(timeout=30)


def test_work_of_a_lost_worker_is_done_anew(cluster, tmp_path):
    with Engine(cluster=cluster) as engine:
        engine.check_shared(tmp_path)
        engine.submit("dies", die_once, str(tmp_path / "marker"))
        assert gather(engine, 1)["dies"].value == "done"
