"""Whatever is killed, whenever: no false "finished", nothing lost, nothing torn, and the same command finishes the study."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DARKROOM = [sys.executable, "-m", "lib.cli"]
FILES = ("study.json", ".holder.json", "key.json", "progress.json", "notebook.ipynb", "parameters.json", "result.json")
POINTS = [f"{file}:{moment}" for file in FILES for moment in ("written", "renamed")]
SHORT = ("key.json:renamed", "result.json:written", "result.json:renamed")


def run(*words, **environment):
    return subprocess.run(
        [*DARKROOM, "run", "one", *words],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def results(home):
    """What each finished run has found; reading fails when a file is torn."""
    found = {}
    for path in home.glob("logs/one/*/*/*.json"):
        content = json.loads(path.read_text())
        if path.name == "result.json":
            found[str(path.parent.relative_to(home / "logs" / "one"))] = (content["metrics"], path.stat().st_mtime_ns)
    return found


def complete(home):
    """Runs the study to its end and returns the metrics; a run that had finished is not done again."""
    before = results(home)
    told = run("--json")
    assert told.returncode == 0, told.stdout + told.stderr
    after = results(home)
    stage = ("begin/", "work/")  # gather is done anew when what it reads is new
    assert {unit: found for unit, found in before.items() if unit.startswith(stage)}.items() <= after.items()
    return {unit: metrics for unit, (metrics, _) in after.items()}


EXPECTED = {
    "begin/all": {}, "gather/all": {"num_runs": 4},
    "work/plain-s0": {"score": 0.0}, "work/plain-s1": {"score": 1.0},
    "work/double-s0": {"score": 0.0}, "work/double-s1": {"score": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.slow) for p in POINTS])
def test_killed_at_a_point(batch_home, point):
    broken = run("--workers", "2", DARKROOM_FAULT=point)
    assert broken.returncode != 0
    if point == "result.json:written":
        assert not results(batch_home)
    assert complete(batch_home) == EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["runner", "run", "kernel"])
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_random_moment(batch_home, whom, seed):
    begin = [*DARKROOM, "run", "one", "--workers", "2"]
    process = subprocess.Popen(begin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.Random(seed).uniform(0.3, 6))
    if whom == "runner":
        process.kill()
    else:
        sought = {"run": "lib.batch.run", "kernel": "lib.batch.kernel"}[whom]
        for victim in _children(batch_home, sought)[:1]:
            os.kill(victim, signal.SIGKILL)
    process.wait(timeout=60)
    assert complete(batch_home) == EXPECTED


def _children(home, module):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"DARKROOM_HOME={home}".encode() in (process / "environ").read_bytes()
            if ours and module.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_workers_of_a_cluster_are_killed_one_after_the_other(batch_home):
    study = batch_home / "studies" / "one.toml"
    study.write_text(study.read_text().replace("seconds = 0.0", "seconds = 2.0").replace("[0, 1]", "[0, 1, 2, 3, 4, 5]"))
    file = batch_home / "scheduler.json"
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    begin = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen(begin, stderr=subprocess.DEVNULL)
    while not file.exists():
        time.sleep(0.1)
    work = [sys.executable, "-m", "distributed.cli.dask_worker", *options, "--nthreads", "1"]
    workers = [_worker(work, batch_home, number) for number in range(3)]
    address = json.loads(file.read_text())["address"]
    runner = subprocess.Popen([*DARKROOM, "run", "one", "--cluster", address], stdout=subprocess.DEVNULL)
    killed = 0
    try:
        while runner.poll() is None and killed < 30:
            time.sleep(3)
            workers[killed % 3].kill()
            workers[killed % 3].wait()
            workers[killed % 3] = _worker(work, batch_home, killed + 3)
            killed += 1
        assert runner.wait(timeout=120) == 0 and killed >= 3
    finally:
        for process in (runner, *workers, scheduler):
            process.kill()
            process.wait()
    found = {unit: metrics for unit, (metrics, _) in results(batch_home).items()}
    arms = {"plain": 1.0, "double": 2.0}
    expected = {f"work/{arm}-s{seed}": {"score": seed * arms[arm]} for arm in arms for seed in range(6)}
    assert found == {**expected, "begin/all": {}, "gather/all": {"num_runs": 12}}


def _worker(command, home, number):
    return subprocess.Popen(
        [*command, "--no-nanny", "--local-directory", str(home / f"dask{number}")], stderr=subprocess.DEVNULL, cwd=home
    )
