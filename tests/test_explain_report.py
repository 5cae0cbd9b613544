import json

import numpy as np
import pandas as pd
import pytest

from lib.data.dataset import Dataset
from lib.data.pixel_cache import Pixels
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.evaluation.predictions import Predictions, table
from lib.explain import report
from lib.explain.report import GROUPS, ExplainedRun
from lib.models import build

SIDE = 12


@pytest.fixture(scope="module")
def subject():
    """Six test images of two classes; image 3 is confident and wrong, image 5 nearly undecided."""
    shares = np.array([0.9, 0.8, 0.7, 0.05, 0.2, 0.51])
    labels = ["cat", "cat", "cat", "cat", "dog", "dog"]
    paths = [f"{n}.png" for n in range(6)]
    about = {
        "splits": ["test"] * 6,
        "labels": labels,
        "groups": range(6),
        "class_names": ["cat", "dog"],
    }
    frame = table(paths, probabilities=np.stack([shares, 1 - shares], axis=1), **about)
    images = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    decoded = Pixels(images, pd.Series(range(6), index=paths), "key")
    # The model has its classes the other way round than the table, as a saved one may.
    model = build(
        "custom",
        class_names=["dog", "cat"],
        image_side=SIDE,
        weights="none",
        filters=(4, 6),
        pool_after=(1,),
    )
    return ExplainedRun("custom-s0", model, Predictions(frame, ("cat", "dog")), decoded)


def test_surely_right_surely_wrong_and_least_certain(subject):
    chosen = subject.select(2)
    rows = {group: list(part["row"]) for group, part in chosen.groupby("group")}
    assert rows == {GROUPS[0]: [0, 1], GROUPS[1]: [3, 5], GROUPS[2]: [2, 4]}
    wrong = chosen[chosen["row"] == 3].iloc[0]
    assert (wrong["label"], wrong["predicted"], round(wrong["confidence"], 2)) == (
        "cat",
        "dog",
        0.95,
    )
    assert subject.select(1)["row"].tolist() == [0, 3, 5]
    np.testing.assert_array_equal(subject.images([4, 1]), subject.pixels.array[[4, 1]])


def test_the_run_that_is_explained_is_of_this_data_and_names_one_class(
    tmp_path, monkeypatch, subject
):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    results = {
        "a-s0": {"data": "here", "metrics": {"val_accuracy": 0.5}},
        "b-s0": {"data": "there", "metrics": {"val_accuracy": 0.9}},
        "c-s0": {"data": "here", "metrics": {"val_accuracy": 0.8, "exact_match": 0.4}},
    }
    for unit, result in results.items():
        run = tmp_path / "logs" / "study" / "train" / unit
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps({**result, "key": {"parameters": {}}}))
        about = {"class_names": ["cat", "dog"], "data_hash": "h", "run": unit}
        predictions.write(run / "predictions.parquet", subject.predictions.frame, about)
    monkeypatch.setattr(report, "_load_model", lambda folder: subject.model)
    monkeypatch.setattr(report.pixel_cache, "cache", lambda dataset, **options: subject.pixels)
    here = Dataset("here", tmp_path, tmp_path / "raw")
    assert report.load_run("study", here).unit == "a-s0"
    with pytest.raises(
        DarkroomError, match="b-s0 was trained on the data set 'there'. Received: data = 'here'"
    ):
        report.load_run("study", here, unit="b-s0")
    assert report.load_run("study", here, unit="c-s0").unit == "c-s0"
    with pytest.raises(DarkroomError, match="no finished run on 'nowhere'"):
        report.load_run("study", Dataset("nowhere", tmp_path, tmp_path / "raw"))


def test_classes_are_found_by_name_not_by_place(subject):
    assert subject.model_classes(np.array([0, 1, 1])).tolist() == [1, 0, 0]


def test_a_plan_refuses_methods_that_there_are_not(subject):
    with pytest.raises(
        DarkroomError, match="`methods` must be one of gradcam.*Did you mean 'rise'"
    ):
        report.Explainer(subject, ["rice"])
    with pytest.raises(DarkroomError, match="`methods` must name at least one"):
        report.Explainer(subject, [])


def test_sentences_and_the_result_come_from_the_table(subject):
    ends = ("", "_gain", "_low", "_high", "_share")
    measures = {
        f"{measure}{end}": 0.0
        for measure in ("deletion", "insertion", "mu_fidelity")
        for end in ends
    }
    good = {
        **measures,
        "num_images": 4,
        "deletion_low": 0.1,
        "insertion_low": 0.2,
        "insertion": 0.9,
    }
    weak = {**measures, "num_images": 4, "insertion": 0.4}
    edges = {**measures, "num_images": 4, "insertion": 0.5}
    frame = pd.DataFrame(
        {"occlusion": good, "rise": weak, "random": {**measures, "num_images": 4}, "edges": edges}
    ).T
    told = report.sentence(frame)
    assert told.startswith("1 of 2 methods are significantly better than random maps")
    assert told.count("Occlusion") == 1
    assert told.endswith("By insertion no better than the edges of the image: RISE.")
    assert list(report.display_table(frame).index) == [
        "Occlusion",
        "RISE",
        "Random map",
        "Edges of the image",
    ]
    row = {"class": "cat", "region": "border", "turned": 0.9, "low": 0.8, "high": 0.95}
    found = pd.DataFrame([{**row, "suspected": True}])
    result = report.summary(subject, frame, pd.DataFrame({"stability": {"occlusion": 1.0}}), found)
    assert result["trusted"] == ["occlusion"] and result["metrics"]["num_suspected"] == 1
    assert result["shortcuts"] == [row]
