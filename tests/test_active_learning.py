"""The labelling loop: order of usefulness, labels on disk, the data set they join, the gain."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.apply import active_learning
from lib.cleaning import clean
from lib.data import intake, sources
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.web import finished_runs, label_page, site


def test_the_most_uncertain_comes_first_and_its_double_later():
    probabilities = np.array([[0.99, 0.01], [0.5, 0.5], [0.5, 0.5], [0.3, 0.7], [0.7, 0.3]])
    order = active_learning.order(probabilities).tolist()
    assert order[0] == 1  # the first of the two most uncertain
    assert order.index(2) > order.index(3) and order.index(2) > order.index(4)


def test_of_equally_uncertain_pictures_those_that_look_different_come_first():
    probabilities = np.full((5, 2), 0.5)
    looks = np.array([[0.0], [0.01], [0.02], [5.0], [9.0]])
    assert active_learning.order(probabilities, lambda rows: looks[rows]).tolist()[:3] == [0, 4, 3]


def test_the_order_is_a_permutation_for_any_number():
    for num in (1, 2, 3, active_learning.POOL + 7):
        shares = np.random.default_rng(num).dirichlet([1, 1, 1], num)
        assert sorted(active_learning.order(shares).tolist()) == list(range(num))


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    generator = np.random.default_rng(0)
    for place in ("pets/cat", "pets/dog", "new"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
            picture.save(tmp_path / place / f"{number:02d}.png")
    dataset = intake.bring(str(tmp_path / "pets"))
    clean.clean(dataset, workers=1)
    return dataset


def test_labels_join_as_a_data_set_of_their_own_and_keep_the_test_images(pets, tmp_path):
    new = tmp_path / "new"
    with pytest.raises(DarkroomError, match="Nothing has been labelled"):
        active_learning.join(pets)
    active_learning.append(pets, new, "00.png", label="cat")
    active_learning.append(pets, new, "01.png", label="dog")
    active_learning.append(pets, new, "01.png", label="cat")  # the later holds
    active_learning.append(pets, new, "02.png", label="dog")
    active_learning.append(pets, new, "02.png", label=None)  # taken back
    active_learning.append(pets, new, "03.png", label=None, skipped=True)
    assert [line["path"] for line in active_learning.labelled(pets)] == ["00.png", "01.png"]
    assert active_learning.read(pets, new)["03.png"]["skipped"]
    joined = active_learning.join(pets, splits={"cat/00.png": "test", "dog/00.png": "val"})
    assert joined.name == "pets_labelled"
    rows = sources.rows(joined).set_index("path")
    assert len(rows) == 26 and rows["label"].value_counts().to_dict() == {"cat": 14, "dog": 12}
    assert rows.loc["cat/00.png", "source_split"] == "test"
    added = rows[rows.index.str.startswith("labelled/")]
    assert added["source_split"].tolist() == ["train", "train"]
    assert added["attr_source"].tolist() == ["new", "new"]
    assert active_learning.join(pets).name == "pets_labelled_2"
    assert sorted(path.name for path in pets.raw.iterdir()) == ["cat", "dog"]


def test_a_torn_line_is_passed_over_and_a_foreign_one_refused(pets, tmp_path):
    active_learning.append(pets, tmp_path, "a.png", label="cat")
    file = pets.folder / active_learning.FILE
    with file.open("ab") as torn:
        torn.write(b'{"path": "b.p')
    active_learning.append(pets, tmp_path, "c.png", label="dog")
    assert [line["path"] for line in active_learning.labelled(pets)] == ["a.png", "c.png"]
    file.write_text('{"path": 3}\n')
    with pytest.raises(DarkroomError, match="Line 1 of .* is damaged"):
        active_learning.labelled(pets)


def _predictions(tmp_path, name, right, truth=None):
    num = len(right)
    truth = np.arange(num) % 2 if truth is None else truth
    said = np.where(right, truth, 1 - truth)
    frame = predictions.table(
        [f"{index:03d}.png" for index in range(num)],
        splits=["test"] * num,
        labels=[("cat", "dog")[code] for code in truth],
        groups=range(num),
        probabilities=np.eye(2)[said] * 0.8 + 0.1,
        class_names=("cat", "dog"),
    )
    about = {"class_names": ["cat", "dog"], "data_hash": "h"}
    predictions.write(tmp_path / name, frame, about)
    return predictions.read(tmp_path / name)


def test_the_gain_is_paired_on_the_shared_test_images(tmp_path):
    right = np.ones(100, bool)
    before, after = right.copy(), right.copy()
    before[:20] = False  # 20 wrong before, of which 15 become right and 5 others wrong
    after[15:20] = False
    after[20:25] = False
    found = active_learning.gain(
        [_predictions(tmp_path, "a.parquet", before)], [_predictions(tmp_path, "b.parquet", after)]
    )
    assert (found["num"], found["before"], found["after"]) == (100, 0.8, 0.9)
    assert found["difference"] == pytest.approx(0.1)
    assert found["low"] == pytest.approx(0.0121, abs=1e-4)  # (10 - 8.77) / 102
    assert found["high"] == pytest.approx(0.1840, abs=1e-4)


def test_test_images_that_were_relabelled_in_between_are_judged_by_their_new_labels(tmp_path):
    old, new = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    first = _predictions(tmp_path, "a.parquet", np.array([True, True, True, False]), old)
    second = _predictions(tmp_path, "b.parquet", np.array([True, True, True, True]), new)
    found = active_learning.gain([first], [second])  # both models say cat, cat, dog, cat
    assert (found["relabelled"], found["before"], found["after"]) == (1, 1, 1)


def test_an_image_that_several_models_were_tested_on_counts_once_with_their_mean(tmp_path):
    before = [
        _predictions(tmp_path, "a.parquet", np.array([True, False, True, False])),
        _predictions(tmp_path, "b.parquet", np.array([True, True])),  # knows the first two alone
    ]
    after = [_predictions(tmp_path, "c.parquet", np.array([True, True, True]))]
    found = active_learning.gain(before, after)  # three images: 1, 0.5 and 1 before, all 1 after
    assert found["num"] == 3 and found["before"] == pytest.approx(2.5 / 3)
    assert (found["after"], found["difference"]) == (1, pytest.approx(0.5 / 3))
    # (0.5 - 1.96 * sqrt(0.25 + 1 - 0.5 ** 2 / 5)) / 5
    assert found["low"] == pytest.approx(-0.3294, abs=1e-4)


@pytest.fixture
def page(pets, tmp_path, monkeypatch):
    """A client of the label page of an application of a hand-made run to the folder `new`."""
    applied = tmp_path / "logs" / "s" / "apply" / "all"
    applied.mkdir(parents=True)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    sure = np.linspace(0.5, 1, len(names))
    table = {"path": names, "probability": sure, "p_cat": sure, "p_dog": 1 - sure}
    pd.DataFrame(table).to_parquet(applied / label_page.LABELS)
    parameters = {"pictures": str(tmp_path / "new")}
    training = {"data": "pets", "key": {"parameters": {"epochs": 2, "data": "pets"}}}
    runs = {
        "apply": {"model": "interactive/train/a-s0", "key": {"parameters": parameters}},
        "train": training,
    }

    def run(study, stage, name):
        return finished_runs.Run(study, stage, name, applied, runs[stage])

    monkeypatch.setattr(finished_runs, "run", run)
    label_page._opened.cache_clear()
    return site.create().test_client()


def test_the_page_labels_skips_and_takes_back(page, pets, tmp_path):
    api = "/api/label/s/apply/all"
    version = page.get(f"{api}/about").get_json()["version"]

    def post(path, **content):
        return page.post(f"{api}/{path}", json={"version": version, **content})

    answer = post("decide", rows=[0, 3], action="relabel", label="dog").get_json()
    assert (answer["verdicts"], answer["labels"], answer["undo"]) == ([1, 1], [1, 1], 1)
    assert post("decide", rows=[1], action="skip").get_json()["verdicts"] == [2]
    assert active_learning.read(pets, tmp_path / "new")["01.png"]["skipped"]
    assert post("undo").get_json()["verdicts"] == [0]
    assert post("undo").get_json()["labels"] == [label_page.NONE] * 2
    assert "no label" in post("undo").get_json()["error"]
    assert active_learning.labelled(pets) == []
    assert post("decide", rows=[0], action="keep").status_code == 400
    assert post("decide", rows=[12], action="skip").status_code == 400
    [row] = post("rows", rows=[11]).get_json()
    assert row["probabilities"] == [["cat", 1], ["dog", 0]]
    assert page.get(f"{api}/search?text=0 5").get_json()["rows"] == [5]


def test_a_model_trained_by_hand_is_retrained_by_papermill_as_another_study():
    values = {"epochs": 2, "seed": 0, "resize": "crop", "study": "interactive", "data": "pets"}
    model = finished_runs.Run(
        "interactive", "train", "a-s0", Path(), {"key": {"parameters": values}}
    )
    words = shlex.split(label_page._again(model, "pets_labelled"))
    assert words[:4] == ["papermill", "notebooks/3_train.ipynb", "again.ipynb", "-y"]
    assert json.loads(words[4]) == {
        "epochs": 2,
        "data": "pets_labelled",
        "split_method": "source",
        "study": "interactive_labelled",
        "options": {"resize": "crop"},
    }
    study = finished_runs.Run(
        "quickstart@pets", "train", "a-s0", Path(), {"key": {"parameters": {}}}
    )
    command = "darkroom run quickstart --set data=pets_labelled --set split_method=source"
    assert label_page._again(study, "pets_labelled") == command
