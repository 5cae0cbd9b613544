"""Whatever is killed, whenever: no false "finished", nothing lost, nothing torn, and the same
command finishes the study.
"""

import os
import random
import signal
import time

import pytest

FILES = (
    "study.json",
    ".holder.json",
    "key.json",
    "progress.json",
    "notebook.ipynb",
    "parameters.json",
    "result.json",
)
POINTS = [f"{file}:{moment}" for file in FILES for moment in ("written", "renamed")]
SHORT = ("key.json:renamed", "result.json:written", "result.json:renamed")
LATE = [
    f"{file}:{moment}"
    for file in ("results.parquet", "results.csv", "index.html")
    for moment in ("written", "renamed")
]


@pytest.mark.parametrize(
    "point",
    [pytest.param(p, marks=() if p in SHORT else pytest.mark.slow) for p in [*POINTS, *LATE]],
)
def test_killed_at_a_point(one, point):
    broken = one.run("--workers", "2", DARKROOM_FAULT=point)
    assert broken.returncode != 0
    if point == "result.json:written":
        assert not one.results()
    assert one.complete() == one.expected
    if point in LATE:  # all had finished, so nothing was left to do but to write these
        assert (one.home / "logs" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["runner", "run", "kernel", "template"])
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_random_moment(one, whom, seed):
    process = one.begin("--workers", "2")
    time.sleep(random.Random(seed).uniform(0.3, 6))
    if whom == "runner":
        process.kill()
    else:
        sought = {"run": "lib.processes", "template": "--template"}
        victims = one.kernels() if whom == "kernel" else one.processes(sought[whom])
        for victim in victims[:1]:
            os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=600)
    assert one.complete() == one.expected
