"""Names, links and files that break other tools: each is named in the findings, and the rest goes
on.
"""

import json
import os
import random

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import hashing
from lib.cleaning import clean, findings_page, ledger, measurements
from lib.cleaning.findings import Thresholds
from lib.data import intake, manifest
from lib.errors import DarkroomError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))


def scene(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


GOOD = [
    "a/1.png",
    "a/2.png",
    "b/1.png",
    "b/2.png",
    "a/🐈 猫.png",
    "b/" + "é" * 125 + ".png",
    "b/a\nnew line.png",
    "b/100%.png",
    'b/"quoted" & <marked>.png',
]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "hostile"
    for number, name in enumerate(GOOD):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(folder / name, "PNG")
    return folder


def reasons(cleaned):
    return {row.path: row.reasons for row in cleaned.manifest.itertuples() if row.reasons}


def test_links_pipes_and_names_that_are_not_text(raw, tmp_path):
    scene(50).save(tmp_path / "outside.png")
    (raw / "a/loop").symlink_to(raw)
    (raw / "a/itself.png").symlink_to(raw / "a/itself.png")
    (raw / "a/there.png").symlink_to(raw / "a/back.png")
    (raw / "a/back.png").symlink_to(raw / "a/there.png")
    (raw / "a/out.png").symlink_to(tmp_path / "outside.png")
    (raw / "a/out folder").symlink_to(tmp_path)
    (raw / "b/gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(raw / "b/pipe.png")
    (raw / "b" / os.fsdecode(b"caf\xe9.png")).write_bytes((raw / "b/1.png").read_bytes())
    cleaned = clean.clean(intake.bring(str(raw)), thresholds=Thresholds(few_files=0))
    found = reasons(cleaned)
    assert found == {
        "a/loop": ["link_folder"],
        "a/out folder": ["link_folder"],
        "a/out.png": ["link_outside"],
        "b/pipe.png": ["special"],
        **dict.fromkeys(
            ("a/itself.png", "a/there.png", "a/back.png", "b/gone.png"), ["unreadable"]
        ),
        r"b/caf\xe9.png": ["name_not_text"],
    }
    kept = cleaned.manifest.set_index("path")["verdict"]
    assert sorted(kept.index[kept == "keep"]) == sorted(GOOD) and set(kept[list(found)]) == {
        "reject"
    }
    told = findings_page.render(cleaned)
    assert r"caf\xe9.png" in told and "Not a plain file" in told


def test_a_file_that_vanishes_while_the_scan_runs(raw, monkeypatch):
    data = intake.bring(str(raw))
    measure_all = measurements.measure_all

    def late(files, **options):
        (raw / "a/2.png").unlink()
        return measure_all(files, **options)

    monkeypatch.setattr(measurements, "measure_all", late)
    cleaned = clean.clean(data, thresholds=Thresholds(few_files=0))
    assert reasons(cleaned) == {"a/2.png": ["unreadable"]}
    assert (cleaned.manifest["verdict"] == "keep").sum() == len(GOOD) - 1


def test_a_folder_and_a_file_that_may_not_be_read(raw, monkeypatch):
    (raw / "a/locked").mkdir()
    scene(60).save(raw / "a/locked/1.png")
    scandir = os.scandir

    def refused(path):  # root may read everything, so permission is taken away here
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    cleaned = clean.clean(intake.bring(str(raw)), thresholds=Thresholds(few_files=0))
    assert reasons(cleaned) == {"a/locked": ["unreadable"]}
    assert cleaned.findings["detail"].tolist() == ["Permission denied"]


def test_a_flipped_bit_is_noticed_in_manifest_result_and_ledger(tmp_path):
    columns = {name: ["a", "b"] for name in manifest.COLUMNS}
    numbers = {"bytes": [1, 2], "width": [3, 4], "height": [5, 6], "group": [0, 1]}
    reasons = {"verdict": ["keep", "review"], "reasons": [[], ["blurred"]]}
    manifest.write(tmp_path, pd.DataFrame(columns | numbers | reasons))
    assert manifest.read(tmp_path)["width"].tolist() == [3, 4]
    change = {"path": "a", "before": {}, "after": {"verdict": "keep"}}
    ledger.append(tmp_path, by="ada", action="verdict", changes=[change])
    written = hashing.sealed({"metrics": {"accuracy": 0.5}, "by_seed": {1: 2, 10: 3}})
    assert hashing.unsealed(json.loads(json.dumps(written)))["metrics"] == {"accuracy": 0.5}
    assert hashing.unsealed({**written, "metrics": {"accuracy": 0.6}}) is None
    assert hashing.unsealed({"metrics": {}}) == {"metrics": {}}  # of before there were seals
    draw = random.Random(0)
    names = ("entry", "at", "by", "action", "changes")
    for path, read in (
        (tmp_path / manifest.FILE, lambda: manifest.read(tmp_path).to_json()),
        (tmp_path / ledger.FILE, lambda: [[e[n] for n in names] for e in ledger.read(tmp_path)]),
    ):
        good, before = path.read_bytes(), read()
        for _ in range(40):
            flipped = bytearray(good)
            flipped[draw.randrange(len(good) - 1)] ^= 1 << draw.randrange(8)
            path.write_bytes(bytes(flipped))
            try:  # a flip within the name of a checksum leaves the content as it was
                assert read() == before
            except DarkroomError as error:
                assert "damaged" in str(error)
        path.write_bytes(good)


def test_a_ledger_that_has_lost_decisions_is_refused(raw):
    data = clean.clean(intake.bring(str(raw)), thresholds=Thresholds(few_files=0)).dataset
    clean.decide(data, ["a/1.png"], verdict="reject")
    path, table = data.folder / ledger.FILE, data.manifest()
    whole = path.read_bytes()
    for rest in (b"", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(rest)
        with pytest.raises(DarkroomError, match="decisions are missing"):
            clean.clean(data)
        pd.testing.assert_frame_equal(data.manifest(), table)
    path.write_bytes(whole + b'{"torn')  # of a decision that was not confirmed
    assert (clean.clean(data).manifest["verdict"] == table["verdict"]).all()
