import json

import keras
import pytest

from lib import notebooks
from lib.errors import DarkroomError
from lib.training import precision

PARAMETERS = notebooks.find("3_train").defaults() | {"filters": [2], "batch_size": 4}


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """A machine whose step times are given, and a list of what was timed."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    times, asked = {"float32": 10.0, "mixed_bfloat16": 5.0}, []

    def steps(model, optimizer, **size):
        policy = keras.config.dtype_policy().name
        asked.append(policy)
        return {"predict_ms": 10.0, "train_ms": times[policy]}

    monkeypatch.setattr(precision.timing, "steps", steps)
    return times, asked


def test_the_faster_arithmetic_is_chosen_and_remembered(timed, tmp_path):
    _, asked = timed
    found = precision.choose(PARAMETERS, image_side=16)
    assert found == {
        "dtype_policy": "mixed_bfloat16",
        "milliseconds_a_step": {"float32": 10.0, "mixed_bfloat16": 5.0},
    }
    assert precision.choose(PARAMETERS, image_side=16) == found
    assert asked == ["float32", "mixed_bfloat16"]  # once each
    assert keras.config.dtype_policy().name == "float32"
    assert len(json.loads((tmp_path / "checkpoints" / ".precision.json").read_text())) == 1


def test_a_gain_within_the_noise_keeps_float32(timed):
    times, _ = timed
    times["mixed_bfloat16"] = 9.5
    assert precision.choose(PARAMETERS, image_side=16)["dtype_policy"] == "float32"


def test_another_network_side_or_step_is_timed_again(timed):
    _, asked = timed
    for changes, side in (
        ({}, 16),
        ({"filters": [3]}, 16),
        ({"batch_size": 8}, 16),
        ({}, 24),
        ({"strategy": "frozen"}, 16),
    ):
        precision.choose(PARAMETERS | changes, image_side=side)
    assert len(asked) == 10


def test_features_alone_are_judged_by_predicting(timed):
    assert (
        precision.choose(PARAMETERS | {"strategy": "frozen"}, image_side=16)["dtype_policy"]
        == "float32"
    )


def test_a_real_step_is_timed_in_both_arithmetics(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    found = precision.choose(
        PARAMETERS | {"loss": "binary_focal", "normalization": "zscore"}, image_side=16
    )
    assert all(value > 0 for value in found["milliseconds_a_step"].values())


def test_an_unknown_policy_is_refused():
    with pytest.raises(
        DarkroomError,
        match="one of float32, mixed_bfloat16, auto. Received: 'bfloat16'.*Did you mean",
    ):
        precision.check("bfloat16")
