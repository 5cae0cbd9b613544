"""The data page without a browser: arrays, decisions in the ledger, undo, and what it refuses."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lib.cleaning import clean, ledger
from lib.data import dataset as datasets
from lib.data import intake, manifest
from lib.web import data_page, site


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data set `pets` of 12 cats and 12 dogs, cleaned."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    monkeypatch.setattr(data_page, "SYNC_AFTER_S", 3_600)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "pets" / name
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
            picture.save(folder / f"{number:02d}.png")
    clean.clean(intake.bring(str(tmp_path / "pets")), workers=1)
    data_page._opened.clear()
    return tmp_path


@pytest.fixture
def client(home):
    return site.create().test_client()


def arrays(client):
    content = client.get("/api/data/pets/arrays").data
    length = int.from_bytes(content[:4], "little")
    listed = json.loads(content[4 : 4 + length])
    return {
        each["name"]: np.frombuffer(
            content,
            each["type"],
            count=int(np.prod(each["shape"])),
            offset=4 + length + each["offset"],
        )
        for each in listed
    }


def post(client, path, **content):
    version = client.get("/api/data/pets/about").get_json()["version"]
    return client.post(f"/api/data/pets/{path}", json={"version": version, **content})


def test_arrays_hold_the_manifest_in_the_order_of_its_paths(client):
    about = client.get("/api/data/pets/about").get_json()
    columns = arrays(client)
    assert about["labels"] == ["cat", "dog"] and about["files"] == 24
    assert columns["label"].tolist() == [0] * 12 + [1] * 12
    assert columns["verdict"].tolist() == [0] * 24 and columns["side"].tolist() == [48] * 24
    [described] = post(client, "rows", rows=[13]).get_json()
    assert described["path"] == "dog/01.png" and described["size"] == "64 × 48 px"
    assert client.get("/api/data/pets/search?text=DOG 0").get_json()["rows"] == list(range(12, 23))


def test_a_decision_is_in_the_ledger_before_the_answer_and_in_the_manifest_after_a_sync(client):
    answer = post(client, "decide", rows=[0, 1], action="reject").get_json()
    assert (answer["rows"], answer["verdicts"]) == ([0, 1], [2, 2])
    dataset = datasets.load("pets")
    last = ledger.read(dataset.folder)[-1]
    assert (last["by"], last["action"]) == ("data page", "verdict")
    assert last["changes"][0] == {
        "path": "cat/00.png",
        "before": {"verdict": "keep"},
        "after": {"verdict": "reject"},
    }
    assert dataset.manifest()["verdict"].tolist() == ["keep"] * 24
    assert clean.ensure(dataset).manifest()["verdict"].tolist() == ["reject"] * 2 + ["keep"] * 22
    assert not clean.sync(dataset)  # nothing is left to do
    assert len(dataset.accepted()) == 22


def test_relabelling_keeps_what_was_to_review_and_undo_restores_both(client):
    post(client, "decide", rows=[3], action="review")
    answer = post(client, "decide", rows=[3], action="relabel", label=" dog ").get_json()
    assert (answer["labels"], answer["verdicts"]) == ([1], [0])
    clean.sync(datasets.load("pets"))
    row = datasets.load("pets").manifest().iloc[3]
    assert (row["label"], row["verdict"]) == ("dog", "keep")
    assert arrays(client)["source_label"][3] == 0
    answer = post(client, "undo").get_json()
    assert (answer["labels"], answer["verdicts"], answer["undo"]) == ([0], [1], 1)
    assert answer["decided"] == [1]  # to review, by hand
    answer = post(client, "undo").get_json()
    assert (answer["labels"], answer["verdicts"], answer["undo"]) == ([0], [0], 0)
    assert answer["decided"] == [0]
    assert "no decision" in post(client, "undo").get_json()["error"]
    clean.sync(datasets.load("pets"))
    assert datasets.load("pets").manifest()["label"].tolist() == ["cat"] * 12 + ["dog"] * 12
    assert arrays(client)["decided"].sum() == 0


def test_a_new_class_gets_the_next_code(client):
    answer = post(client, "decide", rows=[0], action="relabel", label="猫 <b>").get_json()
    assert answer["names"] == ["cat", "dog", "猫 <b>"] and answer["labels"] == [2]


def test_decisions_from_elsewhere_are_seen(client):
    arrays(client)
    clean.decide(datasets.load("pets"), ["cat/05.png"], verdict="reject")
    assert arrays(client)["verdict"][5] == 2
    assert "no decision" in post(client, "undo").get_json()["error"]  # that one was not made here


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"rows": [0], "action": "delete"}, 400),
        ({"rows": [24], "action": "keep"}, 400),
        ({"rows": [-1], "action": "keep"}, 400),
        ({"rows": ["0"], "action": "keep"}, 400),
        ({"rows": [], "action": "keep"}, 400),
        ({"rows": [0], "action": "relabel"}, 400),
        ({"rows": [0], "action": "relabel", "label": "\x1b[2J"}, 400),
        ({"rows": [0], "action": "relabel", "label": " "}, 400),
        ({"rows": [0], "action": "keep", "version": "another"}, 409),
    ],
)
def test_what_is_no_decision_is_refused_and_leaves_the_ledger_alone(client, content, code):
    before = ledger.num_bytes(datasets.load("pets").folder)
    response = post(client, "decide", **content)
    assert response.status_code == code and response.get_json()["error"]
    assert ledger.num_bytes(datasets.load("pets").folder) == before


def test_pictures_are_small_jpegs_and_only_of_the_data_set(client):
    response = client.get("/api/data/pets/pictures/0?side=128")
    assert response.mimetype == "image/jpeg" and response.data[:2] == b"\xff\xd8"
    assert client.get("/api/data/pets/pictures/0?side=5000").status_code == 400
    assert client.get("/api/data/pets/pictures/99").status_code == 404
    assert client.get("/api/data/..%2fpets/about").status_code == 404
    assert client.get("/data/none").status_code == 404


def test_both_pages_say_what_there_is(client):
    assert "24 in 2 classes" in client.get("/data").text
    assert "Loading 24 images" in client.get("/data/pets").text


_DECIDE = """
import sys
from lib.web import data_page
table = data_page.load("pets")
for row in range(24):
    table.act([row], "reject", None)
    print(row, flush=True)
"""


def test_nothing_is_lost_when_the_server_is_killed(home):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _DECIDE], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        answered = [int(process.stdout.readline()) for _ in range(7)][-1]
        process.send_signal(signal.SIGKILL)
    dataset = datasets.load("pets")
    rejected = sum(entry["action"] == "verdict" for entry in ledger.read(dataset.folder))
    assert rejected >= answered + 1  # every one that was answered stands in the ledger
    clean.sync(dataset)
    assert (dataset.manifest()["verdict"] == "reject").sum() == rejected


def test_the_manifest_says_how_much_of_the_ledger_it_reflects(home):
    folder = datasets.load("pets").folder
    assert manifest.ledger_bytes(folder) == ledger.num_bytes(folder)
    ledger.append(folder, by="hand", action="verdict", changes=[])
    assert manifest.ledger_bytes(folder) < ledger.num_bytes(folder)
    (folder / "manifest.parquet").write_bytes(b"torn")
    assert manifest.ledger_bytes(folder) == 0


def test_a_study_is_judged_by_decisions_that_only_stand_in_the_ledger(client):
    from types import SimpleNamespace

    from lib.batch import plan

    unit = SimpleNamespace(parameters={"data": "pets"})
    before = plan._dataset(unit).digest()
    post(client, "decide", rows=[0], action="reject")
    assert plan._dataset(unit).digest() != before
    post(client, "undo")
    assert plan._dataset(unit).digest() == before
