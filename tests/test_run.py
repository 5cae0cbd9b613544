"""Each broken notebook ends in the one true state, with its cell, its class and a readable
notebook.
"""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from unittest.mock import ANY

import pytest

from lib import notebooks, paths, processes, runs
from lib.batch import machine
from lib.batch import notebook_job as jobs
from lib.batch.dask_executor import Executor
from lib.batch.notebook_job import Busy, Job, run_notebook

CASES = ("ok", "frugal", "raises", "late", "silent", "dies", "fills_memory", "endless", "nan")


def job(name, **more):
    notebook = notebooks.find(name)
    filled = {**notebook.defaults(), "study": name, "arm": "a", "seed": 3}
    folder = paths.run(name, notebook.stage, "a-s3")
    key = runs.key(notebook, filled, data=None)
    return Job(str(notebook.path), str(folder), filled, key, resume="darkroom run it", **more)


def done(*jobs):
    """What `processes.call` returns for each, one after the other in one process."""
    environment = dict(os.environ)
    return [processes.call(run_notebook, job, environment=environment) for job in jobs]


def at_cell(wanted):
    progress = Path(wanted.folder) / "progress.json"
    return json.loads(progress.read_text()).get("cell", 0) if progress.exists() else 0


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The outcome and the folder of every case, run two at a time."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(Path(__file__).parent / "notebooks", home / "notebooks")
    limits = {"fills_memory": {"memory_bytes": 400_000_000}, "endless": {"time_limit_s": 4.0}}
    with pytest.MonkeyPatch.context() as patch, Executor(workers=2) as executor:
        patch.setenv("DARKROOM_HOME", str(home))
        for name in CASES:
            (home / "logs" / name).mkdir(parents=True)  # as the study itself does
            executor.submit(
                name,
                jobs.execute,
                job(name, **limits.get(name, {})),
                machine.Share(parallel=2),
                str(home),
            )
        found = {}
        while len(found) < len(CASES):
            for outcome in executor.poll(60):
                assert outcome.error is None
                found[outcome.name] = (
                    outcome.value,
                    home / "logs" / outcome.name / "work" / "a-s3",
                )
        yield found


def test_a_run_that_works_has_its_result_and_its_notebook(ended):
    outcome, folder = ended["ok"]
    assert outcome["state"] == "finished" and outcome["failure"] is None
    assert runs.read(folder)["metrics"] == {"score": 3.0}
    executed = json.loads((folder / "notebook.ipynb").read_text())
    assert executed["cells"][2]["metadata"]["tags"] == ["injected-parameters"]
    assert "seed = 3" in "".join(executed["cells"][2]["source"])
    progress = json.loads((folder / "progress.json").read_text())
    assert (
        progress["state"] == "finished"
        and progress["epoch"] == 4
        and progress["cell"] == progress["cells"] == 5
    )


@pytest.mark.parametrize(
    ("case", "kind", "exception", "cell", "source"),
    [
        ("raises", "code", "KeyError", 4, "if bad:"),
        ("late", "code", "ZeroDivisionError", 5, "1 / 0"),
        ("silent", "code", "NoResult", None, ""),
        ("dies", "kernel died", "DeadKernel", 4, "import os"),
        ("fills_memory", "out of memory", "MemoryLimit", 4, "import time"),
        ("endless", "time limit", "TimeLimit", ANY, ANY),  # a slow machine may not get to cell 4
        (
            "nan",
            "NaN",
            "FloatingPointError",
            4,
            'raise FloatingPointError("the loss became NaN in epoch 2")',
        ),
    ],
)
def test_a_run_that_breaks_is_never_finished(ended, case, kind, exception, cell, source):
    outcome, folder = ended[case]
    failure = json.loads((folder / "failure.json").read_text())
    assert outcome["state"] == "failed" and outcome["failure"] == failure
    assert (failure["kind"], failure["exception"], failure["cell"], failure["source"]) == (
        kind,
        exception,
        cell,
        source,
    )
    assert failure["resume"] == "darkroom run it"
    assert runs.state(folder) == "failed" and not runs.finished(folder)
    executed = json.loads((folder / "notebook.ipynb").read_text())
    marked = [
        each for each in executed["cells"] if "darkroom-failure" in each["metadata"].get("tags", [])
    ]
    assert len(marked) == 1 and exception in "".join(marked[0]["source"])


def test_a_kernel_is_reported_to_take_no_more_gpu_memory_than_it_needs_before_it_starts(ended):
    outcome, folder = ended["frugal"]
    told = runs.read(folder)["metrics"]
    assert outcome["state"] == "finished"
    assert (
        told["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
        and told["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    )
    assert told["OMP_NUM_THREADS"] == str(max(1, processes.num_cores() // 2))


def test_a_broken_kernelspec_and_startup_file_of_the_users_do_no_harm(batch_home, monkeypatch):
    spec = batch_home / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "p", "language": "python"})
    )
    startup = batch_home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("raise SystemExit")
    environment = {
        "JUPYTER_PATH": str(batch_home / "jupyter"),
        "IPYTHONDIR": str(batch_home / "ipython"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done(job("ok"))
    assert runs.finished(Path(job("ok").folder))


def test_two_at_the_same_run_are_never_both_at_work(batch_home):
    wanted = job("ok")
    with (
        runs.acquire(Path(wanted.folder)),
        pytest.raises(Busy, match="Another process works on the run"),
    ):
        done(wanted)
    done(wanted, wanted)
    assert runs.finished(Path(wanted.folder))


def test_the_end_of_its_input_is_the_end_of_a_run_and_its_kernel(batch_home):
    wanted = job("endless")
    worker = processes.Worker()
    worker.send(run_notebook, wanted)
    while at_cell(wanted) < 4:
        time.sleep(0.05)
    worker._process.stdin.close()
    assert worker.receive(60) == ("died", 143)
    while runs.state(Path(wanted.folder)) != "killed":  # the kernel is ending
        time.sleep(0.05)
    worker.close()


def test_a_process_that_died_is_replaced(batch_home):
    processes.shutdown()  # those that know another home
    worker = processes.acquire(max_calls=50)
    worker.kill()
    worker.send(run_notebook, job("ok"))
    assert worker.receive(10) == ("died", -signal.SIGKILL)
    processes.release(worker)
    fresh = processes.acquire(max_calls=50)
    fresh.send(run_notebook, job("ok"))
    assert fresh.receive(60) == ("result", "") and fresh.output() == ""
    processes.release(fresh)
    assert processes.acquire(max_calls=50) is fresh
    fresh.close()
