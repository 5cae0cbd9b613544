import os
import shutil
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import paths
from lib.data import dataset as datasets
from lib.data import file_listing, intake, sources
from lib.errors import DarkroomError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def draw(folder, *names, size=(12, 10)):
    """Writes a different picture under each name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(os.fsencode(name))
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(
            path, "PNG"
        )
    return folder


def told(rows):
    return {row.path: (row.label, row.source_split) for row in rows.itertuples()}


def test_class_folders_are_referred_to_in_place(tmp_path):
    folder = draw(
        tmp_path / "animals", "cat/1.png", "cat/2.png", "dog 犬/1.png", "dog 犬/deep/er/2.png"
    )
    data = intake.bring(str(folder))
    assert (data.name, data.raw, data.source["kind"], data.source["mode"]) == (
        "animals",
        folder,
        "folders",
        "reference",
    )
    assert told(sources.rows(data)) == {
        "cat/1.png": ("cat", None),
        "cat/2.png": ("cat", None),
        "dog 犬/1.png": ("dog 犬", None),
        "dog 犬/deep/er/2.png": ("dog 犬", None),
    }
    assert intake.bring(str(folder)) == data == datasets.load("animals")
    assert datasets.names() == ["animals"]


def test_folders_dropped_into_datasets(home):
    draw(home / "datasets/one/raw", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    draw(home / "datasets/two", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    assert intake.bring("one").raw == home / "datasets/one/raw"
    two = intake.bring("two")
    assert two.raw == two.folder
    (two.folder / "splits").mkdir()
    draw(two.folder, "splits/own.png")
    assert len(sources.rows(two)) == 4  # what the suite writes there is not data


def test_digits_are_written_as_pictures():
    data = intake.bring("digits")
    rows = sources.rows(data)
    assert len(rows) == 1797 and sorted(rows["label"].unique()) == [
        str(digit) for digit in range(10)
    ]
    assert data.source["licence"] == "CC BY 4.0"
    assert data.read_as.startswith("10 classes: 0 178, 1 182, ")
    assert data.read_as.endswith(" · label from the digit, which is the folder's name")
    assert np.asarray(Image.open(data.raw / "0/0000.png")).max() == 239  # 15 of 16 levels


@pytest.mark.parametrize("name", sources.PACKAGED)
def test_every_packaged_set_has_its_module(name):
    source = sources.module(name)
    assert (source.NAME, callable(source.intake)) == (name, True)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DarkroomError, match="pip install elpv-dataset"):
        intake.bring("elpv")
    assert datasets.names() == []


def test_an_interrupted_intake_is_done_again(home, monkeypatch):
    from lib.data.sources import digits

    monkeypatch.setattr(digits, "intake", lambda raw: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        intake.bring("digits")
    monkeypatch.undo()
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    assert len(sources.rows(intake.bring("digits"))) == 1797


@pytest.mark.parametrize(
    "files, sentence",
    [
        ((), "is empty"),
        (("a/1.png", "a/2.png"), "only the class 'a'"),
        (("1.png", "2.png"), "none in a class folder"),
        (("a/1.png", "a/2.png", "b/1.png"), "class 'b' .* has only one image"),
    ],
)
def test_unusable_folders_are_refused_at_the_door(tmp_path, files, sentence):
    (tmp_path / "bad").mkdir()
    with pytest.raises(DarkroomError, match=sentence):
        intake.bring(str(draw(tmp_path / "bad", *files)))
    assert datasets.names() == []


def test_a_folder_of_texts_is_refused(tmp_path):
    for name in ("a/1.txt", "a/2.txt", "b/1.jpg"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text("BMW, not a picture")
    (tmp_path / "texts/b/1.jpg").write_text("neither")
    (tmp_path / "texts/a/1.txt").write_text("neither, as well")
    (tmp_path / "texts/a/2.txt").write_text("neither, as well")
    with pytest.raises(DarkroomError, match="None of the 3 files .* is an image"):
        intake.bring(str(tmp_path / "texts"))


def test_what_is_not_there_is_named_with_what_is(tmp_path):
    intake.bring(str(draw(tmp_path / "animals", "a/1.png", "a/2.png", "b/1.png", "b/2.png")))
    with pytest.raises(
        DarkroomError, match="no data set 'animal'. Did you mean 'animals'. There are: animals, "
    ):
        intake.bring("animal")
    with pytest.raises(DarkroomError, match="no folder, table or archive"):
        intake.bring(str(tmp_path / "nowhere"))
    with pytest.raises(DarkroomError, match="is a file, neither a table"):
        intake.bring(str(tmp_path / "animals/a/1.png"))


def test_two_folders_of_one_name_have_names_of_their_own(tmp_path):
    names = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    first = intake.bring(str(draw(tmp_path / "x/animals", *names)))
    other = draw(tmp_path / "y/animals", *names)
    second = intake.bring(str(other))
    assert (first.name, second.name) == ("animals", "y_animals")
    assert (
        intake.bring(str(other)).name == "y_animals" and intake.name_of(str(other)) == "y_animals"
    )
    assert intake.bring(str(other), name="others").raw == other
    with pytest.raises(DarkroomError, match="name 'animals' is taken .* --name NAME"):
        intake.bring(str(other), name="animals")


def test_a_full_disk_is_reported_before_unpacking(tmp_path, monkeypatch):
    folder = draw(tmp_path / "animals", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    packed = shutil.make_archive(str(tmp_path / "animals"), "zip", folder)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DarkroomError, match="make room, or refer to a folder in place"):
        intake.bring(packed)
    assert not (paths.dataset("animals") / "raw").exists()


def test_raw_of_the_user_is_never_overwritten(home, tmp_path):
    draw(home / "datasets/animals/raw", "a/1.png")
    folder = draw(tmp_path / "animals", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    packed = shutil.make_archive(str(tmp_path / "animals"), "zip", folder)
    with pytest.raises(DarkroomError, match="is there already"):
        intake.bring(packed)


def test_the_walk_names_what_it_cannot_read(tmp_path):
    draw(
        tmp_path / "d",
        "a/1.png",
        "a/🐈.png",
        "a/" + "é" * 125 + ".png",
        ".hidden/1.png",
        "a/Thumbs.db",
    )
    draw(tmp_path, "outside.png")
    (tmp_path / "d/loop").symlink_to(tmp_path / "d")
    (tmp_path / "d/a/out.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "d/a/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "d/a/in.png").symlink_to(tmp_path / "d/a/1.png")
    os.mkfifo(tmp_path / "d/a/pipe.png")
    (tmp_path / "d/a" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    problems = {file.path: file.problem for file in file_listing.files(tmp_path / "d")}
    assert problems == {
        "a/1.png": None,
        "a/in.png": None,
        "a/🐈.png": None,
        "a/" + "é" * 125 + ".png": None,
        "loop": "link_folder",
        "a/out.png": "link_outside",
        "a/gone.png": "unreadable",
        "a/pipe.png": "special",
        r"a/caf\xe9.png": "name_not_text",
    }


def test_raw_digest_moves_with_the_files(tmp_path):
    data = intake.bring(str(draw(tmp_path / "d", "a/1.png", "a/2.png", "b/1.png", "b/2.png")))
    before = data.raw_digest()
    assert before == data.raw_digest()
    draw(tmp_path / "d", "b/3.png")
    assert data.raw_digest() != before
    (tmp_path / "d/b/3.png").unlink()
    assert data.raw_digest() == before
    os.utime(tmp_path / "d/b/2.png", ns=(5, 5))
    assert data.raw_digest() == before
    draw(tmp_path / "d", "b/2.png", size=(9, 9))
    assert data.raw_digest() != before


def test_what_has_not_been_cleaned_says_so(tmp_path):
    data = intake.bring(str(draw(tmp_path / "d", "a/1.png", "a/2.png", "b/1.png", "b/2.png")))
    with pytest.raises(DarkroomError, match="no manifest yet; run 1_clean"):
        data.manifest()
    with pytest.raises(DarkroomError, match="Run 1_clean"):
        datasets.load("d2")


TABLE = pd.DataFrame(
    {
        "file": ["1.png", "2.png", "3.png", "4.png", "5.png", "6.png", "lost.png"],
        "genre": ["b|a", "b", "a", "a|b", "a", "b", None],
        "split": ["train", "test", "train", "valid", "train", "odd", "train"],
        "Year made": range(1999, 2006),
        "xmin": [1, 2, 3, 4, 5, 6, 7],
        "ymin": [0] * 7,
        "xmax": [9] * 7,
        "ymax": [8] * 7,
    }
)


@pytest.mark.parametrize(
    "several, labels",
    [
        ("first", ["b", "b", "a", "a", "a", "b"]),
        ("last", ["a", "b", "a", "b", "a", "b"]),
        ("join", ["a + b", "b", "a", "a + b", "a", "b"]),
        ("drop", [None, "b", "a", None, "a", "b"]),
    ],
)
def test_a_table_gives_labels_attributes_and_boxes(tmp_path, several, labels):
    folder = draw(tmp_path / "posters", *(f"images/{i}.png" for i in range(1, 7)))
    TABLE.to_csv(folder / "posters.csv", index=False)
    data = intake.bring(
        str(folder), options={"separator": "|", "several": several, "split_names": "odd:none"}
    )
    rows = sources.rows(data)
    assert data.source["kind"] == "table" and data.source["options"]["label"] == "genre"
    assert list(rows["path"]) == [*(f"images/{i}.png" for i in range(1, 7)), "images/lost.png"]
    assert list(rows["label"]) == [*labels, None] and rows["problem"][6] == "missing"
    assert list(rows["source_split"]) == ["train", "test", "train", "val", "train", None, "train"]
    assert list(rows["attr_year_made"][:2]) == [1999, 2000] and list(rows["attr_genre"][:2]) == [
        "b|a",
        "b",
    ]
    assert rows.loc[1, ["box_left", "box_top", "box_right", "box_bottom"]].tolist() == [2, 0, 9, 8]


def test_a_parquet_table_with_another_label_and_names_without_ending(tmp_path):
    folder = draw(tmp_path / "art", *(f"{i}.png" for i in (1, 2, 3, 4)))
    pd.DataFrame(
        {"id": ["1", "2", "3", "4"], "style": list("aabb"), "artist": list("xyxy")}
    ).to_parquet(folder / "art.parquet")
    rows = sources.rows(intake.bring(str(folder / "art.parquet"), options={"label": "artist"}))
    assert told(rows) == {
        "1.png": ("x", None),
        "2.png": ("y", None),
        "3.png": ("x", None),
        "4.png": ("y", None),
    }
    assert list(rows["attr_style"]) == list("aabb")


def test_a_table_refuses_what_it_lacks(tmp_path):
    folder = draw(tmp_path / "art", *(f"{i}.png" for i in (1, 2, 3, 4)))
    pd.DataFrame({"id": ["1", "2", "3", "4"], "style": list("aabb")}).to_csv(
        folder / "art.csv", index=False
    )
    with pytest.raises(DarkroomError, match="no column 'stile'.*Did you mean 'style'"):
        intake.bring(str(folder), options={"label": "stile"})
    with pytest.raises(DarkroomError, match="`several` must be one of"):
        intake.bring(str(folder), options={"several": "frist"})


def test_two_columns_of_a_table_that_would_be_one_are_refused(tmp_path):
    folder = draw(tmp_path / "art", *(f"{i}.png" for i in (1, 2, 3, 4)))
    told = {
        "id": ["1", "2", "3", "4"],
        "style": list("aabb"),
        "Year made": [1, 2, 3, 4],
        "year_made": [5, 6, 7, 8],
    }
    pd.DataFrame(told).to_csv(folder / "art.csv", index=False)
    with pytest.raises(
        DarkroomError,
        match="Two columns of art.csv would both be called attr_year_made, one of them",
    ):
        intake.bring(str(folder), options={"label": "style"})


def test_a_zip_and_a_tar_are_unpacked(tmp_path):
    folder = draw(tmp_path / "animals", "a/1.png", "a/2.png", "b: c/1.png", "b: c/2.png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    with tarfile.open(tmp_path / "more.tar.gz", "w:gz") as archive:
        archive.add(folder, "animals")
    for name in ("pets.zip", "more.tar.gz"):
        data = intake.bring(str(tmp_path / name))
        assert set(sources.rows(data)["label"]) == {"a", "b: c"} and len(sources.rows(data)) == 4
        assert intake.bring(str(tmp_path / name)) == data


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/out.png", "a/../../out.png", "..\\out.png", "a/.. /out.png"]
)
def test_an_archive_does_not_write_outside(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(DarkroomError, match="leads out of it"):
        intake.bring(str(tmp_path / "evil.zip"))
    assert not list(tmp_path.rglob("out.png")) and datasets.names() == []


def test_an_archive_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(60_000_000))
    with pytest.raises(DarkroomError, match="times its size, as bombs do"):
        intake.bring(str(tmp_path / "bomb.zip"))


def test_a_tar_whose_headers_lead_back_is_refused(tmp_path):
    member = tarfile.TarInfo("a/1.png")
    member.size = -tarfile.BLOCKSIZE
    head = member.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "back.tar").write_bytes(head * 2 + bytes(1024))
    with pytest.raises(DarkroomError, match="holds a file of -512 bytes; it is damaged or hostile"):
        intake.bring(str(tmp_path / "back.tar"))


def test_a_tar_of_empty_files_is_counted_by_its_headers(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.data.sources.archives.FREE_OF_RATIO", 100_000)
    with tarfile.open(tmp_path / "empty.tar.xz", "w:xz") as archive:
        for _ in range(3_000):
            archive.addfile(tarfile.TarInfo("a/1.png"))
    with pytest.raises(DarkroomError, match="times its size, as bombs do"):
        intake.bring(str(tmp_path / "empty.tar.xz"))


def test_links_in_an_archive_are_left_out(tmp_path):

    folder = draw(tmp_path / "animals", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (folder / "a/link.png").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(folder, "animals")
    assert len(intake.bring(str(tmp_path / "t.tar")).files()) == 4


def test_a_box_may_be_reported_by_its_corner_and_size(tmp_path):
    folder = draw(tmp_path / "art", *(f"{i}.png" for i in (1, 2, 3, 4)))
    pd.DataFrame(
        {
            "id": ["1", "2", "3", "4"],
            "bbox_x": [1, 2, 3, None],
            "bbox_y": 5,
            "bbox_width": 6,
            "bbox_height": 3,
            "kind": list("aabb"),
        }
    ).to_csv(folder / "art.csv", index=False)
    rows = sources.rows(intake.bring(str(folder)))
    assert rows.loc[1, ["box_left", "box_top", "box_right", "box_bottom"]].tolist() == [2, 5, 8, 8]
    assert rows["box_left"].isna().tolist() == [False, False, False, True] and list(
        rows["label"]
    ) == list("aabb")
    assert not [name for name in rows.columns if name.startswith("attr_")]


@pytest.mark.parametrize(
    "limit, value, sentence",
    [
        ("MOST_FILES", 3, "holds more than 3 files"),
        ("MOST_BYTES", 1000, "unpacks to more than 0 GB"),
    ],
)
def test_an_archive_beyond_a_limit_is_refused(tmp_path, monkeypatch, limit, value, sentence):
    from lib.data.sources import archives

    folder = draw(tmp_path / "animals", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(DarkroomError, match=sentence):
        intake.bring(str(tmp_path / "pets.zip"))
    assert datasets.names() == []


def test_an_archive_that_is_about_a_size_is_refused(tmp_path):
    from lib.data.sources import archives

    with zipfile.ZipFile(tmp_path / "liar.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(5_000))
    packed = (tmp_path / "liar.zip").read_bytes()
    (tmp_path / "liar.zip").write_bytes(
        packed.replace((5_000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    )
    with pytest.raises(DarkroomError, match="damaged|lies about the size"):
        archives.extract(tmp_path / "liar.zip", tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.png")) <= 51


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a/1.png", b"x")
        archive.writestr("A/1.PNG", b"y")
    with pytest.raises(DarkroomError, match="twice"):
        intake.bring(str(tmp_path / "twice.zip"))
