"""What a comparison says of probabilities and of disagreement, by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data.dataset import Dataset
from lib.errors import DarkroomError
from lib.evaluation import arm_agreement, comparison, metrics, predictions
from lib.reporting import comparison_page

CLASSES = ("ape", "bee")


def make_run(folder, arm, *, val, test, kind="probability"):
    """A run of two classes: `val` and `test` hold (true class, probability of ape) for each image."""
    rows = [*val, *test]
    frame = predictions.table(
        [f"{number:02}.png" for number in range(len(rows))],
        splits=["val"] * len(val) + ["test"] * len(test),
        labels=[label for label, _ in rows],
        groups=range(len(rows)),
        probabilities=np.array([[share, 1 - share] for _, share in rows]),
        class_names=CLASSES,
    )
    place = folder / "train" / f"{arm}-s0"
    place.mkdir(parents=True)
    predictions.write(
        place / "predictions.parquet",
        frame,
        {"class_names": CLASSES, "data_hash": "h", "kind": kind},
    )
    (place / "result.json").write_text(json.dumps({"arm": arm, "seed": 0}))
    return place


VAL = [("ape", 0.8)] * 8 + [("bee", 0.8)] * 2  # right as often as it says: the temperature is 1


def test_calibration_of_an_arm_by_hand(tmp_path):
    found = comparison.comparison(
        [make_run(tmp_path, "a", val=VAL, test=[("ape", 0.8)] * 3 + [("bee", 0.8)])]
    )
    row = arm_agreement.selective_prediction(found, target_accuracy=0.4).loc["a"]
    assert row["temperature"] == pytest.approx(1, abs=1e-3)
    assert row["calibration_error"] == pytest.approx(0.05)  # says 0.80, is right in 0.75
    assert (row["coverage"], row["accuracy"]) == (1, 0.75)
    assert np.isnan(
        arm_agreement.selective_prediction(found, target_accuracy=0.95).loc["a", "coverage"]
    )
    assert (
        arm_agreement.selective_prediction_text(arm_agreement.selective_prediction(found)).loc[
            "a", "calibration error"
        ]
        == "5.0 %"
    )
    drawn = comparison_page.calibration_drawings(found)
    assert drawn["reliability"].alt.startswith("Reliability: on average ")
    assert drawn["coverage"].alt.endswith(
        "a 75.0 % of the surest half, 75.0 % of all"
    )  # all equally sure: answered together


def test_a_temperature_that_raises_the_error_is_said_under_the_table():
    rows = pd.DataFrame({"num_raised": [0.0, 2.0]}, index=["a", "b"])
    assert arm_agreement.raised_text(rows) == (
        "On test, the temperature chosen on validation increases the calibration error of b (2 "
        "trainings)."
    )
    assert arm_agreement.raised_text(rows.iloc[:1]) == ""


def test_arms_without_probabilities_are_left_out(tmp_path):
    found = comparison.comparison([make_run(tmp_path, "a", val=VAL, test=VAL, kind="score")])
    assert comparison_page.calibration_drawings(found) == {}
    assert arm_agreement.selective_prediction_text(arm_agreement.selective_prediction(found)).empty


def test_where_two_arms_disagree_the_surest_contradiction_comes_first(tmp_path):
    truth = ("ape", "ape", "bee", "bee")
    runs = [
        make_run(tmp_path, arm, val=VAL, test=list(zip(truth, shares, strict=True)))
        for arm, shares in {"a": (0.9, 0.6, 0.8, 0.4), "b": (0.9, 0.3, 0.05, 0.2)}.items()
    ]
    found = comparison.comparison(runs)
    table = arm_agreement.images(found)
    assert table["path"].tolist() == ["12.png", "11.png"]  # 0.95 against 0.8, then 0.7 against 0.6
    assert table["a"].tolist() == ["ape", "ape"]
    assert table["b"].tolist() == ["bee", "bee"]
    assert arm_agreement.sentence(found).endswith(
        "all arms are right on 2 of 4 test images, none on 0; on 2 they differ."
    )
    assert arm_agreement.images(comparison.comparison(runs[:1])).empty


def test_only_the_arms_that_were_asked_for_are_compared(tmp_path):
    runs = [make_run(tmp_path, arm, val=VAL, test=VAL) for arm in ("first", "second", "third")]
    assert set(comparison.comparison(runs, only=["first", "third"]).arms) == {"first", "third"}
    with pytest.raises(DarkroomError, match="Received: 'secnd'. Did you mean 'second'"):
        comparison.comparison(runs, only=["secnd"])


def test_weighted_kappas_over_an_arm_know_the_order(tmp_path):
    names = ("far", "middle", "near")
    truth = np.repeat([0, 1, 2], 20)
    said = np.where(
        np.arange(60) % 4 == 0, np.clip(truth + np.where(truth == 2, -1, 1), 0, 2), truth
    )  # a quarter one step off
    frame = predictions.table(
        [f"{number:02}.png" for number in range(60)],
        splits=["test"] * 60,
        labels=[names[place] for place in truth],
        groups=range(60),
        probabilities=np.eye(3)[said],
        class_names=names,
    )
    (tmp_path / "a-s0").mkdir()
    predictions.write(
        tmp_path / "a-s0" / "predictions.parquet", frame, {"class_names": names, "data_hash": "h"}
    )
    (tmp_path / "a-s0" / "result.json").write_text("{}")
    found = comparison.comparison([tmp_path / "a-s0"])
    table = arm_agreement.weighted_kappa(found, ["near", "middle", "far"]).loc["a"]
    part = found.runs[0].predictions.split("test")
    for weights in ("linear", "quadratic"):
        ordered = metrics.confusion(part)[::-1, ::-1]
        assert table.loc[weights, "kappa"] == metrics.kappa(ordered, weights=weights)
    assert table.loc["unweighted", "kappa"] == pytest.approx(
        0.625
    )  # 0.75 right, margins 1/3, 5/12 and 1/4 against thirds
    assert table["kappa"].is_monotonic_increasing
    assert (table["low"] < table["kappa"]).all() and (table["kappa"] < table["high"]).all()
    assert table.loc["unweighted", "agreement"].startswith("substantial (")
    with pytest.raises(DarkroomError, match="name every class once"):
        arm_agreement.weighted_kappa(found, ["near", "far"])


def test_the_pictures_behind_a_comparison(tmp_path):
    runs = [
        make_run(tmp_path, arm, val=VAL, test=list(zip(("ape", "ape", "bee"), shares, strict=True)))
        for arm, shares in {"a": (0.9, 0.6, 0.8), "b": (0.9, 0.3, 0.05)}.items()
    ]
    for name in ("10.png", "12.png"):  # 11.png has gone
        Image.new("RGB", (30, 20), "teal").save(tmp_path / name)
    found, dataset = comparison.comparison(runs), Dataset("here", tmp_path, tmp_path)
    assert comparison_page.disputed(found, dataset).alt.endswith(
        "1 images. The first: bee, → ape / bee."
    )
    assert "bee, not ape, right in 1 of 2" in comparison_page.hardest(found, dataset).alt
    assert (
        comparison_page.disputed(comparison.comparison(runs[:1]), dataset).alt
        == "Where arms disagree: none."
    )
