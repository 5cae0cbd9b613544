"""Slices: intervals against scikit-learn and closed forms, the worst group by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from lib.evaluation import calibration, slices, statistics
from lib.evaluation.predictions import Predictions, table


def drawn(num=300, seed=0, groups=None):
    generator = np.random.default_rng(seed)
    truth = generator.integers(3, size=num)
    logits = generator.normal(size=(num, 3)) + 1.5 * np.eye(3)[truth]
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = table(
        [f"{index:04d}" for index in range(num)],
        splits=["test"] * num,
        labels=np.array(["a", "b", "c"])[truth],
        groups=np.arange(num) if groups is None else groups,
        probabilities=values,
        class_names=["a", "b", "c"],
    )
    return Predictions(frame, ("a", "b", "c"))


def test_recall_and_precision_have_wilsons_interval():
    part = drawn()
    found = slices.by_class(part)
    for place, name in enumerate(part.class_names):
        truth, predicted = part.truth == place, part.predicted == place
        hits = int((truth & predicted).sum())
        expected = statistics.wilson(hits, int(truth.sum()))
        ends = tuple(found.loc[name, ["recall_low", "recall_high"]])
        assert ends == pytest.approx(expected, abs=1e-12)
        expected = statistics.wilson(hits, int(predicted.sum()))
        ends = tuple(found.loc[name, ["precision_low", "precision_high"]])
        assert ends == pytest.approx(expected, abs=1e-12)
        for metric in ("f1", "roc_auc", "average_precision"):
            row = found.loc[name]
            assert row[f"{metric}_low"] < row[metric] < row[f"{metric}_high"]


def test_areas_are_scikit_learns_and_their_influences_the_derivatives():
    generator = np.random.default_rng(1)
    scores = generator.integers(20, size=80) / 20  # with ties
    truth = generator.random(80) < 0.2 + 0.6 * scores
    for name, function in (
        ("roc_auc", roc_auc_score),
        ("average_precision", average_precision_score),
    ):
        value, slopes = slices.ranking_influences(scores, truth)[name]
        assert value == pytest.approx(function(truth, scores), abs=1e-12)
        assert slopes.sum() == pytest.approx(0, abs=1e-12)
        for place in (0, 7, 33, 79):
            up, down = (
                function(truth, scores, sample_weight=1 + step * (np.arange(80) == place))
                for step in (1e-5, -1e-5)
            )
            assert slopes[place] == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_scores_have_intervals_that_hold_their_value():
    found = slices.scores(drawn())
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert found.loc["log_loss", "value"] == pytest.approx(calibration.log_loss(drawn()))
    assert found.loc["brier", "value"] == pytest.approx(calibration.brier(drawn()))


def test_the_interval_of_the_calibration_error_holds_the_truth():
    generator, held = np.random.default_rng(0), 0
    for _ in range(100):
        stated = generator.uniform(0.5, 1, size=400)
        truth = generator.random(400) < stated - 0.05  # too sure by five points everywhere
        frame = table(
            [f"{place:03}" for place in range(400)],
            splits=["test"] * 400,
            labels=np.where(truth, "a", "b"),
            groups=range(400),
            probabilities=np.column_stack([stated, 1 - stated]),
            class_names=("a", "b"),
        )
        row = slices.scores(Predictions(frame, ("a", "b"))).loc["calibration_error"]
        held += row["low"] <= 0.05 <= row["high"]
    assert held >= 90


def test_scores_of_several_labels_by_hand():
    frame = table(
        ["1", "2"],
        splits=["test"] * 2,
        labels=[["a"], ["a", "b"]],
        groups=[0, 1],
        probabilities=np.array([[0.8, 0.4], [0.5, 0.25]]),
        class_names=["a", "b"],
    )
    found = slices.scores(Predictions(frame, ("a", "b"), kind="multilabel"))
    expected = -(np.log(0.8) + np.log(0.6) + np.log(0.5) + np.log(0.25)) / 4
    assert found.loc["log_loss", "value"] == pytest.approx(expected)
    squares = (0.2**2 + 0.4**2, 0.5**2 + 0.75**2)
    assert found.loc["brier", "value"] == pytest.approx(np.mean(squares))


def test_the_worst_slice_is_named():
    part = drawn(400)
    right = part.predicted == part.truth
    site = np.where(right, "north", "south").astype(object)
    site[:40] = "north"
    values = pd.DataFrame({"attr_site": site, "side": np.arange(400)}, index=part.frame["path"])
    found = slices.by_column(part, values)
    assert found.loc[0, ["column", "value"]].tolist() == ["attr_site", "south"]
    assert found.loc[0, "is_worse"] and found["num"].min() >= slices.LEAST
    assert "Worst of 6 slices: site south, accuracy 0.0 %" in slices.sentence(found, part)
    assert "significantly below the others" in slices.sentence(found, part)
    assert slices.by_column(part, values[[]]).empty


def test_values_with_decimals_have_three_digits():
    assert slices._short("0.6666666666666666") == "0.667"
    assert [slices._short(value) for value in ("1999", "v1.2", "south")] == [
        "1999",
        "v1.2",
        "south",
    ]


def test_images_without_a_number_are_in_no_quarter():
    values = pd.Series([*map(float, range(1900, 2000)), None, None])
    groups = slices._groups(values)
    assert len(groups) == 4 and groups[0][0] == "1900 to 1925"
    assert sum(rows.sum() for _, rows in groups) == 100
