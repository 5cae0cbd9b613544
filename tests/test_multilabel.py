"""Images of several classes: split, batches, network, thresholds."""

import numpy as np
import pandas as pd
import pytest

from lib.data import batches, splits, targets
from lib.data.pixel_cache import Pixels
from lib.errors import DarkroomError
from lib.evaluation import metrics, multilabel
from lib.evaluation.predictions import Predictions, table
from lib.reporting import dataset_figures
from lib.training import network, plots


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
    shares = np.array([[0.9, 0.2], [0.4, 0.2], [0.3, 0.2], [0.1, 0.2], [0.36, 0.6], [0.34, 0.4]])
    frame = table(
        list("123456"),
        splits=["val"] * 4 + ["test"] * 2,
        labels=[["a"], ["a"], [], [], ["b"], ["b"]],
        groups=range(6),
        class_names=("a", "b"),
        probabilities=shares,
    )
    whole = Predictions(frame, ("a", "b"), kind="multilabel")
    val, test = whole.split("val"), whole.split("test")
    assert val.label_thresholds == test.label_thresholds == (pytest.approx(0.35), 0.5)
    assert test.present.tolist() == [[True, True], [False, False]]
    assert metrics.summary(whole, "val")["exact_match"] == 1
    assert metrics.summary(whole, "test")["micro_f1"] == pytest.approx(0.5)
    # The first image is named a and b, one of them rightly: agreement 1/2, as by chance.
    kappa = multilabel.per_class(test)["kappa"]
    assert kappa["a"] == 0 and kappa["b"] == 0


def test_a_data_set_of_several_classes_an_image_is_shown():
    frame = pd.DataFrame(
        {
            "path": list("abcd"),
            "label": [["x", "y"], ["x"], ["x", "y"], ["y"]],
            "split": ["train", "train", "test", "test"],
        }
    )
    split = splits.Split("id", "grouped", "attr_genres/all", frame, ["x", "y"])
    shown = dataset_figures.class_table(split)
    assert shown.loc["x", ["images", "train share", "test share"]].tolist() == [3, 1.0, 0.5]
    assert shown.loc["all", ["images", "train", "test share"]].tolist() == [4, 2, 1.0]
    assert dataset_figures.baseline(split).loc["x"].tolist() == [0.5, 0.6667]  # 2 · 1 / (1 + 2)


def test_images_are_drawn_with_the_labels_that_they_have_and_get(tmp_path, monkeypatch):
    monkeypatch.setattr(plots.thumbnails, "of", lambda *_: np.zeros((96, 96, 3), np.uint8))
    frame = table(
        list("abc"),
        splits=["test"] * 3,
        labels=[["x", "y"], ["x"], []],
        groups=range(3),
        class_names=("x", "y"),
        probabilities=np.array([[0.9, 0.8], [0.2, 0.1], [0.3, 0.4]]),
    )
    test = Predictions(frame, ("x", "y"), kind="multilabel").split("test")
    hardest = plots.hardest(test, None, num=2)
    assert hardest.alt.endswith("The first: x, → none; none, → none.")
    assert "1 of 2 are right" in hardest.alt
    assert "(2 of 2)" in plots.random_of_each_class(test, None).alt
