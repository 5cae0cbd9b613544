"""Tiny runs take a sample of the data, and say what they are."""

import numpy as np
import pytest
from PIL import Image

from lib import cli, paths, runs
from lib.batch import study as studies
from lib.cleaning import clean
from lib.data import dataset, intake, sources
from lib.runs import record


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for name, blue in (("cat", 200), ("dog", 20), ("owl", 110)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(60 if name == "cat" else 45):
            coarse = np.random.default_rng(number + blue).integers(0, 255, (6, 6, 3), np.uint8)
            coarse[..., 2] = blue
            picture = Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "pets" / name / f"{number:02}.png")
    return tmp_path / "pets"


def test_a_sample_holds_some_files_of_each_class_and_leaves_the_rest_alone(pets):
    drawn = intake.bring(f"{pets}+tiny")
    assert drawn.name == "pets+tiny" and drawn.raw == pets
    assert sources.rows(drawn)["label"].value_counts().to_dict() == {
        "cat": 40,
        "dog": 40,
        "owl": 40,
    }
    assert len(drawn.files()) == 120 and len(dataset.load("pets").files()) == 150
    cleaned = clean.clean(drawn)
    assert "120 files (a sample of the 150 of pets)" in cleaned.sentence()
    assert not dataset.load("pets").cleaned()
    again = intake.bring("pets+tiny")
    assert again.source["sample"] == drawn.source["sample"]
    assert intake.name_of(str(pets)) == "pets" and intake.name_of(f"{pets}+tiny") == "pets+tiny"


def test_every_door_takes_the_sample(pets):
    intake.bring(str(pets))
    namespace = dict.fromkeys(("study", "arm"), "a") | {"tiny": "true", "data": "pets"}
    from lib import parameter_table

    rows = parameter_table.find("3_train").parameters
    namespace = {name: row.default for name, row in rows.items() if row.in_cell} | namespace
    runs.check("3_train", namespace | {"tiny": False})
    runs.check("3_train", namespace)
    assert namespace["data"] == "pets+tiny" and namespace["tiny"] is True
    runs.check("3_train", namespace)
    assert namespace["data"] == "pets+tiny"


def test_a_tiny_study_says_so_in_sentence_table_and_report(pets, capsys):
    assert cli.main(["run", "quickstart", "--tiny", "--set", f"data={pets}", "--dry-run"]) == 0
    assert "data set 'pets+tiny' would be brought here first" in capsys.readouterr().out
    assert not paths.datasets().exists()
    words = ["run", "quickstart", "--tiny", "--arm", "custom", "--set", f"data={pets}"]
    stages = [word for name in ("clean", "train", "compare") for word in ("--stage", name)]
    assert cli.main([*words, *stages]) == 1  # the other stages were left out
    assert "1 (tiny)" in capsys.readouterr().out
    study = paths.logs() / "quickstart+tiny@pets"
    train = study / "train" / "custom-s0"
    assert (
        "120 files (a sample of the 150 of pets)"
        in (study / "clean/all/notebook.ipynb").read_text()
    )
    assert record.TINY in (train / "notebook.ipynb").read_text()
    assert record.TINY in (study / "compare" / "all" / "report.html").read_text()
    assert runs.read(train)["data"] == "pets+tiny"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "left_out"),
    [
        ("ablations", ()),
        ("binary", ()),
        ("kfold", ()),
        ("shortcut", ()),
        ("triage", ("photo_or_not",)),  # needs a class "Photo"
        ("tutorial", ()),
        ("wikiart", ("resnet50",)),  # its weights are downloaded
    ],
)
def test_shipped_studies_end_in_tiny_form(study, left_out, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    arms = {run.arm for stage in studies.read(study, tiny=True).stages for run in stage.runs}
    kept = sorted(arms - {None, *left_out}) if left_out else []
    words = [word for arm in kept for word in ("--arm", arm)]
    data = [] if study == "shortcut" else ["--set", "data=planted"]
    assert cli.main(["run", study, "--tiny", *words, *data]) == 0
