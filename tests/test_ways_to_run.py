"""One training in every way to run it: batch, papermill with the engine, plain papermill, and a client of
notebooks as JupyterLab is one. The same numbers, from the same parameters.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas
import pytest
from nbclient import NotebookClient

from lib import cli, notebooks, paths, processes, runs

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "3_train.ipynb"
GIVEN = {"data": "digits", "arm": "small", "seed": 3, "tiny": True, "image_side": 16}
STUDY = """
[shared]
data = "digits"
[[stage]]
name = "train"
notebook = "3_train"
seeds = [3]
[stage.arms.small]
image_side = 16
"""


def batch() -> None:
    (paths.root() / "studies").mkdir()
    (paths.root() / "studies" / "batch.toml").write_text(STUDY)
    assert cli.main(["run", "batch", "--tiny", "--json"]) == 0
    processes.shutdown()


def papermill(study: str, *words: str) -> None:
    given = [word for name, value in GIVEN.items() for word in ("-p", name, str(value))]
    command = ["-m", "papermill", str(NOTEBOOK), str(paths.root() / f"{study}.ipynb"), *given]
    subprocess.run(
        [sys.executable, *command, "-p", "study", study, "--no-progress-bar", *words],
        check=True,
        capture_output=True,
    )


def lab() -> None:
    nb = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in {**GIVEN, "study": "lab"}.items():
        cell.source += f"\n{name} = {value!r}"
    NotebookClient(nb, timeout=600, kernel_name="python3").execute()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    root = str(notebooks.__file__).rpartition("/lib/")[0]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_a_training_has_the_same_numbers_by_every_door(home, capsys):
    batch()
    papermill("engine", "--engine", "darkroom")
    papermill("plain")
    lab()
    found, tables = {}, {}
    for study in ("batch+tiny", "engine", "plain", "lab"):
        folder = home / "logs" / study / "train" / "small-s3"
        found[study] = runs.read(folder)
        tables[study] = pandas.read_parquet(folder / "predictions.parquet")
        key = found[study]["key"]
        assert key["parameters"].pop("study") == study and key.pop("lib")
        assert key["parameters"]["data"] == found[study]["data"] == "digits+tiny"
    first = found.pop("batch+tiny")
    for study, result in found.items():
        assert result["metrics"] == first["metrics"]
        assert result["key"] == first["key"]
        pandas.testing.assert_frame_equal(tables[study], tables["batch+tiny"])
    executed = json.loads((home / "engine.ipynb").read_text())["metadata"]["papermill"]
    assert executed["parameters"]["data"] == "digits+tiny" and executed["exception"] is None
