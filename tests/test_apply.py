"""A trained model on new pictures: labels, thresholds, copies, broken files, and the same answers
wherever it is asked.
"""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import cli, files
from lib.apply import Classifier, command, export, folder, load, report
from lib.apply import classifier as models
from lib.errors import DarkroomError
from lib.evaluation import calibration, predictions

COLOURS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (220, 30, 20)}
NAMES = tuple(COLOURS)
SIDE = 8


def picture(name: str, *, mixed: float = 0.0, form: str = "PNG") -> bytes:
    """One colour, mixed with grey."""
    colour = np.array(COLOURS[name]) * (1 - mixed) + 128 * mixed
    buffer = io.BytesIO()
    Image.fromarray(np.full((12, 16, 3), colour, np.uint8)).save(buffer, form)
    return buffer.getvalue()


def shares(pixels: np.ndarray) -> np.ndarray:
    """How much of an image is of each colour: a model whose answers one can compute."""
    mean = pixels.astype(np.float64).mean(axis=(1, 2))[:, ::-1]  # blue, green, red
    raised = np.exp(mean / 40)
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def known(*, right: float = 0.9, num: int = 1200) -> predictions.Predictions:
    """Half of the images have probability 0.95, of which `right` are right; the rest have 0.5, of
    which half are.
    """
    order = np.arange(num)
    sure = order % 2 == 0
    hit = np.where(sure, order % 20 < 20 * right, order % 4 == 1)
    top = np.where(sure, 0.95, 0.5)
    said = order % 3
    truth = np.where(hit, said, (said + 1) % 3)
    values = np.where(np.arange(3) == said[:, None], top[:, None], (1 - top[:, None]) / 2)
    frame = predictions.table(
        [f"{number:04}.png" for number in order],
        splits=[("val", "test")[number // 20 % 2] for number in order],
        labels=[NAMES[place] for place in truth],
        groups=order,
        probabilities=values,
        class_names=NAMES,
    )
    return predictions.Predictions(frame, NAMES, run="s/train/a-s0")


@pytest.fixture
def colours() -> Classifier:
    return Classifier("by hand", NAMES, (SIDE, SIDE), shares, known=known())


@pytest.fixture
def pile(tmp_path):
    """Six pictures in two folders, one cut off, one text, one of the same name in another folder."""
    place = tmp_path / "neue Bilder"
    (place / "später 写真").mkdir(parents=True)
    for name in COLOURS:
        (place / f"{name}.png").write_bytes(picture(name))
        (place / "später 写真" / f"{name}.png").write_bytes(picture(name, mixed=0.8))
    (place / "cut.png").write_bytes(picture("red")[:-20])
    (place / "notes.txt").write_text("no picture")
    return place


def test_a_threshold_is_the_lowest_probability_that_reaches_the_request(colours):
    assert colours.threshold(0.85) == pytest.approx(0.95)
    assert colours.threshold(0.6) == pytest.approx(0.5)
    assert colours.threshold(0.99) is None
    assert colours.tested(0.95)["coverage"] == pytest.approx(0.5)
    with pytest.raises(DarkroomError, match="above 0 and at most 1"):
        colours.threshold(95)


def test_a_few_pictures_are_answered_in_their_order(colours):
    pile = [picture("red"), b"nothing", picture("blue", mixed=0.9), picture("green", form="JPEG")]
    answers = colours.predict(pile, accuracy=0.85)
    assert answers["label"].tolist() == ["red", None, "blue", "green"]
    verdicts = ["accepted", "not read", "look at it", "accepted"]
    assert answers["verdict"].tolist() == verdicts
    assert "not_an_image" in answers["problem"][1]
    assert answers.filter(regex="^p_").sum(axis=1)[0] == pytest.approx(1)
    assert colours.predict([b""])["problem"][0].startswith("not_an_image")


def test_a_temperature_changes_how_sure_and_never_what(colours):
    warmer = dataclasses.replace(colours, temperature=3.0)
    tables = [model.predict([picture("red", mixed=0.6)]) for model in (colours, warmer)]
    assert [table["label"][0] for table in tables] == ["red", "red"]
    plain, scaled = (table.filter(regex="^p_").to_numpy()[0] for table in tables)
    expected = plain ** (1 / 3)
    assert scaled == pytest.approx(expected / expected.sum(), abs=1e-5)


def test_a_folder_becomes_two_tables_a_page_and_copies(colours, pile, tmp_path):
    outcome = folder.apply(
        colours,
        pile,
        tmp_path / "out",
        accuracy=0.85,
        copy_to=tmp_path / "copies",
        classes=["red", "blue"],
    )
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == 8
    assert rows["red.png"]["label"] == "red"
    assert rows["red.png"]["verdict"] == "accepted"
    assert rows["später 写真/red.png"]["verdict"] == "look at it"
    assert rows["cut.png"]["verdict"] == rows["notes.txt"]["verdict"] == "not read"
    assert rows["cut.png"]["problem"].startswith("truncated")
    table = pd.read_parquet(tmp_path / "out" / "labels.parquet")
    assert list(table["path"]) == list(rows)
    assert table.loc[table["path"] == "green.png", "p_green"].iloc[0] == pytest.approx(
        outcome.summary.accepted["green"][0][0]
    )
    assert outcome.numbers["accepted"] == 3
    assert outcome.numbers["not_read"] == 2
    copied = sorted(
        path.relative_to(tmp_path / "copies").as_posix()
        for path in (tmp_path / "copies").rglob("*.png")
    )
    assert copied == ["blue/blue.png", "red/red.png"]
    text = report.render(outcome)
    assert "cut.png" in text and "3 accepted" in text and text.count("data:image/jpeg") == 6
    assert len(list(pile.rglob("*"))) == 9  # nothing was added or moved


def test_a_file_that_kills_or_hangs_its_reader_is_a_row(colours, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, time\nfrom pathlib import Path\nold = Path.open\n"
        "def read(path, *mode, **options):\n"
        "    if path.name == '2.png': os.kill(os.getpid(), 9)\n"
        "    if path.name == '4.png': time.sleep(600)\n"
        "    return old(path, *mode, **options)\nPath.open = read\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setattr(folder, "PATIENCE_S", 30)
    (tmp_path / "new").mkdir()
    for number in range(1, 6):
        (tmp_path / "new" / f"{number}.png").write_bytes(picture("red"))
    outcome = folder.apply(colours, tmp_path / "new", tmp_path / "out")
    assert [path for path, _ in outcome.summary.unread] == ["2.png", "4.png"]
    assert "crashed: reading it ended" in outcome.summary.unread[0][1]
    assert "longer than 30 s" in outcome.summary.unread[1][1]
    assert outcome.summary.by_class["red"].total() == 3


def test_equal_names_and_hostile_classes_never_meet():
    names = ["a/b", "a:b", "..", "Ok"]
    folders = list(files.folder_names(names).values())
    assert folders == ["a_b", "a_b 2", "_", "Ok"]


def test_requests_that_cannot_be_are_refused_before_any_work(colours, pile, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    unfit = {
        pile / "inside": "outside that of the pictures",
        tmp_path: "outside that of the pictures",
        tmp_path / "full": "empty folder",
    }
    for target, told in unfit.items():
        with pytest.raises(DarkroomError, match=told):
            folder.apply(colours, pile, tmp_path / "out", accuracy=0.5, copy_to=target)
    with pytest.raises(DarkroomError, match="Did you mean 'red'"):
        folder.apply(colours, pile, tmp_path / "out", accuracy=0.5, classes=["rad"])
    with pytest.raises(DarkroomError, match="needs `copy_to`"):
        folder.apply(colours, pile, tmp_path / "out", accuracy=0.5, classes=["red"])
    with pytest.raises(DarkroomError, match="has no files"):
        folder.apply(colours, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DarkroomError, match="There is no folder"):
        folder.apply(colours, tmp_path / "gone", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_on_the_way_leaves_no_half_table(colours, pile, tmp_path):
    broken = dataclasses.replace(colours, predict_pixels=lambda pixels: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folder.apply(broken, pile, tmp_path / "out", accuracy=0.5, copy_to=tmp_path / "copies")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "copies").exists()


def test_a_request_that_nothing_reaches_accepts_nothing(colours, pile, tmp_path):
    outcome = folder.apply(colours, pile, tmp_path / "out", accuracy=0.999)
    assert outcome.numbers["accepted"] == 0
    assert outcome.threshold is None
    assert "nothing was accepted" in outcome.sentence
    assert "None." in report.render(outcome)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study of one run with a real Keras model, its predictions and its card."""
    from lib import models as networks
    from lib.models import predictor, serialization

    home = tmp_path_factory.mktemp("home")
    run, model_folder = (home / top / "s" / "train" / "a-s0" for top in ("logs", "checkpoints"))
    model = networks.build("custom", class_names=NAMES, image_side=16)
    advice = calibration.advice(known(), targets=(0.85, 0.95))
    serialization.save(
        model,
        model_folder / "model.keras",
        card={"calibration": advice, "parameters": {"resize": "pad"}},
    )
    run.mkdir(parents=True)
    table = known()
    predictions.write(
        run / "predictions.parquet",
        table.frame,
        {"class_names": NAMES, "data_hash": "d", "run": "s/train/a-s0"},
    )
    (run / "result.json").write_text(json.dumps({"metrics": {"val_accuracy": 0.7}, "key": {}}))
    return home, model, predictor.predict_proba, advice


def test_a_run_is_found_by_every_name_it_has(trained, monkeypatch):
    home, *_ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    model = home / "checkpoints" / "s" / "train" / "a-s0" / "model.keras"
    run = home / "logs" / "s" / "train" / "a-s0"
    for name in ("s/train/a-s0", "s", str(run), str(model)):
        assert models.find(name) == (model, run), name
    assert models.find("best", study="s") == (model, run)
    several, result = (
        run.with_name("films-s0"),
        {"metrics": {"val_accuracy": 0.9, "exact_match": 0.6}},
    )
    other = home / "checkpoints" / "s" / "train" / "films-s0"
    shutil.copytree(model.parent, other)
    several.mkdir()
    (several / "result.json").write_text(json.dumps(result))
    try:
        assert models.find("best", study="s") == (
            model,
            run,
        )  # what gives an image several labels cannot be applied
    finally:
        shutil.rmtree(several)
        shutil.rmtree(other)
    with pytest.raises(
        DarkroomError, match="no trained run 's/train/b-s0'.*There are: s/train/a-s0"
    ):
        models.find("s/train/b-s0")
    with pytest.raises(DarkroomError, match="There is no saved model"):
        models.find("gone.keras")
    with pytest.raises(DarkroomError, match="neither a run"):
        models.find("/etc")


def test_answers_are_the_models_own_at_the_temperature_of_its_run(trained, monkeypatch):
    home, model, predict, _ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    found = load("s")
    assert found.resize == "pad"
    assert found.temperature == pytest.approx(calibration.temperature(known().split("val")))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = calibration.at_temperature(predict(model, pixels), found.temperature)
    assert found.probabilities(pixels) == pytest.approx(expected, abs=1e-6)


def test_a_model_file_without_its_run_knows_its_thresholds(trained, tmp_path, monkeypatch):
    home, *_, advice = trained
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    alone = load(home / "checkpoints" / "s" / "train" / "a-s0" / "model.keras")
    assert alone.known is None
    assert alone.temperature == advice["temperature"]
    assert [each["target_accuracy"] for each in advice["thresholds"]] == [0.85]
    assert (
        alone.threshold(0.8) == advice["thresholds"][0]["threshold"]
    )  # the next higher wish that was noted
    assert alone.threshold(0.92) is None
    assert alone.tested(0.9) is None


def test_the_command_writes_a_run_and_names_what_it_could_not_read(
    trained, pile, tmp_path, monkeypatch, capsys
):
    home, *_ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    assert command.apply("s", str(pile), accuracy=0.5) == 0
    told = capsys.readouterr().out
    assert "cut.png" in told and "notes.txt" in told
    folder_of_run = home / "logs" / "apply@neue_Bilder" / "apply" / "all"
    result = json.loads((folder_of_run / "result.json").read_text())
    assert result["metrics"]["pictures"] == 8
    assert (folder_of_run / "report.html").is_file()


@pytest.mark.parametrize("form", ["onnx", "tflite", "saved_model", "openvino"])
def test_an_export_answers_as_keras_does(trained, tmp_path, monkeypatch, form):
    for package in {
        "onnx": ("tf2onnx", "onnxruntime"),
        "tflite": ("ai_edge_litert",),
        "saved_model": ("tensorflow",),
        "openvino": ("openvino",),
    }[form]:
        pytest.importorskip(package)
    home, *_ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    path, apart = export.export("s", form, folder=tmp_path)
    assert path.exists()
    assert apart < export.TOLERANCE
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["class_names"] == list(NAMES)
    assert about["temperature"] == load("s").temperature


def test_a_folder_for_a_hub_loads_as_the_run_does(trained, tmp_path, monkeypatch, capsys):
    home, *_ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    assert command.export("s", "hub", out=str(tmp_path / "hub")) == 0
    assert "hf upload OWNER/NAME" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {
        "README.md",
        "model.json",
        "model.keras",
    }
    assert (tmp_path / "hub/README.md").read_text().startswith('---\nlibrary_name: "keras"')
    first, second = load("s"), load(tmp_path / "hub" / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, *first.size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(first.probabilities(pixels), second.probabilities(pixels))
    with pytest.raises(DarkroomError, match="exists and is not overwritten"):
        export.hub_folder("s", folder=tmp_path / "hub")


def test_an_export_that_answers_otherwise_is_not_kept(trained, tmp_path, monkeypatch):
    home, *_ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    monkeypatch.setattr(
        export, "_require", lambda form: None
    )  # nothing is written by the packages here
    monkeypatch.setattr(
        export, "_write", lambda *_: lambda pixels: np.full((len(pixels), 3), 1 / 3)
    )
    with pytest.raises(DarkroomError, match="differs from Keras by .*not kept"):
        export.export("s", "onnx", folder=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DarkroomError, match="Did you mean 'onnx'"):
        export.export("s", "onix")


def test_a_sigmoid_head_over_mirror_images_exports_both_probabilities_in_order(
    tmp_path, monkeypatch
):
    pytest.importorskip("tensorflow")
    from lib import models as networks
    from lib.models import serialization

    model = networks.build(
        "custom",
        class_names=("no", "yes"),
        image_side=16,
        head="sigmoid",
        positive="no",
        average_mirrored=True,
    )
    serialization.save(model, tmp_path / "two.keras", card={})
    path, apart = export.export(tmp_path / "two.keras", "saved_model", folder=tmp_path / "out")
    assert apart < 1e-5


def test_a_invalid_request_is_one_sentence_and_exit_code_2(trained, pile, monkeypatch, capsys):
    home, *_ = trained
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    for words, told in (
        (["apply", "s/train/gone", str(pile)], "There is no trained run"),
        (["apply", "s", str(pile), "--accuracy", "95"], "above 0 and at most 1. Received: 95.0"),
        (["apply", "s", str(pile / "gone")], "There is no folder"),
        (["apply", "s", str(pile), "--only", "red"], "needs `copy_to`"),
    ):
        assert cli.main(words) == 2
        assert told in capsys.readouterr().err
    assert not (home / "logs" / "apply@gone").exists()
    assert not cli.main(["apply", "s", str(pile), "--accuracy", "0.5"])
