"""`darkroom clean` from the command line, the page it writes and the copy it exports."""

import base64
import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import cli
from lib.cleaning import ledger
from lib.data import dataset as datasets
from lib.data import splits


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))


def scene(seed, side=64):
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def pets(tmp_path):
    """Two classes with hostile names: good pictures, one copy, one cut off, one with a place in its
    EXIF, a wrong extension.
    """
    raw = tmp_path / "pets"
    for index, name in enumerate(("chien & <chat>", "猫 😀")):
        (raw / name).mkdir(parents=True)
        for number in range(6):
            scene(number + 10 * index).save(raw / name / f"{number}.png")
    exif = Image.Exif()
    exif[0x010E] = "SECRET-PLACE"
    exif.get_ifd(0x8825)[2] = (51.0, 28.0, 38.0)
    scene(30).save(raw / "猫 😀" / "place.jpg", exif=exif)
    scene(0).save(raw / "chien & <chat>" / "copy.png", compress_level=1)
    scene(31).save(raw / "猫 😀" / "really.jpg", "PNG")
    whole = io.BytesIO()
    scene(32).save(whole, "JPEG")
    (raw / "猫 😀" / "cut.jpg").write_bytes(whole.getvalue()[:300])
    return raw


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(f"{path.relative_to(folder)}\0".encode())
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def darkroom(*words, code=0):
    assert cli.main(["clean", *map(str, words)]) == code


def test_clean_list_decide_undo_and_export(pets, tmp_path, capsys):
    before = digest(pets)
    darkroom(pets)
    told = capsys.readouterr().out
    assert "16 files, 14 kept, 0 to review, 2 rejected" in told and "findings.html" in told
    darkroom("pets", "--list", "reject")
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        "reject chien & <chat>/copy.png",
        "reject 猫 😀/cut.jpg",
    ]
    darkroom("pets", "--reject", "猫 😀/1.png", "猫 😀/2.png")
    darkroom("pets", "--relabel", "chien & <chat>", "猫 😀/3.png")
    table = datasets.load("pets").manifest().set_index("path")
    assert (
        table.loc["猫 😀/1.png", "verdict"] == "reject"
        and table.loc["猫 😀/3.png", "label"] == "chien & <chat>"
    )
    darkroom("pets", "--undo")
    darkroom("pets", "--undo", "2")
    table = datasets.load("pets").manifest().set_index("path")
    assert (
        table.loc["猫 😀/1.png", "verdict"] == "keep"
        and table.loc["猫 😀/3.png", "label"] == "猫 😀"
    )
    capsys.readouterr()
    darkroom("pets", "--history")
    assert [line.split()[2:4] for line in capsys.readouterr().out.splitlines()] == [
        ["clean", "clean"],
        ["hand", "verdict"],
        ["hand", "label"],
        ["undo", "undo"],
        ["undo", "undo"],
    ]
    darkroom("pets", "--export", tmp_path / "copy")
    copied = sorted(
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*.*")
    )
    assert copied.pop(0) == "README.md" and "metadata.csv" in copied
    assert len(copied) == 15 and "猫 😀/really.png" in copied and "chien & _chat_/0.png" in copied
    assert (tmp_path / "copy/猫 😀/place.jpg").read_bytes() == (
        pets / "猫 😀/place.jpg"
    ).read_bytes()
    assert digest(pets) == before


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["pets", "--list", "trunkated"], "Did you mean 'truncated'"),
        (["pets", "--keep", "none.png"], "has no file 'none.png'"),
        (["pets", "--relabel", "x"], "takes the label and then the files"),
        (["pets", "--list", "--history"], "One act at a time"),
        (["pets", "--undo", "7"], "no act 7 to undo"),
        (["pets", "--export", "{pets}/out"], "inside the raw files"),
        (["pets", "--export", "{pets}"], "exists and is not overwritten"),
        (["{pets}", "--threshold", "drak=1"], "Did you mean 'dark'"),
        (["{pets}", "--threshold", "dark=x"], "must be a number"),
        (["{pets}", "--verdict", "blurred=away"], "Received: 'away'"),
        (
            ["{pets}", "--threshold", "dark"],
            "--threshold takes NAME=VALUE, such as --threshold dark=0.1",
        ),
    ],
)
def test_a_invalid_request_is_one_sentence(pets, words, sentence, capsys):
    darkroom(pets)
    darkroom(*(word.format(pets=pets) for word in words), code=2)
    told = capsys.readouterr().err
    assert sentence in told and told.startswith("darkroom: ") and "Traceback" not in told
    assert len(ledger.read(datasets.load("pets").folder)) == 1


def test_an_export_numbers_names_that_meet_and_refuses_what_changed(pets, tmp_path, capsys):
    (pets / "猫 😀" / "sub").mkdir()
    scene(40).save(pets / "猫 😀" / "sub" / "1.PNG")
    darkroom(pets, "--threshold", "few_files=0")
    darkroom("pets", "--export", tmp_path / "copy")
    assert (tmp_path / "copy/猫 😀/1 (2).PNG").is_file()
    scene(41).save(pets / "猫 😀" / "1.png")
    darkroom("pets", "--export", tmp_path / "other", code=2)
    assert "has changed since it was cleaned" in capsys.readouterr().err
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".aside*"))


def test_an_export_keeps_the_source_s_split(tmp_path):
    raw = tmp_path / "split"
    for at, split in enumerate(("train", "test")):
        for index, name in enumerate("ab"):
            (raw / split / name).mkdir(parents=True)
            for number in range(2):
                scene(number + 10 * index + 100 * at).save(raw / split / name / f"{number}.png")
    darkroom(raw)
    darkroom("split", "--export", tmp_path / "copy", "--by-split")
    assert (
        len(list((tmp_path / "copy").glob("*/*/*.png"))) == 8
        and (tmp_path / "copy/test/a/0.png").is_file()
    )


def test_an_export_is_read_as_it_was(tmp_path):
    raw = tmp_path / "leaves"
    for index, name in enumerate(("ash", "oak")):
        (raw / name).mkdir(parents=True)
        for number in range(12):
            scene(number + 20 * index).save(raw / name / f"{number}.png")
    darkroom(raw)
    darkroom("leaves", "--export", tmp_path / "copy", "--by-split")
    table = splits.ensure(datasets.load("leaves")).frame
    darkroom(tmp_path / "copy")
    copy = datasets.load("copy").accepted()
    wanted = sorted(zip(table["split"], table["label"], strict=True))
    assert sorted(zip(copy["source_split"], copy["label"], strict=True)) == wanted
    rows = pd.concat(map(pd.read_csv, (tmp_path / "copy").glob("*/metadata.csv")))
    assert list(rows) == ["file_name", "label", "group"] and len(rows) == 24
    assert (rows["file_name"].str.split("/").str[0] == rows["label"]).all()


def test_the_page_is_self_contained_and_tells_nothing_of_the_files(pets):
    darkroom(pets)
    page = (datasets.load("pets").folder / "findings.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|@import|https?://", page)
    assert "chien &amp; &lt;chat&gt;" in page and "<chat>" not in page  # names are text, not markup
    pictures = [
        base64.b64decode(found) for found in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    ]
    assert len(pictures) >= 4
    for picture in pictures:
        opened = Image.open(io.BytesIO(picture))
        assert (
            not opened.getexif()
            and b"Exif" not in picture
            and b"SECRET" not in picture
            and max(opened.size) <= 144
        )
    for title in (
        "Exact copy",
        "Cut off",
        "Wrong extension",
        "Small class",
        "Classes before and after",
    ):
        assert title in page
    assert page.index('id="truncated"') < page.index(
        'id="wrong_extension"'
    )  # what was rejected comes first


def test_the_page_names_leaks_of_the_source(tmp_path):
    raw = tmp_path / "leaky"
    for at, split in enumerate(("train", "test")):
        for index, name in enumerate("ab"):
            (raw / split / name).mkdir(parents=True)
            for number in range(3):
                scene(number + 10 * index + 100 * at).save(raw / split / name / f"{number}.png")
    scene(100).save(raw / "train/a/again.png")
    darkroom(raw)
    page = (datasets.load("leaky").folder / "findings.html").read_text(encoding="utf-8")
    assert "1 group (2 files) lie in test and train" in page and "two splits" in page
