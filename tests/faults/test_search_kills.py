"""A search may be killed at any moment: it ends with the same trials, and none is computed again
after it had finished.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
APPENDED = [f"journal.jsonl:appended#{number}" for number in range(1, 84)]
SHORT = {f"journal.jsonl:appended#{number}" for number in (3, 40)}
METHODS = ("random", "halving")


def begin(folder, method, **environment):
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(TESTS / "objectives.py"), str(folder), method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def complete(folder, method, **environment):
    process = begin(folder, method, **environment)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return {method: complete(tmp_path_factory.mktemp(method), method) for method in METHODS}


def finished(folder):
    return {int(path.parent.name) for path in folder.glob("search/trials/*/outcome.json")}


def started(folder):
    path = folder / "ran"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def resumed(folder, method, straight):
    """Ends the search and holds it to one that was not killed; what had finished is not begun
    again.
    """
    done, before = finished(folder), started(folder)
    found = complete(folder, method)
    assert found == straight[method] and found["complete"]
    assert not set(started(folder)[len(before) :]) & done


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.slow) for p in APPENDED]
)
def test_killed_after_a_line_of_the_journal(tmp_path, straight, point):
    assert len(straight["random"]["trials"]) == 16
    process = begin(tmp_path, "random", DARKROOM_FAULT=point)
    process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL
    resumed(tmp_path, "random", straight)


@pytest.mark.parametrize(
    "point",
    ["outcome.json:written#2", pytest.param("outcome.json:renamed#2", marks=pytest.mark.slow)],
)
def test_a_worker_killed_as_it_lays_down_its_outcome_is_replaced(tmp_path, straight, point):
    # One at a time: a trial whose worker died must not be given to another one that is about to die
    # of its second write.
    assert (
        complete(tmp_path, "random", DARKROOM_FAULT=point, SEARCH_WORKERS="1") == straight["random"]
    )


def test_killed_at_a_random_moment(tmp_path, straight):
    process = begin(tmp_path, "halving")
    time.sleep(random.Random(0).uniform(0.8, 3.5))
    process.kill()
    process.communicate(timeout=600)
    resumed(tmp_path, "halving", straight)
