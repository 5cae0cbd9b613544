"""What the fuzzer (tests/fuzz) and a reading in its company found: bytes that nobody meant, each
refused in one sentence.
"""

import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import weakref
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import test_torch_pickle as torch

from lib import cli, notebooks, parameter_types
from lib.batch import study as studies
from lib.cleaning import ledger
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.sources import archives, columns, table_files
from lib.data.value_range import Rendering
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.models import efficientnet_lite
from lib.web import classify_page, site

HUGE = "9" * 5_000  # more digits than Python reads
STAGE = '[[stage]]\nname = "begin"\nnotebook = "begin"\n'
WORK = '[[stage]]\nname = "work"\nnotebook = "ok"\n[stage.arms.a]\n[stage.arms.b]\nfactor = 2\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"x = {HUGE}", "is not TOML"),
        ("x = " + "[" * 3_000, "is not TOML"),
        ("stage = [1]", "stage 1 of one.toml must be a table"),
        ("[shared]\ndata = 3\n" + STAGE.replace('"begin"', '"read"'), "`data` must be text"),
        (
            WORK.replace(
                "[stage.arms.a]", 'ablation_of = "a"\ncombinations = [["b"]]\n[stage.arms.a]'
            ),
            "must be one of",
        ),
        (STAGE + "cores = nan\n", "`cores` of .* must be above 0 and finite"),
        (STAGE + "memory_gb = inf\n", "`memory_gb` of .* must be above 0 and finite"),
        (WORK.replace("factor = 2", "factor = 1" + "0" * 400), "`factor` must be a number"),
    ],
)
def test_a_study_file(batch_home, text, message):
    (batch_home / "studies" / "one.toml").write_text(text)
    with pytest.raises(DarkroomError, match=message):
        studies.read("one")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a: int = 1\0", "is not Python"),
        ("a: int = " + "(" * 300, "is not Python"),
        ("a: dict = {[]: 1}", "must be a literal"),
        ("a: int = " + "b + " * 400 + "1", "must be a literal"),
        ("a: " + "x." * 400 + "y = 1", "must have one of the types"),
        ("a: dict = {1: {2}}", "must be names with values"),
        ("a: int = 1  # one of 1, two: how many", "cannot be read"),
    ],
)
def test_a_parameters_cell(cell, message):
    with pytest.raises(DarkroomError, match=message):
        parameter_types.declared(cell, where="x.ipynb")


@pytest.mark.parametrize("typed", [HUGE, "[" * 3_000, "1979-05-27", "1" + "0" * 400])
@pytest.mark.parametrize("kind", ["int = 1", "float = 1.0", "list[float] = [1.0]", "dict = {}"])
def test_a_value_that_is_typed(kind, typed):
    [parameter] = parameter_types.declared(f"a: {kind}  # text", where="x.ipynb").values()
    if (kind, typed) == ("int = 1", "1" + "0" * 400):
        assert (
            parameter.parse(typed) == 10**400
        )  # Python's own whole numbers are as long as one likes
        return
    with pytest.raises(DarkroomError, match="`a` must be "):
        parameter.parse(typed)


NOTEBOOK = {
    "cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "a: int = 1"}],
    "metadata": {"darkroom": {"stage": "s", "reads": []}},
}


@pytest.mark.parametrize(
    "changed",
    [
        [],
        {},
        {"cells": 3},
        {"cells": [3]},
        {"cells": [{"metadata": []}]},
        {"metadata": None},
        {"metadata": {"darkroom": 3}},
        {"metadata": {"darkroom": {"stage": 3, "reads": []}}},
        {"metadata": {"darkroom": {"stage": "s", "reads": 3}}},
        {"cells": [{**NOTEBOOK["cells"][0], "source": [3]}]},
        {"cells": [{**NOTEBOOK["cells"][0], "metadata": {"tags": 3}}]},
    ],
)
def test_a_notebook(batch_home, changed):
    content = {**NOTEBOOK, **changed} if isinstance(changed, dict) and changed else changed
    (batch_home / "notebooks" / "odd.ipynb").write_text(json.dumps(content))
    with pytest.raises(DarkroomError, match="is not a notebook of this suite"):
        notebooks.find("odd")


ENTRY = {
    "entry": 1,
    "at": "",
    "by": "ada",
    "action": "label",
    "changes": [{"path": "1", "before": {}, "after": {}}],
}


@pytest.mark.parametrize(
    "line",
    [
        "[" * 3_000,
        "3",
        "[]",
        "{}",
        *(
            json.dumps({**ENTRY, **odd})
            for odd in (
                {"entry": "1"},
                {"by": None},
                {"by": "\ud800"},
                {"changes": 3},
                {"changes": [3]},
                {"action": "undo"},
                {"action": "undo", "of": [1]},
                {"changes": [{"path": 3, "before": {}, "after": {}}]},
                {"changes": [{"path": "1", "before": [], "after": {}}]},
            )
        ),
    ],
)
def test_a_ledger(tmp_path, line):
    (tmp_path / ledger.FILE).write_text(f"{json.dumps(ENTRY)}\n{line}\n")
    with pytest.raises(DarkroomError, match="Line 2 of .* is damaged"):
        ledger.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "source.json is damaged"),
        (b"3", "source.json is damaged"),
        (b"\xff", "source.json is damaged"),
        (b'{"path": 3}', "source.json is damaged"),
        (b"[" * 3_000, "source.json is damaged"),
        (b'{"path": "%s"}' % (b"x" * 300), "refers to is gone"),
        (b'{"path": "a\\u0000"}', "refers to is gone"),
    ],
)
def test_a_data_sets_account_of_itself(tmp_path, monkeypatch, content, message):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    (tmp_path / "datasets" / "d" / "raw").mkdir(parents=True)
    (tmp_path / "datasets" / "d" / datasets.SOURCE).write_bytes(content)
    with pytest.raises(DarkroomError, match=message):
        datasets.load("d")


ROW = dict.fromkeys(manifest.COLUMNS, "0") | {
    "bytes": 9,
    "width": 2,
    "height": 2,
    "reasons": [],
    "group": 0,
}


@pytest.mark.parametrize(
    "odd",
    [
        {"reasons": 3},
        {"bytes": "many"},
        {"width": 2**40},
        {"width": float("inf")},
        {"label": b"\xe4"},
        {"group": None},
    ],
)
def test_a_manifest(tmp_path, odd):
    row = {name: pyarrow.array([value]) for name, value in {**ROW, **odd}.items()}
    if isinstance(odd.get("label"), bytes):  # text by its type, and no UTF-8
        row["label"] = pyarrow.array([odd["label"]]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table(row), tmp_path / manifest.FILE)
    with pytest.raises(
        DarkroomError, match="manifest.parquet is damaged .*; run 1_clean with data="
    ):
        manifest.read(tmp_path)


def test_a_manifest_that_is_whole_or_lacks_columns(tmp_path):
    pd.DataFrame([ROW]).to_parquet(tmp_path / manifest.FILE)
    assert manifest.read(tmp_path)["label"].tolist() == ["0"]
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / manifest.FILE)
    with pytest.raises(
        DarkroomError, match="manifest.parquet is damaged .*; run 1_clean with data="
    ):
        manifest.read(tmp_path)


TABLE = {"path": ["a"], "split": ["test"], "label": ["x"], "group": [0], "p_x": [0.5], "p_y": [0.5]}
NOTED = {"class_names": ["x", "y"], "data_hash": "h"}


@pytest.mark.parametrize(
    ("columns", "noted", "message"),
    [
        ({}, 3, "is no prediction table"),
        ({}, {**NOTED, "class_names": 3}, "`class_names` must be a list of names"),
        ({}, {**NOTED, "class_names": []}, "`class_names` must be a list of names"),
        ({}, {**NOTED, "class_names": ["x", ["y"]]}, "`class_names` must be a list of names"),
        ({"p_x": ["much"]}, NOTED, "'p_x' holds values of type string"),
        ({"path": [1]}, NOTED, "'path' holds values of type int64"),
        ({"label": [[["x"]]]}, NOTED, "'label' holds values of type list"),
        ({"group": [0.5]}, NOTED, "'group' holds values of type double"),
        ({"label": [["x"]]}, NOTED, "has a label that is no class"),
    ],
)
def test_a_prediction_table(tmp_path, columns, noted, message):
    arrow = pyarrow.table({**TABLE, **columns}).replace_schema_metadata(
        {b"darkroom": json.dumps(noted).encode()}
    )
    pyarrow.parquet.write_table(arrow, tmp_path / "predictions.parquet")
    with pytest.raises(DarkroomError, match=message):
        predictions.read(tmp_path / "predictions.parquet")


def test_a_table_of_labels_with_cells_that_are_no_file_names(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text(f"about,picture,label\n{'long ' * 100},a.png,x\n")
    index = table_files.FileIndex(["a.png"])
    named, _ = columns.name_pictures(table_files.load(tmp_path, "labels.csv"), index, None)
    assert named.image == "picture" and list(named.paths) == ["a.png"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "labels.csv",
            b"image,label\na.png,x,more,and more\n",
            "row 2 has 4 cells and the first row has 2",
        ),
        ("labels.csv", b"\xff\xfe", "it is empty"),
        ("labels.parquet", b"PAR1", "Parquet file"),
    ],
)
def test_a_table_of_labels(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(table_files.NoTable, match=message):
        table_files.load(tmp_path, name)


def built(pickled, state):
    """`pickled` with BUILD behind it, which sets attributes of what it has made."""
    return pickled + state + b"b"


DEFAULTS = b"N}" + torch.text("__defaults__") + torch.integers([1]) + b"s\x86"
VALUES = b"}" + torch.text("items") + b"K\x03s"
SHAPE = b"}" + torch.text("shape") + torch.integers([9]) + b"s"


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "a": built(torch.tensor("k", (2, 3), (3, 1)), SHAPE)
        },  # a tensor changed after it was checked
        {
            "a": built(b"ctorch._utils\n_rebuild_tensor_v2\n", DEFAULTS)
        },  # our own function changed for all later files
        {"a": built(b"ctorch\nFloatStorage\n", SHAPE)},
    ],
)
def test_a_weights_file_that_changes_what_was_made(tmp_path, tensors):
    body = torch.HEAD + torch.named(tensors) + pickle.dumps(["k"], 2) + torch.storage(range(6))
    with pytest.raises(DarkroomError, match="not a legacy PyTorch file"):
        efficientnet_lite.read_tensors(torch.write(tmp_path, body))


def test_a_weights_file_whose_dictionary_bears_attributes(tmp_path):
    named = torch.named({"a": torch.tensor("k", (2, 3), (3, 1))})[:-1] + VALUES + b"b."
    body = torch.HEAD + named + pickle.dumps(["k"], 2) + torch.storage(range(6))
    assert list(efficientnet_lite.read_tensors(torch.write(tmp_path, body))) == ["a"]


def zipped(*names, change=lambda data: data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in names:
            opened.writestr(name, "x" * 50)
    return change(buffer.getvalue())


def tarred(name, *, size=b"00000000062"):
    member = tarfile.TarInfo(name)
    member.size = 50
    header = bytearray(member.tobuf())
    header[124:135] = size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:512]))
    return bytes(header) + b"x" * 512 + bytes(1024)


@pytest.mark.parametrize(
    "data",
    [
        zipped("a", "a/b"),
        zipped("é" * 200),
        zipped("a", change=lambda data: data.replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0")),
        zipped(
            "a",
            change=lambda data: (
                data[:-22] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 2**31, 0, 0)
            ),
        ),
        tarred("x" * 99 + "/" + "y"),
        tarred("a/b", size=b"\xff" * 11),
        b"\x1f\x8b\x08\0" + b"\0" * 20,
        b"BZh9" + b"\0" * 20,
    ],
)
def test_an_archive(tmp_path, data):
    (tmp_path / "pets").write_bytes(data)
    try:
        archives.extract(tmp_path / "pets", tmp_path / "out")
    except DarkroomError as error:
        assert "\n" not in str(error)


def test_an_archive_whose_header_would_fill_the_memory(tmp_path):
    notes = tarfile.TarInfo("notes")
    notes.type, notes.size = tarfile.XHDTYPE, 2 << 20
    (tmp_path / "pets.tar.gz").write_bytes(
        gzip.compress(notes.tobuf() + b"9" * notes.size + tarred("a"))
    )
    with pytest.raises(DarkroomError, match="holds a header of 2,097,152 bytes"):
        archives.extract(tmp_path / "pets.tar.gz", tmp_path / "out")


def test_an_archive_with_a_damaged_header_is_not_taken_for_a_shorter_one(tmp_path):
    (tmp_path / "pets.tar").write_bytes(tarred("a")[:1024] + b"\1" + tarred("b")[1:])
    with pytest.raises(DarkroomError, match="a damaged header"):
        archives.extract(tmp_path / "pets.tar", tmp_path / "out")


def test_an_archive_of_more_headers_than_it_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 99)
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    (tmp_path / "pets.tar.gz").write_bytes(gzip.compress(folder.tobuf() * 100))
    with pytest.raises(DarkroomError, match="holds more than 99 files"):
        archives.extract(tmp_path / "pets.tar.gz", tmp_path / "out")


def test_uploads_are_never_in_memory_together(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    decoded, most = weakref.WeakValueDictionary(), []

    def decode(data, loaded=None):
        pixels = np.zeros((8, 8, 3), np.uint8)
        decoded[len(most)] = pixels
        most.append(len(decoded))
        return pixels

    monkeypatch.setattr(classify_page, "decode", decode)
    monkeypatch.setattr(classify_page, "_answer", lambda loaded, pixels, accuracy: pixels.shape)
    monkeypatch.setattr(classify_page.finished_runs, "run", lambda *names: None)
    loaded = SimpleNamespace(classifier=SimpleNamespace(rendering=Rendering()))
    monkeypatch.setattr(classify_page, "load", lambda found: loaded)
    png = b"\x89PNG\r\n\x1a\n"
    files = [(io.BytesIO(png), f"{number}.png") for number in range(5)]
    answer = site.create().test_client().post("/api/classify/s/t/u", data={"pictures": files})
    assert answer.status_code == 200 and len(answer.get_json()["answers"]) == 5
    assert max(most) <= 2  # one is let go of when the next has been decoded


@pytest.mark.slow
def test_every_first_input_of_the_fuzzer_is_read_or_refused():
    script = (
        "import targets\nfrom lib.errors import DarkroomError\nfor target, seeds, _ in "
        "targets.TARGETS.values():\n"
        "    for data in seeds():\n        try:\n            target(data)\n        except "
        "DarkroomError:\n            pass\n"
    )
    tests = Path(__file__).parent
    environment = {"PYTHONPATH": f"{tests / 'fuzz'}:{tests}:{tests.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["run", LONG],
        ["run", f"{LONG}.toml"],
        ["run", "one", "--set", f"method={LONG}"],
        ["clean", f"/{LONG}/y"],
        ["clean", "~nobody of that name/x"],
        ["clean", "a\0/b"],
        ["apply", LONG, "/"],
        ["apply", f"{LONG}.keras", "/"],
        ["export", f"{LONG}/model.keras", "onnx"],
    ],
)
def test_a_name_that_no_disk_can_hold_is_a_invalid_request(batch_home, words):
    assert cli.main(words) == 2
