"""In a process that trains many networks nothing of one training reaches the next."""

import dataclasses

import filelock
import numpy as np
import pytest

from lib import runs
from lib.training import model_reuse
from lib.training.fit import fit
from lib.training.settings import Settings

FIRST = Settings(epochs=3, batch_size=8, learning_rate=0.01, augmentation="gentle", seed=5)
OTHERS = [
    dataclasses.replace(FIRST, learning_rate=0.003, batch_size=6, seed=9, class_weights="balanced"),
    dataclasses.replace(FIRST, schedule="plateau", plateau_patience=1, decay_factor=0.5),
    dataclasses.replace(FIRST, optimizer="sgd", schedule="cosine", weight_decay=0.01),
]


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    model_reuse._compiled.clear()


@pytest.fixture
def learn(toy_material, toy_network, tmp_path):
    """Fits a new network, and returns its weights and its history."""
    count = iter(range(100))

    def learn(settings, **changes):
        folder = tmp_path / str(next(count))
        folder.mkdir()
        run = runs.Run(
            folder, folder / "c", {}, {}, "tune", None, False, filelock.FileLock(folder / "lock")
        )
        model = toy_network(**{"batch_normalization": "block", "dropout": 0.3, **changes})
        found = fit(
            model,
            toy_material.examples("train"),
            toy_material.examples("val"),
            settings=settings,
            run=run,
        )
        return model.get_weights(), found.history.drop(columns="seconds")

    return learn


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one[0], other[0], strict=True)) and one[
        1
    ].equals(other[1])


def test_the_next_training_is_what_it_is_without_compiled_bit_for_bit(learn):
    alone = [learn(settings) for settings in OTHERS]
    with model_reuse.reusing():
        learn(FIRST)
        after = [learn(settings) for settings in OTHERS]
        assert (
            len(model_reuse._compiled) == 2
        )  # Adam at any constant rate, size of batch and seed; and SGD on a cosine
        again = learn(OTHERS[0])
    assert all(same(*pair) for pair in zip(alone, after, strict=True))
    assert same(again, alone[0]) and not same(after[0], after[1])


def test_what_a_traced_step_holds_as_a_constant_makes_another_twin(learn):
    with model_reuse.reusing():
        for settings, changes in [
            (FIRST, {}),
            (FIRST, {"dropout": 0.2}),
            (FIRST, {"filters": [5]}),
            (FIRST, {"activation": "elu"}),
            (dataclasses.replace(FIRST, loss="focal"), {}),
            (dataclasses.replace(FIRST, gradient_clip=0.5), {}),
        ]:
            learn(dataclasses.replace(settings, epochs=1), **changes)
    assert len(model_reuse._compiled) == 6


def test_only_a_few_small_ones_stay(learn, monkeypatch):
    monkeypatch.setattr(model_reuse, "MOST", 2)
    with model_reuse.reusing():
        for filters in (2, 3, 4):
            learn(dataclasses.replace(FIRST, epochs=1), filters=[filters])
        newest = list(model_reuse._compiled.values())
        assert [twin.get_layer("block1_conv").filters for twin in newest] == [3, 4]
        monkeypatch.setattr(model_reuse, "MOST_PARAMETERS", 1)
        learn(dataclasses.replace(FIRST, epochs=1), filters=[5])
    assert [twin.get_layer("block1_conv").filters for twin in model_reuse._compiled.values()] == [5]


def test_outside_of_a_search_a_network_learns_itself(learn):
    learn(dataclasses.replace(FIRST, epochs=1))
    assert not model_reuse._compiled
