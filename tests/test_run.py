"""Each broken notebook ends in the one true state, with its cell, its class and a readable
notebook.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib import notebooks, paths, runs
from lib.batch import launch, machine, pool
from lib.batch.executor import Engine
from lib.batch.run import Job

CASES = ("ok", "frugal", "raises", "late", "silent", "dies", "eats", "endless", "nan")


def job(name, **more):
    notebook = notebooks.find(name)
    filled = {**notebook.defaults(), "study": name, "arm": "a", "seed": 3}
    folder = paths.run(name, notebook.stage, "a-s3")
    key = runs.key(notebook, filled, data=None)
    return Job(str(notebook.path), str(folder), filled, key, resume="darkroom run it", **more)


def begin(*jobs):
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.batch.run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.writelines(each.line() for each in jobs)
    process.stdin.flush()
    return process


def answers(*jobs):
    process = begin(*jobs)
    found = [int(process.stdout.readline()) for _ in jobs]
    process.communicate(timeout=30)
    return found


def at_cell(wanted):
    progress = Path(wanted.folder) / "progress.json"
    return json.loads(progress.read_text()).get("cell", 0) if progress.exists() else 0


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The outcome and the folder of every case, run two at a time."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(Path(__file__).parent / "notebooks", home / "notebooks")
    limits = {"eats": {"memory_bytes": 400_000_000}, "endless": {"time_limit_s": 4.0}}
    with pytest.MonkeyPatch.context() as patch, Engine(workers=2) as engine:
        patch.setenv("DARKROOM_HOME", str(home))
        for name in CASES:
            (home / "logs" / name).mkdir(parents=True)  # as the study itself does
            engine.submit(
                name,
                launch.execute,
                job(name, **limits.get(name, {})),
                launch.Share(parallel=2),
                str(home),
            )
        found = {}
        while len(found) < len(CASES):
            for outcome in engine.poll(60):
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
        ("eats", "out of memory", "MemoryLimit", 4, "import time"),
        ("endless", "time limit", "TimeLimit", 4, "import time"),
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


def test_a_kernel_is_told_to_take_no_more_gpu_memory_than_it_needs_before_it_starts(ended):
    outcome, folder = ended["frugal"]
    told = runs.read(folder)["metrics"]
    assert outcome["state"] == "finished"
    assert (
        told["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
        and told["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    )
    assert told["OMP_NUM_THREADS"] == str(max(1, machine.num_cores() // 2))


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
    assert answers(job("ok")) == [0]


def test_two_at_the_same_run_are_never_both_at_work(batch_home):
    wanted = job("ok")
    with runs.acquire(Path(wanted.folder)):
        assert answers(wanted) == [3]
    assert answers(wanted, wanted) == [0, 0]


def test_the_end_of_its_input_is_the_end_of_a_run_and_its_kernel(batch_home):
    wanted = job("endless")
    process = begin(wanted)
    while at_cell(wanted) < 4:
        time.sleep(0.05)
    process.stdin.close()
    assert process.wait(timeout=10) == 143
    end = time.monotonic() + 5
    while runs.state(Path(wanted.folder)) != "killed":
        assert time.monotonic() < end
    process.stdout.close()


def test_a_runner_that_died_is_replaced(batch_home):
    pool.dismiss()  # those that know another home
    runner = pool.take("lib.batch.run")
    runner._process.kill()
    runner.tell(job("ok").line())
    assert runner.answer(10) == -signal.SIGKILL
    pool.give_back(runner)
    fresh = pool.take("lib.batch.run")
    fresh.tell(job("ok").line())
    assert fresh.answer(30) == 0 and fresh.said() == ""
    pool.give_back(fresh)
    assert pool.take("lib.batch.run") is fresh
    fresh.end()
