import math

import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.tuning import space

TABLE = {
    "optimizer": ["adam", "sgd"],
    "momentum": {"low": 0.5, "high": 0.9, "step": 0.2, "when": {"optimizer": "sgd"}},
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "batch_size": [16, 32, 64, 128],
    "dense_units": [[64], [64, 64]],
    "blocks": {"low": 2, "high": 4},
}


@pytest.fixture
def whole():
    return space.read(TABLE)


def test_a_space_is_read_and_written_back_the_same(whole):
    assert whole.names == [
        "optimizer",
        "learning_rate",
        "batch_size",
        "dense_units",
        "blocks",
        "momentum",
    ]  # parents first
    assert [key.kind for key in whole.hyperparameters] == [
        "choice",
        "float",
        "choice",
        "choice",
        "int",
        "float",
    ]
    assert space.read(whole.spec()) == whole


def test_a_key_whose_condition_does_not_hold_is_not_in_a_trial(whole):
    rng = np.random.default_rng(0)
    drawn = [whole.sample(rng) for _ in range(200)]
    assert all(("momentum" in values) == (values["optimizer"] == "sgd") for values in drawn)
    assert {values["momentum"] for values in drawn if "momentum" in values} == {0.5, 0.7, 0.9}
    assert {type(values["blocks"]) for values in drawn} == {int}
    logs = [math.log10(values["learning_rate"]) for values in drawn]
    assert (
        min(logs) >= -4 and max(logs) <= -1 and abs(np.mean(logs) + 2.5) < 0.2
    )  # even on the scale


def test_the_grid_holds_every_combination_once():
    small = space.read(
        {
            "optimizer": ["adam", "sgd"],
            "momentum": {**TABLE["momentum"]},
            "blocks": {"low": 2, "high": 4},
        }
    )
    cells = [tuple(sorted(cell.items())) for cell in small.grid()]
    assert len(cells) == len(set(cells)) == small.size() == (1 + 3) * 3
    assert space.read(TABLE).size() == math.inf
    assert list(space.read({"x": {"low": 0.01, "high": 1.0, "log": True}}).grid(3)) == [
        {"x": 0.01},
        {"x": 0.1},
        {"x": 1.0},
    ]
    with pytest.raises(DarkroomError, match="`x` is a range without a `step`"):
        list(space.read({"x": {"low": 0.0, "high": 1.0}}).grid())


def test_a_value_at_an_end_of_its_range_is_flagged(whole):
    values = {
        "optimizer": "sgd",
        "momentum": 0.7,
        "learning_rate": 0.099,
        "batch_size": 16,
        "blocks": 3,
        "dense_units": [64],
    }
    assert whole.at_edge(values) == {
        "learning_rate": "highest",
        "batch_size": "lowest",
    }  # a choice without order has no end
    assert whole.at_edge({**values, "learning_rate": 1e-2, "batch_size": 32, "blocks": 4}) == {
        "blocks": "highest"
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "the space is empty"),
        ({"a": 3}, "`a` of the space must be a list of choices, or a range"),
        ({"a": [1]}, "two or more different choices"),
        ({"a": [1, 1]}, "two or more different choices"),
        ({"a": {"low": 2, "high": 1}}, "from `low` to a higher `high`"),
        ({"a": {"low": 0.0, "high": 1.0, "log": True}}, "`low` above 0"),
        (
            {"a": {"low": 1, "high": 3, "stp": 1}},
            "`option` must be .*Received: 'stp'. Did you mean 'step'",
        ),
        ({"a": {"low": 1, "high": 3, "step": 5}}, "must be above 0 and fit into the range"),
        (
            {"a": {"low": 1, "high": 3, "when": {"b": 1}}},
            "depends on `b`, which is not a choice of the space",
        ),
        (
            {"a": {"low": 1, "high": 3, "when": {"b": 1}}, "b": [2, 3]},
            "depends on b = 1, which is not among",
        ),
        (
            {
                "a": {"choices": [1, 2], "when": {"b": 2}},
                "b": {"choices": [2, 3], "when": {"a": 1}},
            },
            "form a circle",
        ),
        (
            {"a": [1, 2], "b": {"low": 1, "high": 2, "when": 3}},
            "`when` of `b` of the space must be a table",
        ),
    ],
)
def test_what_is_no_space_is_refused_with_a_cure(table, message):
    with pytest.raises(DarkroomError, match=message):
        space.read(table)
