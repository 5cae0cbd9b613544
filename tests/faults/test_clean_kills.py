"""Cleaning is killed wherever it writes and whenever: raw files stay as they are, and the same
command brings it to its end.
"""

import hashlib
import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.cleaning import clean, ledger
from lib.data import dataset as datasets

FILES = (
    "source.json",
    "scan.parquet",
    "groups.parquet",
    "findings.parquet",
    "manifest.parquet",
    "findings.html",
)
POINTS = [f"{file}:{moment}" for file in FILES for moment in ("written", "renamed")]
POINTS += ["thumbs.bin:appended", "ledger.jsonl:appended"]
SHORT = ("scan.parquet:written", "ledger.jsonl:appended")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "pets"
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for number in range(20):
            coarse = np.random.default_rng(number + 100 * (name == "b")).integers(
                0, 255, (8, 8, 3), np.uint8
            )
            Image.fromarray(coarse).resize((80, 80), Image.Resampling.BICUBIC).save(
                folder / name / f"{number}.jpg"
            )
    buffer = io.BytesIO()
    Image.open(folder / "a/0.jpg").save(buffer, "PNG")
    (folder / "a/copy.png").write_bytes(buffer.getvalue())
    (folder / "b/cut.jpg").write_bytes((folder / "b/0.jpg").read_bytes()[:700])
    return folder


def darkroom(*words, **environment):
    command = [sys.executable, "-m", "lib.cli", "clean", *map(str, words)]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def digest(folder):
    """A hash of the hashes of all files below, names included."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def complete(raw, before):
    """Cleans to the end and holds what must be: raw files, verdicts, one act in the ledger, the
    same manifest replayed.
    """
    assert digest(raw) == before
    done = darkroom(raw)
    assert done.returncode == 0, done.stderr
    data = datasets.load("pets")
    table = data.manifest()
    told = {row.path: row.reasons for row in table.itertuples() if row.verdict == "reject"}
    assert (
        told == {"a/copy.png": ["exact_duplicate"], "b/cut.jpg": ["truncated"]} and len(table) == 42
    )
    assert [act["action"] for act in ledger.standing(ledger.read(data.folder))] == ["clean"]
    clean.decide(data, ["a/1.jpg"], verdict="reject")
    clean.undo(data)
    pd.testing.assert_frame_equal(data.manifest(), table)  # the ledger replays to the same
    assert digest(raw) == before and not list(data.folder.rglob(".aside*.parquet"))


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.slow) for p in POINTS]
)
def test_killed_at_a_point(raw, point):
    before = digest(raw)
    assert darkroom(raw, DARKROOM_FAULT=point).returncode < 0
    complete(raw, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["ledger.jsonl:appended", "manifest.parquet:written", "manifest.parquet:renamed"]
)
@pytest.mark.parametrize(
    "act", [("--reject", "a/3.jpg"), ("--relabel", "b", "a/3.jpg"), ("--undo",)]
)
def test_acts_by_hand_are_killed(raw, act, point):
    before = digest(raw)
    assert darkroom(raw).returncode == 0
    assert darkroom("pets", "--review", "a/4.jpg").returncode == 0
    assert darkroom("pets", *act, DARKROOM_FAULT=point).returncode < 0
    assert darkroom(raw).returncode == 0  # what the ledger says holds
    row = datasets.load("pets").manifest().set_index("path")
    assert row.loc["a/3.jpg", "verdict"] == ("reject" if act[0] == "--reject" else "keep")
    assert row.loc["a/3.jpg", "label"] == ("b" if act[0] == "--relabel" else "a")
    assert row.loc["a/4.jpg", "verdict"] == ("keep" if act[0] == "--undo" else "review")
    assert digest(raw) == before


@pytest.mark.slow
@pytest.mark.parametrize("point", ["raw:written", "raw:renamed", "source.json:written"])
def test_unpacking_an_archive_is_killed(raw, tmp_path, point):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(raw.rglob("*.*")):
            archive.write(path, path.relative_to(raw))
    packed = (tmp_path / "pets.zip").read_bytes()
    assert darkroom(tmp_path / "pets.zip", DARKROOM_FAULT=point).returncode < 0
    done = darkroom(tmp_path / "pets.zip")
    assert done.returncode == 0, done.stderr
    assert (
        digest(datasets.load("pets").raw) == digest(raw)
        and (tmp_path / "pets.zip").read_bytes() == packed
    )


@pytest.mark.slow
@pytest.mark.parametrize("point", ["copy:written", "copy:renamed"])
def test_an_export_is_killed(raw, tmp_path, point):
    before = digest(raw)
    assert darkroom(raw).returncode == 0
    assert darkroom("pets", "--export", tmp_path / "copy", DARKROOM_FAULT=point).returncode < 0
    assert (tmp_path / "copy").exists() == (point == "copy:renamed")  # whole or not there
    assert digest(raw) == before
