"""A whole run of a thumbnail model on a data set on disk: one class an image, chosen classes, and
several classes an image.
"""

import json
import shutil

import filelock
import numpy as np
import pandas
import pytest
from PIL import Image

from lib import apply, runs
from lib.baselines import data, estimators, finalise, model, plots, search
from lib.data import dataset as datasets
from lib.data import decode, intake, manifest, sources, splits
from lib.evaluation import comparison, predictions

# Every poster is bright or dark, and green or not: "light" says the first, "green" the second, and
# some are neither.
COLOURS = {
    "light": (190, 190, 190),
    "green|light": (150, 240, 150),
    "green": (40, 110, 40),
    "": (50, 50, 50),
}


def hash_of(path):
    return decode.pixel_hash(decode.decode(path.read_bytes()).pixels)


@pytest.fixture
def films(tmp_path, monkeypatch):
    """160 posters of 9 × 6 pixels with a table of their genres; the label is the first genre."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    folder, rng = tmp_path / "films", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(160):
        genres = list(COLOURS)[number % 4]
        pixels = np.clip(rng.normal(COLOURS[genres], 25, (9, 6, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:03}.png")
        rows.append(
            {
                "image": f"{number:03}.png",
                "genres": genres,
                "kind": ("noir", "day", "wood", "night")[number % 4],
            }
        )
    pandas.DataFrame(rows).to_csv(folder / "films.csv", index=False)
    there = intake.bring(str(folder), options={"label": "kind"})
    told = sources.rows(there)
    frame = pandas.DataFrame({name: [None] * len(told) for name in manifest.COLUMNS})
    frame = frame.assign(
        path=told["path"],
        label=told["label"],
        sha256=told["path"],
        pixels=[hash_of(there.raw / path) for path in told["path"]],
        bytes=1,
        format="PNG",
        width=6,
        height=9,
        mode="RGB",
        verdict="keep",
        group=range(len(told)),
        reasons=[[] for _ in range(len(told))],
        attr_genres=told["attr_genres"],
    )
    manifest.write(there.folder, frame)
    return datasets.load("films")


def whole(
    films, target: str, kind: str, wished: dict, unit: str = "arm-s0"
) -> tuple[dict, runs.Run]:
    """What 5_thumbnails does."""
    folder = datasets.paths.run("study", "thumbnails", unit)
    folder.mkdir(parents=True)
    checkpoint, lock = (
        datasets.paths.checkpoint("study", "thumbnails", unit),
        filelock.FileLock(folder / "lock"),
    )
    run = runs.Run(
        folder, checkpoint, {"arm": unit[:-3], "seed": 0}, {}, "thumbnails", "films", False, lock
    )
    thumbs = data.load(films, target=target, fractions=(0.5, 0.25, 0.25))
    found = search.run(
        kind,
        estimators.parameter_grid(kind, wished),
        [(3, 2)],
        thumbs,
        log=search.ResultLog(folder),
        jobs=1,
    )
    fit, made = finalise.fit_best(found, thumbs, seed=0)
    scored = finalise.score(made, thumbs, run=run)
    result = finalise.finish(made, fit, found, thumbs, scored, run=run)
    assert plots.thumbnails(thumbs, (3, 2)).alt.startswith(
        "Train images at 3 × 2 pixels: 18 numbers each"
    )
    return result, run


def test_several_classes_per_image_have_metrics_of_their_own(films, tmp_path):
    result, run = whole(films, "attr_genres/all", "logistic", {"C": [0.1, 1.0]})
    assert result["class_names"] == ["green", "light"]
    numbers = result["metrics"]
    assert numbers["exact_match"] > 0.9 and numbers["macro_f1"] > 0.9
    assert numbers["macro_f1_low"] <= numbers["macro_f1"] <= numbers["macro_f1_high"]
    table_ = predictions.read(run.folder / "predictions.parquet")
    assert table_.kind == "multilabel"
    trained = (
        table_.frame[table_.frame["split"] == "train"]["label"].explode().value_counts().to_dict()
    )
    assert result["split_counts"]["train"] == trained  # an image of two classes counts for both
    division = {"target": "attr_genres/all", "fractions": (0.5, 0.25, 0.25)}
    split = splits.ensure(films, **division)  # the one that networks are tested by
    assert (result["split"], result["data_hash"]) == (split.id, split.data_hash())
    both = table_.frame[[len(names) == 2 for names in table_.frame["label"]]]
    assert len(both) == 40 and (both[["p_green", "p_light"]] >= 0.5).all(axis=1).mean() > 0.8
    told = finalise.sentence(result)
    assert "test exact match 100.0 %" in told and "has been read once, over all studies" in told
    classifier = apply.load("study/thumbnails/arm-s0")
    assert classifier.multilabel and classifier.class_thresholds == table_.label_thresholds
    shutil.copytree(run.checkpoint_folder, tmp_path / "elsewhere")
    alone = apply.load(tmp_path / "elsewhere" / "model.thumbnail")
    assert alone.class_thresholds == classifier.class_thresholds
    assert alone.known is None and alone.threshold(0.99) is None


def test_chosen_classes_and_the_rule_for_several_take_part_alone(films):
    result, run = whole(films, "label=noir|day", "least_squares", {"alpha": [1.0]})
    assert result["split_counts"]["train"] == {"day": 20, "noir": 20}
    assert len(pandas.read_parquet(run.folder / "predictions.parquet")) == 80
    rarest, _ = whole(
        films, "attr_genres/first", "least_squares", {"alpha": [1.0]}, unit="first-s0"
    )
    assert rarest["split_counts"]["train"] == {"green": 40, "light": 20}


def test_a_run_leaves_what_comparison_and_apply_read(films, tmp_path):
    result, run = whole(films, "label", "svm_linear", {"C": [0.01, 0.1, 1.0]})
    assert {each["check"]: each["outcome"] for each in result["audit"]}[
        "test_access_recorded"
    ] == "held"
    assert result["test_openings"] == 1
    assert result["num_trials"] == 3
    compared = comparison.comparison([run.folder])
    assert compared.table["accuracy"].iloc[0] == pytest.approx(result["metrics"]["accuracy"])
    classifier = apply.load("study/thumbnails/arm-s0")
    assert classifier.size == (3, 2)
    path = films.raw / "images" / "000.png"
    answer = classifier.predict([path], accuracy=0.5).iloc[0]
    assert answer.label == "noir"
    stored = predictions.read(run.folder / "predictions.parquet").frame.set_index("path")
    again = model.load(run.checkpoint_folder / "model.thumbnail")
    thumbs = data.load(films, fractions=(0.5, 0.25, 0.25))
    for split in ("train", "test"):
        stated = again.predict_proba(thumbs.images(split, (3, 2)))
        columns = [f"p_{name}" for name in again.class_names]
        assert np.allclose(stored.loc[thumbs.paths(split), columns], stated, atol=1e-6)


def test_a_network_leaves_its_losses(films):
    wished = {"hidden_layers": [[6]], "epochs": [4, 8], "batch_size": [16], "learning_rate": [0.01]}
    result, run = whole(films, "label=noir|day", "mlp", wished)
    history = pandas.read_csv(run.folder / "history.csv")
    kept = json.loads((run.folder / "result.json").read_text())["kept_epoch"]
    assert list(history.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert len(history) == kept == result["settings"]["epochs"]
    assert history["val_accuracy"].iloc[-1] == pytest.approx(
        result["metrics"]["val_accuracy"], abs=1e-6
    )
    assert list(run.folder.glob("events.out*"))
