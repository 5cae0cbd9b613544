"""The heart of the suite on the other backend, on a machine where TensorFlow is not installed at
all.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHOSEN = (
    "test_training.py::test_a_training_that_was_killed_ends_with_the_same_weights",
    "test_heads.py",
)
WHOLE = (
    "test_training.py",
    "test_heads.py",
    "test_preprocessing.py",
    "test_saved.py",
    "test_predictor.py",
    "test_conditions.py",
    "test_transfer.py",
    "test_feature_cache.py",
    "test_tensorboard.py",
)


def jax_alone(names):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "DARKROOM_TEST_WITHOUT_TENSORFLOW": "1"}
    files = [str(Path(__file__).parent / name) for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.skipif("KERAS_BACKEND" in os.environ, reason="this run is on a chosen backend already")
@pytest.mark.parametrize(
    "names", [CHOSEN, pytest.param(WHOLE, marks=pytest.mark.slow)], ids=["short", "whole"]
)
def test_jax_alone_trains_saves_and_predicts(names):
    pytest.importorskip("jax")
    jax_alone(names)
