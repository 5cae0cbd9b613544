"""Images of several classes: split, batches, network, thresholds."""

import numpy as np
import pandas as pd
import pytest

from lib.data import batches, splits, targets
from lib.data.pixel_cache import Pixels
from lib.errors import DarkroomError
from lib.evaluation import multilabel
from lib.evaluation.predictions import Predictions, table
from lib.training import network


def test_iterative_stratification_gives_every_split_its_share_of_every_label():
    rng = np.random.default_rng(0)
    labels = pd.Series(
        [sorted({"drama", *rng.choice(["action", "horror", "war"], rng.integers(0, 3))})
         for _ in range(400)]
    )  # fmt: skip
    groups = pd.Series(np.arange(400) // 2)
    shares = {"train": 0.6, "val": 0.15, "test": 0.25}
    chosen = splits._fill(labels, groups, shares=shares, rng=np.random.default_rng(1))
    assert (chosen.groupby(groups).nunique() == 1).all()  # groups stay together
    rows = pd.DataFrame({"label": labels, "split": chosen}).explode("label")
    counts = pd.crosstab(rows["label"], rows["split"], normalize="index")
    assert (counts[list(shares)] - pd.Series(shares)).abs().max().max() < 0.03
    again = splits._fill(labels, groups, shares=shares, rng=np.random.default_rng(1))
    assert chosen.equals(again)


def test_examples_hold_one_column_a_class():
    paths = ["a", "b", "c"]
    pixels = Pixels(np.zeros((3, 4, 4, 3), np.uint8), pd.Series(range(3), index=paths), "key")
    frame = pd.DataFrame({"path": paths, "label": [["x", "z"], [], ["y"]], "split": ["train"] * 3})
    found = batches.examples(pixels, frame, ["x", "y", "z"])
    assert found.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert found.labels.dtype == np.float32


def test_a_target_of_all_classes_needs_a_binary_loss():
    assert targets.parse("attr_genres/all").rule == "all"
    head = network._head("binary_cross_entropy", "attr_genres/all", ["a", "b", "c"])
    assert head == {"head": "multilabel"}
    with pytest.raises(DarkroomError, match="binary loss.*Received: loss = 'cross_entropy'"):
        network._head("cross_entropy", "attr_genres/all", ["a", "b"])


def test_thresholds_are_chosen_on_validation_by_hand():
    """Class a: 0.9 and 0.4 are present, 0.3 and 0.1 not, so the best threshold is 0.35."""
    shares = np.array([[0.9, 0.2], [0.4, 0.2], [0.3, 0.2], [0.1, 0.2]])
    frame = table(
        list("1234"),
        splits=["val"] * 4,
        labels=[["a"], ["a"], [], []],
        groups=range(4),
        class_names=("a", "b"),
        probabilities=shares,
    )
    val = Predictions(frame, ("a", "b"), kind="multilabel").split("val")
    assert multilabel.class_thresholds(val) == {"a": pytest.approx(0.35), "b": 0.5}
    numbers = multilabel.at_thresholds(val, {"a": 0.35, "b": 0.5})
    assert numbers["tuned_exact_match"] == 1 and numbers["tuned_hamming_loss"] == 0
    # At 0.5 one of two images of class a is missed: agreement 3/4, chance 1/2 · 1/4 + 1/2 · 3/4.
    kappa = multilabel.per_class(val)["kappa"]
    assert kappa["a"] == pytest.approx((0.75 - 0.5) / 0.5) and np.isnan(kappa["b"])
