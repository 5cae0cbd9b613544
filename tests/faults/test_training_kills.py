"""A training that is killed, wherever and however often, ends with the same weights, history and
predictions, bit for bit.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "killed_training.py"
FILES = (
    "generation-00001",
    "generation-00002",
    "generation-00004",
    "history.csv",
    "progress.json",
    "model.keras",
    "model.md",
    "outcome.npz",
)
POINTS = [f"{file}:{moment}" for file in FILES for moment in ("written", "renamed")]
POINTS += [
    f"{file}:{moment}#4"
    for file in ("history.csv", "progress.json")
    for moment in ("written", "renamed")
]


def outcome(folder, *deaths, strategy="scratch", backend="tensorflow"):
    folder.mkdir()
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_NUM_INTRAOP_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), strategy, *deaths],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ends = [
        int(end)
        for line in done.stdout.splitlines()
        if line.startswith("ends")
        for end in line.split()[1:]
    ]
    with np.load(folder / "outcome.npz") as stored:
        return dict(stored), ends, done.stdout


def same(one, other):
    return all(
        np.array_equal(one[name], other[name]) for name in ("weights", "history", "probabilities")
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a training that nobody disturbs comes to, each backend and strategy once."""
    known = {}

    def find(**which):
        key = tuple(sorted(which.items()))
        if key not in known:
            known[key] = outcome(tmp_path_factory.mktemp("undisturbed") / "o", **which)[0]
        return known[key]

    return find


def test_killed_four_times_in_a_row(undisturbed, tmp_path):
    """The short form: in a first write, between two generations, at a moment by the clock, and at
    the very end.
    """
    found, ends, told = outcome(
        tmp_path / "k",
        "generation-00001:written",
        "generation-00003:renamed",
        "1.5",
        "model.keras:written",
    )
    assert ends[:2] == [-9, -9] and ends[3] in (-9, 0)
    assert "Going on after epoch 3 of 6" in told
    assert same(found, undisturbed())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(undisturbed, tmp_path, point, backend):
    found, ends, _ = outcome(tmp_path / "k", point, backend=backend)
    assert ends == [-9]
    assert same(found, undisturbed(backend=backend))


@pytest.mark.slow
@pytest.mark.parametrize(
    "death", ["generation-00010:renamed", "generation-00030:written", "history.csv:renamed#33", "9"]
)
def test_killed_in_either_phase_of_fine_tuning(undisturbed, tmp_path, death):
    assert same(
        outcome(tmp_path / "k", death, strategy="fine_tune")[0], undisturbed(strategy="fine_tune")
    )


@pytest.mark.slow
def test_killed_in_full_fine_tuning_where_batch_normalisation_learns(undisturbed, tmp_path):
    # The head's thirty epochs come first, so the second time that a second generation is written is
    # in the main phase.
    deaths = "generation-00002:written#2", "generation-00004:renamed"
    found, ends, told = outcome(tmp_path / "k", *deaths, strategy="full")
    assert ends == [-9, -9] and "Going on after epoch 4 of 6" in told
    assert same(found, undisturbed(strategy="full"))
