"""How folders and tables of known shapes are read: the labels, the splits, the groups, or the
question that is asked.

Reading opens no picture, so one small picture stands for all of them here.
"""

import gzip
import io
import json
import lzma
import unicodedata
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from intake_folders import PICTURE, each, fill, labels, read, splits, table
from PIL import Image

from lib.cleaning import clean, scan
from lib.data import file_listing, intake, sources
from lib.errors import DarkroomError

CDO = ("cat", "dog", "owl")


# -- Folders: (files, classes with their numbers, splits) -----------------------------------------

FOLDERS = {
    "plain": (each("{c}/{i}.png", c=CDO), dict.fromkeys(CDO, 4), {}),
    "a split twice": (
        [*each("training/training/{c}/{i}.png", c=CDO),
         *each("validation/validation/{c}/{i}.png", n=2, c=CDO)],
        dict.fromkeys(CDO, 6), {"train": 12, "val": 6},
    ),
    "fruits-360": (
        [*each("fruits-360/Training/{c}/{i}.png", c=("Apple 1", "Pear 2")),
         *each("fruits-360/Test/{c}/{i}.png", n=2, c=("Apple 1", "Pear 2")),
         *each("fruits-360/test-multiple_fruits/{i}.png"), *each("fruits-360/papers/{i}.png", n=1)],
        {"Apple 1": 6, "Pear 2": 6}, {"train": 8, "test": 4},
    ),
    "chest x-ray with a nested copy": (
        [*each("chest_xray/{s}/{c}/{i}.png", s=("train", "test", "val"), c=("NORMAL", "PNEUMONIA")),
         *each("chest_xray/chest_xray/{s}/{c}/{i}.png", s=("train", "test", "val"),
               c=("NORMAL", "PNEUMONIA"))],
        {"NORMAL": 12, "PNEUMONIA": 12}, {"train": 8, "test": 8, "val": 8},
    ),
    "stanford dogs": (
        [*each("images/Images/{c}/{i}.png", c=("n02085620-Chihuahua", "n02085782-Japanese_spaniel"))],
        {"n02085620-Chihuahua": 4, "n02085782-Japanese_spaniel": 4}, {},
    ),
    "images below each class": (each("train/{c}/images/{i}.png", c=CDO), dict.fromkeys(CDO, 4),
                                {"train": 12}),
    "covid radiography: masks beside images": (
        each("{c}/{k}/{i}.png", c=("COVID", "Normal"), k=("images", "masks")),
        {"COVID": 4, "Normal": 4}, {},
    ),
    "mvtec": (
        [*each("bottle/train/good/{i}.png"), *each("bottle/test/{c}/{i}.png", c=("good", "crack")),
         *each("bottle/ground_truth/crack/{i}.png")],
        {"good": 8, "crack": 4}, {"train": 4, "test": 8},
    ),
    "asl alphabet": (
        [*each("asl_alphabet_train/asl_alphabet_train/{c}/{i}.png", c=("A", "B")),
         *each("asl_alphabet_test/asl_alphabet_test/{i}.png")],
        {"A": 4, "B": 4}, {"train": 8},
    ),
    "split below the class": (
        each("{c}/{s}/{i}.png", s=("train", "test"), c=CDO), dict.fromkeys(CDO, 8),
        {"train": 12, "test": 12},
    ),
    "class and split in one name": (
        each("{s}_{c}/{i}.png", s=("train", "test"), c=("cats", "dogs")),
        {"cats": 8, "dogs": 8}, {"train": 8, "test": 8},
    ),
    "letters above the classes": (
        [*each("A/{c}/{i}.png", c=("apple", "ant")), *each("B/{c}/{i}.png", c=("bear", "bee"))],
        {"ant": 4, "apple": 4, "bear": 4, "bee": 4}, {},
    ),
    "a class that is called train": (each("{c}/{i}.png", c=("train", "boat", "car")),
                                     {"boat": 4, "car": 4, "train": 4}, {}),
    "some pictures deeper": (
        [*each("{c}/{i}.png", c=CDO), *each("dog/more/of/them/{i}.png")],
        {"cat": 4, "dog": 8, "owl": 4}, {},
    ),
    "letters above, one class in two rooms (SUN397)": (
        [*each("a/{c}/{i}.png", n=8, c=("abbey", "alley")), *each("b/bakery/shop/{i}.png"),
         *each("c/church/{k}/{i}.png", n=2, k=("indoor", "outdoor"))],
        {"abbey": 8, "alley": 8, "bakery": 4, "church": 4}, {},
    ),
    "ids of a class and of its pictures (ImageNet)": (
        each("{c}/{c}_{i}.png", c=("n01440764", "n01443537", "n01484850")),
        {"n01440764": 4, "n01443537": 4, "n01484850": 4}, {},
    ),
    "numbered folders of faces (AT&T)": (
        each("s{c}/{i}.png", c=("1", "2", "3")), {"s1": 4, "s2": 4, "s3": 4}, {},
    ),
    "train2017 and val2017": (
        each("{s}/{c}/{i}.png", s=("train2017", "val2017"), c=CDO), dict.fromkeys(CDO, 8),
        {"train": 12, "val": 12},
    ),
    "splits in other languages": (
        [*each("entrenamiento/{c}/{i}.png", c=CDO), *each("validación/{c}/{i}.png", n=1, c=CDO),
         *each("Testdaten/{c}/{i}.png", n=2, c=CDO)],
        dict.fromkeys(CDO, 7), {"train": 12, "val": 3, "test": 6},
    ),
    "splits in one word": (
        [*each("trainset/{c}/{i}.png", c=CDO), *each("TestImages/{c}/{i}.png", n=2, c=CDO)],
        dict.fromkeys(CDO, 6), {"train": 12, "test": 6},
    ),
    "unlabelled pictures beside a split": (
        [*each("train/{c}/{i}.png", c=CDO), *each("unlabeled/{i}.png")],
        dict.fromkeys(CDO, 4), {"train": 12},
    ),
    "a loose picture beside the class folders": (
        [*each("photos/{c}/{i}.png", c=CDO), "photos/cover.png", "readme.png"],
        dict.fromkeys(CDO, 4), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_read(tmp_path, name):
    files, classes, expected_splits = FOLDERS[name]
    fill(tmp_path, *files)
    reading = read(tmp_path)
    assert labels(reading) == classes
    assert splits(reading) == expected_splits


GROUPED = {
    "patients by name": (
        each("patient_{p}/{c}/{i}.png", p=tuple("12345"), c=("ill", "well")),
        {"ill": 20, "well": 20}, 5,
    ),
    "patients below the classes": (
        each("{c}/patient_{p}/{i}.png", c=("ill", "well"), p=tuple("12345")),
        {"ill": 20, "well": 20}, 5,
    ),
    "augmented copies of roboflow": (
        [f"{c}/{n}_jpg.rf.{k:032x}.png" for c in CDO for n in range(4) for k in range(3)],
        dict.fromkeys(CDO, 12), 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPED)
def test_groups_of_folders_and_names(tmp_path, name):
    files, classes, groups = GROUPED[name]
    reading = read(fill(tmp_path, *files))
    assert labels(reading) == classes and reading.group
    assert reading.rows["source_group"].nunique() == groups


QUESTIONS = {
    "super-classes": (
        [*each("animals/{c}/{i}.png", c=("cat", "dog")), *each("plants/{c}/{i}.png", c=("oak", "fir"))],
        "level=1 gives 2 classes: .*level=2 gives 4 classes",
    ),
    "two crossed levels": (
        each("{a}/{b}/{i}.png", a=("day", "night"), b=("car", "bus")),
        "level=1 gives 2 classes: day 8, night 8; level=2 gives 2 classes: bus 8, car 8",
    ),
    "folders of pictures in class folders": (
        [*each("cat/{s}/{i}.png", s=("siam", "angora")), *each("dog/{s}/{i}.png", s=("pug", "collie"))],
        "level=1 .*level=2",
    ),
    "all categories of mvtec": (
        [*each("{o}/train/good/{i}.png", o=("bottle", "cable")),
         *each("{o}/test/{c}/{i}.png", o=("bottle", "cable"), c=("good", "cut"))],
        "level=1 .*level=3",
    ),
    "breakhis": (
        [*each("benign/SOB/{c}/{p}/{m}/{i}.png", c=("adenosis", "tubular"),
               p=("B_14-2254", "B_14-2255"), m=("40X", "100X")),
         *each("malignant/SOB/{c}/{p}/{m}/{i}.png", c=("ductal", "lobular"),
               p=("M_14-3254", "M_14-3255"), m=("40X", "100X"))],
        "level=1 .*level=3",
    ),
    "an unknown split with the same classes": (
        each("{s}/{c}/{i}.png", s=("train", "test", "holdout"), c=CDO),
        "holdout.*no split is known.*split_names=holdout:test",
    ),
    "two unknown splits beside train": (
        each("{s}/{c}/{i}.png", s=("train", "eval", "holdout"), c=CDO),
        "split_names=eval:test,holdout:test .*ignore=eval,holdout",
    ),
    "splits without classes": (
        each("{s}/{i}.png", s=("training", "reserve")), "no folder level with two classes",
    ),
    "a flat folder": (each("{c}.{i}.png", n=6, c=("cat", "dog")),
                      "label=name reads the file names, 2 classes: cat 6, dog 6"),
    "numbered pieces of a download": (
        each("images_part_{k}/{i}.png", k=("1", "2")), "no folder level with two classes",
    ),
    "letters of two cases": (each("{c}/{i}.png", c=("a", "A", "b")), "names=merge .*names=keep"),
    "look-alike letters": (each("{c}/{i}.png", c=("cat", "c\u0430t", "dog")), "names=merge"),
    "separators": (each("{c}/{i}.png", c=("not ripe", "not_ripe", "ripe")), "names=merge"),
    "a split among the classes": (
        [*each("train/{c}/{i}.png", c=CDO), *each("train/test/{c}/{i}.png", c=CDO)],
        "train/test holds folders of the same names as its sibling folders; say ignore=test",
    ),
    "splits in some folders only (casting)": (
        [*each("a/a/{s}/{c}/{i}.png", s=("train", "test"), c=("ok", "def")),
         *each("a_512/a_512/{c}/x{i}.png", c=("ok", "def"))],
        "a_512 hold the same classes .* not in the splits test, train; say ignore=a_512, or split=none",
    ),
    "a test inside train and one beside it": (
        [*each("train/test/{c}/{i}.png", c=CDO), *each("test/{c}/x{i}.png", c=CDO)],
        "train/test lies below train and is called test: which split is it",
    ),
    "folders of persons with words in the names (KDEF)": (
        [f"KDEF/{p}/{p}{e}.png" for p in ("AF01", "AF02", "BM03") for e in ("AN", "HA", "SU")],
        "level=2 takes the folders AF01, AF02, BM03 as classes",
    ),
    "sessions of subjects (CK+)": (
        each("{p}/{s}/{i}.png", p=("S005", "S010", "S011"), s=("001", "002")),
        "level=1 takes the folders S005, .*level=2 takes the folders 001, 002 as classes",
    ),
    "folders of subjects alone": (
        each("subject0{p}/{i}.png", p=tuple("123")), "level=1 takes the folders subject01",
    ),
    "more data in a nested folder": (
        [*each("{c}/{i}.png", c=CDO), *each("more/{c}/x{i}.png", n=9, c=CDO)],
        "ignore=more .*level=last",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_can_be_read_in_two_ways_is_asked(tmp_path, name):
    files, question = QUESTIONS[name]
    with pytest.raises(DarkroomError, match=question):
        read(fill(tmp_path, *files))


def test_pictures_below_their_class_folder_are_named(tmp_path):
    files, classes, _ = FOLDERS["letters above, one class in two rooms (SUN397)"]
    reading = read(fill(tmp_path, *files))
    assert labels(reading) == classes
    assert "8 pictures lie in folders below their class folder." in reading.notes


def test_a_level_decides_and_the_other_levels_become_attributes(tmp_path):
    fill(tmp_path, *each("{a}/{b}/{i}.png", a=("day", "night"), b=("car", "bus")))
    reading = read(tmp_path, level=2)
    assert labels(reading) == {"bus": 8, "car": 8} and reading.label == "folder level 2"
    assert set(reading.rows["attr_folder_1"]) == {"day", "night"}
    assert labels(read(tmp_path, level="1")) == {"day": 8, "night": 8}
    with pytest.raises(DarkroomError, match="no folder level 3"):
        read(tmp_path, level=3)


def test_names_that_are_certainly_the_same_are_merged(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    fill(tmp_path, *each("{c}/{i}.png", c=(nfc, nfd, "Dog", "dog", "owl", "owl ")))
    reading = read(tmp_path)
    assert labels(reading) == {nfc: 8, "dog": 8, "owl": 8}
    assert any("6 names are 3 classes" in note for note in reading.notes)
    assert len(labels(read(tmp_path, names="keep"))) == 4  # spaces and forms are no other names


def test_classes_that_one_split_lacks_are_named(tmp_path):
    fill(tmp_path, *each("train/{c}/{i}.png", c=("ripe", "unripe")),
         *each("test/{c}/{i}.png", c=("ripe", "not ripe")))  # fmt: skip
    (note,) = read(tmp_path).notes
    assert "'not ripe' is in test only" in note and "'unripe' is in train only" in note


def test_hidden_folders_and_litter(tmp_path):
    fill(tmp_path, *each("{c}/{i}.png", c=CDO), *each(".NET/{i}.png"), ".git/x.png", "cat/.a.png")
    reading = read(tmp_path)
    assert reading.files_not_used == {
        "in the hidden folder .NET": 4,
        "the name starts with a dot": 1,
    }
    used = sources.read_folder(
        tmp_path, file_listing.files(tmp_path, hidden="use"), {"hidden": "use"}
    )
    assert labels(used) == {".NET": 4, "cat": 5, "dog": 4, "owl": 4}


def test_ignore_and_split_names(tmp_path):
    fill(tmp_path, *each("{s}/{c}/{i}.png", s=("train", "test", "holdout"), c=CDO))
    assert splits(read(tmp_path, split_names="holdout:val")) == {"test": 12, "train": 12, "val": 12}
    open_ones = read(tmp_path, split_names="holdout:val,test:none")
    assert splits(open_ones) == {"train": 12, "val": 12}
    assert labels(open_ones) == dict.fromkeys(CDO, 12)  # the pictures of test have no split
    rows = open_ones.rows[open_ones.rows["path"].str.startswith("test/")]
    assert rows["source_split"].isna().all() and len(rows) == 12
    left = read(tmp_path, ignore="holdout")
    assert splits(left) == {"test": 12, "train": 12}
    assert left.files_not_used["left out by ignore="] == 12


def test_links_are_refused_with_the_way_out_and_followed_when_asked(tmp_path):
    fill(tmp_path / "store", *each("{c}/{i}.png", c=CDO))
    for file in sorted((tmp_path / "store").rglob("*.png")):
        link = tmp_path / "linked" / file.parent.name / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    with pytest.raises(DarkroomError, match="12 of the entries .* are links .*links=follow"):
        read(tmp_path / "linked")
    for links in ("follow", str(tmp_path / "store")):
        files = file_listing.files(tmp_path / "linked", links=links)
        assert labels(sources.read_folder(tmp_path / "linked", files, {"links": links})) == (
            dict.fromkeys(CDO, 4)
        )
    elsewhere = file_listing.files(tmp_path / "linked", links=str(tmp_path / "other"))
    assert {file.problem for file in elsewhere} == {"link_outside"}


def test_linked_folders_are_followed_without_end(tmp_path):
    fill(tmp_path / "store", *each("{c}/{i}.png", c=CDO))
    (tmp_path / "set").mkdir()
    for name in CDO:
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "store/cat/again").symlink_to(tmp_path / "store/cat")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    files = file_listing.files(tmp_path / "set", links="follow")
    assert [file.path for file in files if file.problem is None] == [
        f"{name}/1{number:03}.png" for name in CDO for number in range(4)
    ]


# -- Tables ---------------------------------------------------------------------------------------


def flat(root, n=12, folder="images", name="{i}.png"):
    fill(root, *(f"{folder}/{name.format(i=i)}" if folder else name.format(i=i) for i in range(n)))
    return root


def _lines(*rows, head="image,label"):
    return "\n".join([head, *rows] if head else rows) + "\n"


def _cells(*words, first=0, stop=12, sign=","):
    return [f"{i}.png{sign}{words[i % len(words)]}" for i in range(first, stop)]


AB = _lines(*_cells("a", "b"))
WRITTEN = {
    # name: (file -> text or bytes, the classes)
    "packed by gzip": ({"labels.csv.gz": gzip.compress(AB.encode())}, ("a", "b")),
    "packed by xz": ({"labels.csv.xz": lzma.compress(AB.encode())}, ("a", "b")),
    "a shared last word": (
        {"list.txt": _lines(*_cells("red car", "blue car", sign=" "), head="")},
        ("red car", "blue car"),
    ),
    "a shared first word and a split": (
        {"list.txt": _lines(*_cells("ripe fig train", "ripe pear train", sign=" "), head="")},
        ("ripe fig", "ripe pear"),
    ),
    "a split before the class": (
        {"list.txt": _lines(*_cells("train fig", "train pear", sign=" "), head="")},
        ("fig", "pear"),
    ),
    "a list of each class": (
        {"fig.txt": "\n".join(f"{i}.png" for i in range(0, 12, 2)),
         "pear.txt": "\n".join(f"{i}.png" for i in range(1, 12, 2))},
        ("fig", "pear"),
    ),
    "two tables one behind the other": (
        {"labels.csv": f"\ufeff{_lines(*_cells('a', 'b', stop=6))}"
                       f"\ufeff{_lines(*_cells('a', 'b', first=6))}"},
        ("a", "b"),
    ),
    "remarks above the header": ({"labels.csv": f"# by me, 2024\n# of 12\n{AB}"}, ("a", "b")),
    "Portuguese of another system": (
        {"labels.csv": _lines(*_cells("infec\xe7\xe3o", "les\xe3o")).encode("cp1252")},
        ("infec\xe7\xe3o", "les\xe3o"),
    ),
    "decimal commas": (
        {"labels.csv": _lines(*_cells("1,0", "1,5", sign=";"), head="image;label")}, ("1,0", "1,5")
    ),
    "escaped names": (
        {"labels.csv": AB.replace(".png", "%2Epng").replace("\n", "\nhttps://a.example/x/", 1)},
        ("a", "b"),
    ),
    "classes that are absent": (
        {"train.csv": "ImageID,LabelName,Confidence\n"
                      + _lines(*_cells("a,1", "b,1"), *_cells("b,0", "a,0"), head="")},
        ("a", "b"),
    ),
    "a class and its box": (
        {"labels.csv": _lines(*(f"{i}.png,n0{i % 2} {i} 2 30 4{i % 5} " for i in range(12)))},
        ("n00", "n01"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_tables_as_they_are_written(tmp_path, name):
    files, classes = WRITTEN[name]
    fill(tmp_path, *(f"images/{i}.png" for i in range(12)))
    for file, text in files.items():
        (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    reading = read(tmp_path)
    assert labels(reading) == dict.fromkeys(classes, 6)
    found = reading.rows.set_index("path")["label"]
    assert (found["images/0.png"], found["images/11.png"]) == classes
    assert reading.rows_not_used.total() == 0


UNCLEAR = {
    "whole numbers with and without .0": (_cells("1", "2", "1.0", "2.0"), "'1' and '1.0'"),
    "quoted and plain": (_cells("a", "'a'", "b"), "same classes: .*'a'"),
    "a text of another system": (["0.png,caf\u017d", *_cells("caf\u017d", "a", first=1)],
                                 "words such as 'caf\u017d'; say encoding="),
    "Chinese": (["0.png,\xb9\xb7", *_cells("\xc3\xa8", "\xb9\xb7", first=1)],
                "gives words such as '\xb9\xb7'; say encoding="),
    "Japanese": (["0.png,\u0192l\u0192R", *_cells("\u0192l\u0192R", "a", first=1)], "say encoding="),
    "more cells than names": (_cells("1,0", "1,5"), "row 2 has 3 cells"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_cells_that_may_mean_two_things_are_asked(tmp_path, name):
    rows, refused = UNCLEAR[name]
    fill(tmp_path, *(f"images/{i}.png" for i in range(12)))
    (tmp_path / "labels.csv").write_bytes(_lines(*rows).encode("cp1252"))
    with pytest.raises(DarkroomError, match=refused):
        read(tmp_path)


def test_lists_that_share_a_picture_or_are_parts_give_no_classes(tmp_path):
    fill(tmp_path, *(f"images/{i}.png" for i in range(12)))
    for name, numbers in (("fig", range(7)), ("pear", range(6, 12))):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{i}.png" for i in numbers))
    with pytest.raises(DarkroomError, match="lists fig.txt and pear.txt name an image again"):
        read(tmp_path)
    for old, new in (("fig", "images_1"), ("pear", "images_2")):
        (tmp_path / f"{old}.txt").rename(tmp_path / f"{new}.txt")
    with pytest.raises(DarkroomError, match="no column that can be a label"):
        read(tmp_path)


def test_paths_that_lead_up_and_names_of_another_form_are_found(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    fill(tmp_path, *(f"{s}/{nfd}{i}.png" for s in ("old", "new") for i in range(4)))
    table(tmp_path, "image,label", [(f"../{nfc}{i}.png", "ab"[i % 2]) for i in range(4)],
          name="new/meta/labels.csv")  # fmt: skip
    rows = read(tmp_path, kind="table").rows.dropna(subset="label")
    assert sorted(rows["path"]) == sorted(f"new/{nfd}{i}.png" for i in range(4))


def test_flags_of_labelme_and_what_is_not_opened(tmp_path):
    fill(tmp_path, *(f"{i}.png" for i in range(8)))
    for i in range(8):
        flags = {"cat": i % 2 == 0, "dog": i % 2 == 1}
        (tmp_path / f"{i}.json").write_text(json.dumps({"flags": flags, "shapes": []}))
    (tmp_path / "owl.zip").write_bytes(b"PK")
    (tmp_path / "patients.xlsx").write_bytes(b"PK")
    reading = read(tmp_path)
    assert labels(reading) == {"cat": 4, "dog": 4}
    assert any(
        "Not read: owl.zip (an archive), patients.xlsx (an Excel" in n for n in reading.notes
    )


@pytest.mark.parametrize("text", ["None", "null", "nan", "NaN", "True", "1.0", "-"])
def test_a_label_is_the_text_of_its_cell(tmp_path, text):
    flat(tmp_path)
    table(tmp_path, "image,label", [(f"{i}.png", (text, "b")[i % 2]) for i in range(12)])
    assert set(labels(read(tmp_path))) == {text, "b"}


@pytest.mark.parametrize(
    ("sep", "encoding"),
    [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "cp1252"), ("|", "utf-8"), (";", "utf-16-le")],
)
def test_separator_and_encoding_are_found(tmp_path, sep, encoding):
    flat(tmp_path)
    rows = [(f"{i}.png", ("café", "thé")[i % 2], "1,5" if sep != "," else "1") for i in range(12)]
    table(tmp_path, sep.join(("image", "label", "weight")), rows, sep=sep, encoding=encoding)
    assert labels(read(tmp_path)) == {"café": 6, "thé": 6}


def test_a_list_file_and_paths_with_spaces(tmp_path):
    fill(tmp_path, *(f"my pictures/{i}.png" for i in range(12)))
    table(
        tmp_path, None, [(f"my pictures/{i}.png", i % 2) for i in range(12)], "train.txt", sep=" "
    )
    reading = read(tmp_path)
    assert labels(reading) == {"0": 6, "1": 6} and splits(reading) == {"train": 12}


def test_a_list_of_another_machine_whose_names_all_hold_a_space(tmp_path):
    fill(tmp_path, *(f"shots/shot {i}.png" for i in range(12)))
    rows = [(f"/home/bob/my data/shot {i}.png", "ab"[i % 2]) for i in range(12)]
    table(tmp_path, None, rows, "list.txt", sep=" ")
    assert labels(read(tmp_path)) == {"a": 6, "b": 6}


def test_a_list_without_header_that_names_splits(tmp_path):
    flat(tmp_path)
    rows = [(("TRAIN", "TEST")[i > 7], f"gs://bucket/{i}.png", "ab"[i % 2]) for i in range(12)]
    reading = read(table(tmp_path, None, rows))
    assert labels(reading) == {"a": 6, "b": 6} and splits(reading) == {"train": 8, "test": 4}


def test_lines_of_a_title_above_the_header(tmp_path):
    flat(tmp_path)
    rows = [("image", "Klasse"), *((f"{i}.png", "ab"[i % 2]) for i in range(12))]
    reading = read(table(tmp_path, "Project X;\nExport 2024;", rows, sep=";"))
    assert reading.label == "column Klasse of labels.csv" and labels(reading) == {"a": 6, "b": 6}
    assert "The first 2 lines of labels.csv are a title above its header." in reading.notes


HEADERS = {
    "units below the header": "image,label,mass\n-,-,kg\n",
    "two lines of a header": "meta,meta,box\nimage,label,mass\n",
    "merged cells": "image,animal,\n,label,mass\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_two_lines_of_a_header(tmp_path, name):
    rows = "".join(f"{i}.png,{'ab'[i % 2]},{i}\n" for i in range(12))
    (flat(tmp_path) / "labels.csv").write_text(HEADERS[name] + rows)
    reading = read(tmp_path)
    assert labels(reading) == {"a": 6, "b": 6} and reading.label == "column label of labels.csv"
    mass = reading.rows.set_index("path")["attr_mass"]
    assert [mass[f"images/{i}.png"] for i in range(12)] == [*range(12)]
    assert not sum(reading.rows_not_used.values()) and "line" in reading.notes[0]


def test_a_row_whose_file_is_not_there_is_no_header(tmp_path):
    rows = [("00099", "b"), *((f"{i:05}", "ab"[i % 2]) for i in range(12))]
    table(flat(tmp_path, name="{i:05}.png"), "image,label", rows)
    assert read(tmp_path).rows_not_used["missing: the file is not there"] == 1


@pytest.mark.parametrize(
    ("end", "expected_splits"), [("", {}), (" {split}", {"train": 9, "test": 3})]
)
def test_labels_of_several_words_in_a_list(tmp_path, end, expected_splits):
    words = ("red fox", "grey wolf pup", "wolf")
    lines = [f"{i:05}.png {words[i % 3]}{end}".format(split=("train", "test")[i > 8])
             for i in range(12)]  # fmt: skip
    (flat(tmp_path, name="{i:05}.png") / "list.txt").write_text("\n".join(lines))
    reading = read(tmp_path)
    assert labels(reading) == dict.fromkeys(sorted(words), 4)
    assert splits(reading) == expected_splits


def test_a_second_table_of_the_same_classes_that_differs_is_asked(tmp_path):
    table(flat(tmp_path), "image,label", [(f"{i}.png", "ab"[i % 2]) for i in range(12)])
    other = {f"{i}.png": "ab"[i % 2 if i else 1] for i in range(12)}
    (tmp_path / "corrected.json").write_text(json.dumps(other))
    with pytest.raises(DarkroomError, match="table=labels.csv .*table=corrected.json"):
        read(tmp_path)
    assert labels(read(tmp_path, table="corrected.json")) == {"a": 5, "b": 7}


def test_a_column_is_valid_is_the_split(tmp_path):
    rows = [(f"{i}.png", "ab"[i % 2], str(i > 8)) for i in range(12)]
    reading = read(table(flat(tmp_path), "name,label,is_valid", rows))
    assert splits(reading) == {"train": 9, "val": 3}


@pytest.mark.parametrize("kind", ["json", "project", "csv"])
def test_regions_of_via(tmp_path, kind):
    flat(tmp_path)
    box = {"name": "rect", "x": 1, "y": 2, "width": 5, "height": 4}
    pictures = {
        f"{i}.png99": {
            "filename": f"{i}.png",
            "regions": [{"shape_attributes": box, "region_attributes": {"species": "ab"[i % 2]}}],
            "file_attributes": {"place": {"wood": i < 6, "lake": i >= 6}},
        }
        for i in range(12)
    }
    if kind == "csv":
        parts = [
            (one["filename"], one["file_attributes"], *one["regions"][0].values())
            for one in pictures.values()
        ]
        cells = [[name, *map(json.dumps, values)] for name, *values in parts]
        names = ["filename", "file_attributes", "region_shape_attributes", "region_attributes"]
        pd.DataFrame(cells, columns=names).to_csv(tmp_path / "via.csv", index=False)
    else:
        whole = {"_via_settings": {"ui": {}}, "_via_img_metadata": pictures, "_via_attributes": {}}
        (tmp_path / "via.json").write_text(json.dumps(whole if kind == "project" else pictures))
    reading = read(tmp_path)
    assert labels(reading) == {"a": 6, "b": 6} and "column species" in reading.label
    assert set(reading.rows["box_right"]) == {6} and set(reading.rows["box_bottom"]) == {6}
    assert labels(read(tmp_path, label="place")) == {"lake": 6, "wood": 6}


def test_a_table_that_labels_few_of_the_pictures_is_a_question(tmp_path):
    table(flat(tmp_path, 40), "image,label", [(f"{i}.png", "ab"[i % 2]) for i in range(8)])
    with pytest.raises(DarkroomError, match="labels 8 pictures, and 32 others.*kind=table"):
        read(tmp_path)
    assert read(tmp_path, kind="table").files_not_used == {
        "unlabelled: not named in labels.csv": 32
    }


def test_names_that_are_there_twice_are_named(tmp_path):
    fill(tmp_path, *each("{c}/{i}.png", c=("cam1", "cam2")))
    table(tmp_path, "image,label", [(f"1{i:03}.png", "ab"[i % 2]) for i in range(4)])
    with pytest.raises(DarkroomError, match="several times, such as cam1/1000.png, cam2/1000.png"):
        read(tmp_path)
    assert labels(read(tmp_path, kind="folders")) == {"cam1": 4, "cam2": 4}


def test_ids_of_two_pictures_are_named(tmp_path):
    fill(tmp_path, *(f"images/{i}.{ending}" for i in range(6) for ending in ("png", "jpg")))
    table(tmp_path, "id,label", [(i, "ab"[i % 2]) for i in range(6)])
    with pytest.raises(DarkroomError, match="several times, such as images/0.jpg, images/0.png"):
        read(tmp_path)


def test_a_column_of_folds_is_no_split_and_is_named(tmp_path):
    table(flat(tmp_path), "image,label,fold", [(f"{i}.png", "ab"[i % 2], i % 3) for i in range(12)])
    reading = read(tmp_path)
    assert reading.split is None
    assert any("fold (0, 1, 2) in labels.csv is not read as a split" in n for n in reading.notes)
    named = read(tmp_path, split="fold", split_names="0:train,1:train,2:test")
    assert splits(named) == {"train": 8, "test": 4}


def test_a_second_table_keeps_its_groups_and_splits(tmp_path):
    flat(tmp_path)
    table(tmp_path, "image,label", [(f"{i}.png", "ab"[i % 2]) for i in range(12)])
    table(tmp_path, "image,patient", [(f"{i}.png", f"p{i // 3}") for i in range(12)], "people.csv")
    for reading in (read(tmp_path), read(tmp_path, table="labels.csv")):
        assert reading.group == "column patient" and reading.rows["source_group"].nunique() == 4


def test_a_level_next_to_which_a_split_is_unknown_is_a_question(tmp_path):
    fill(tmp_path, *each("{s}/{c}/{i}.png", s=("train", "holdout"), c=CDO))
    with pytest.raises(DarkroomError, match="holdout beside them.*split_names=holdout:test"):
        read(tmp_path, level="2")
    assert splits(read(tmp_path, level="2", split_names="holdout:test")) == {
        "train": 12,
        "test": 12,
    }
    assert splits(read(tmp_path, level="2", split_names="holdout:none")) == {"train": 12}
    assert splits(read(tmp_path, level="2", split="none")) == {}


def test_a_class_that_is_called_like_a_split_is_reported(tmp_path):
    fill(tmp_path, *each("{c}/{i}.png", c=("train", "boat")))
    assert any("folder train/ is read as a class" in note for note in read(tmp_path).notes)


def test_groups_that_hold_whole_classes_are_reported(tmp_path):
    fill(tmp_path, *each("{c}_{i}.png", c=CDO))
    notes = read(tmp_path, label="name", group="name:^([a-z]+)").notes
    assert any("fewer than three groups: cat 1, dog 1, owl 1" in note for note in notes)


def test_paths_of_another_machine_and_another_case(tmp_path):
    fill(tmp_path, *(f"photos/IMG_{i}.PNG" for i in range(12)))
    table(tmp_path, "path,label",
          [(f"C:\\Users\\me\\photos\\img_{i}.png", "ab"[i % 2]) for i in range(12)])  # fmt: skip
    assert labels(read(tmp_path)) == {"a": 6, "b": 6}


def test_one_hot_columns_with_several_ones_are_asked(tmp_path):
    flat(tmp_path)
    rows = [(f"{i}.png", 1, int(i % 2 == 0), int(i % 3 == 0)) for i in range(12)]
    table(tmp_path, "image,car,bus,bike", rows)
    with pytest.raises(DarkroomError, match="8 of 12 images have several labels.*several=join"):
        read(tmp_path)
    assert labels(read(tmp_path, several="drop")) == {"car": 4}


def test_two_rows_of_one_picture_with_different_labels(tmp_path):
    flat(tmp_path)
    rows = [(f"{i}.png", "car") for i in range(12)] + [(f"{i}.png", "bus") for i in range(6)]
    table(tmp_path, "image,label", rows)
    with pytest.raises(DarkroomError, match="6 rows of labels.csv name an image again .* several="):
        read(tmp_path)
    assert labels(read(tmp_path, several="last")) == {"bus": 6, "car": 6}
    assert labels(read(tmp_path, several="join")) == {"bus + car": 6, "car": 6}
    first = read(tmp_path, several="first")
    assert labels(first) == {"car": 12}
    assert first.rows_not_used["names an image again with another label"] == 6
    every = read(tmp_path, several="all")
    assert every.rows_not_used.get("names an image again with another label", 0) == 0
    assert every.rows["attr_label"].value_counts().to_dict() == {"car|bus": 6, "car": 6}


def test_every_label_is_kept_and_pictures_without_one(tmp_path):
    flat(tmp_path)
    cells = ["a|b", "a", "", "b"]
    table(tmp_path, "image,tags", [(f"{i}.png", cells[i % 4]) for i in range(12)])
    reading = read(tmp_path, several="all", label="tags")
    assert labels(reading) == {"a": 6, "b": 3, "none": 3}
    assert reading.rows["attr_tags"].value_counts().to_dict() == dict.fromkeys(cells, 3)


def test_few_pictures_with_two_labels_have_none(tmp_path):
    flat(tmp_path, 40)
    rows = [(f"{i}.png", "ab"[i % 2]) for i in range(40)] + [("0.png", "b")]
    reading = read(table(tmp_path, "image,label", rows))
    assert labels(reading) == {"a": 19, "b": 20}
    assert reading.rows_not_used["names an image again with another label"] == 1


@pytest.mark.parametrize("sign", ["|", ";", " "])
def test_cells_that_hold_several_labels_are_asked(tmp_path, sign):
    flat(tmp_path)
    cells = ["a", "b", f"a{sign}b"]
    table(tmp_path, "image,label", [(f"{i}.png", cells[i % 3]) for i in range(12)])
    with pytest.raises(DarkroomError, match="4 cells of the column 'label' .* several labels"):
        read(tmp_path)
    joined = read(tmp_path, separator=sign, several="join")
    assert labels(joined) == {"a": 4, "a + b": 4, "b": 4}


def test_lists_in_brackets(tmp_path):
    flat(tmp_path)
    rows = [(f"{i}.png", "\"['a','b']\"" if i % 2 else "\"['a']\"") for i in range(12)]
    table(tmp_path, "image,label", rows)
    with pytest.raises(DarkroomError, match="6 of 12 images have several labels"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("header", "row", "refused"),
    [
        ("lesion_id,image_id,age", lambda i: (f"H{i // 3}", i, 40 + i), "label=COLUMN|no column"),
        ("image,width,height", lambda i: (f"{i}.png", 48, 48), "no column that can be a label"),
        ("image,shape,paint", lambda i: (f"{i}.png", "rs"[i % 2], "xyz"[i % 3]),
         r"shape \(2 values\), paint \(3 values\)"),
        ("image,score", lambda i: (f"{i}.png", i / 7), "no column that can be a label"),
        ("image,room", lambda i: (f"{i}.png", f"r{i % 3}"), r"room \(3 values\); say label=COLUMN"),
        ("image,patient", lambda i: (f"{i}.png", f"p{i // 4}"), r"patient \(3 values\); say label"),
        ("image,diagnosis,species", lambda i: (f"{i}.png", "ab"[i % 2], "xyz"[i % 3]),
         r"diagnosis \(2 values\), species \(3 values\)"),
    ],
)  # fmt: skip
def test_no_column_is_guessed_by_its_place(tmp_path, header, row, refused):
    flat(tmp_path)
    table(tmp_path, header, [row(i) for i in range(12)])
    with pytest.raises(DarkroomError, match=refused):
        read(tmp_path)


def test_gtsrb(tmp_path):
    fill(tmp_path, *each("Train/{c}/{i}.png", c=("0", "1")), *each("Test/{i}.png"),
         *each("Meta/{c}.png", n=1, c=("0", "1")))  # fmt: skip
    head = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"
    train = [(30, 30, 5, 5, 25, 25, c, f"Train/{c}/2{i:03}.png") for c in "01" for i in range(4)]
    test = [(30, 30, 5, 5, 25, 25, i % 2, f"Test/1{i:03}.png") for i in range(4)]
    table(tmp_path, head, train, name="Train.csv")
    table(tmp_path, head, test, name="Test.csv")
    table(
        tmp_path, "Path,ClassId,ShapeId", [("Meta/0.png", 0, 1), ("Meta/1.png", 1, 0)], "Meta.csv"
    )
    reading = read(tmp_path)
    assert labels(reading)["0"] >= 6 and splits(reading) == {"test": 4, "train": 8}


def test_food_101(tmp_path):
    fill(tmp_path, *each("images/{c}/{i}.png", c=("apple_pie", "waffles")))
    lines = [f"{c}/2{i:03}" for c in ("apple_pie", "waffles") for i in range(4)]
    table(tmp_path, None, [(line,) for line in lines if line[-1] != "3"], "meta/train.txt")
    table(tmp_path, None, [(line,) for line in lines if line[-1] == "3"], "meta/test.txt")
    table(tmp_path, None, [("apple_pie",), ("waffles",)], "meta/classes.txt")
    reading = read(tmp_path)
    assert labels(reading) == {"apple_pie": 4, "waffles": 4}
    assert splits(reading) == {"test": 2, "train": 6}


def test_eurosat_tables(tmp_path):
    fill(tmp_path, *each("EuroSAT/{c}/{i}.png", c=("Forest", "River")))
    head = ",Filename,Label,ClassName"
    rows = [(f"{c}/2{i:03}.png", k, c) for k, c in enumerate(("Forest", "River")) for i in range(4)]
    for name, at in (("train", (0, 1)), ("validation", (2,)), ("test", (3,))):
        part = [(n, *row) for n, row in enumerate(rows) if n % 4 in at]
        table(tmp_path, head, part, f"EuroSAT/{name}.csv")
    reading = read(tmp_path)
    assert labels(reading) == {"Forest": 4, "River": 4}
    assert splits(reading) == {"test": 2, "train": 4, "val": 2}


def test_tiny_imagenet_with_its_list(tmp_path):
    ids = ("n01443537", "n01629819")
    fill(tmp_path, *each("train/{c}/images/{i}.png", c=ids), *each("val/images/v{i}.png"))
    rows = [(f"v2{i:03}.png", ids[i % 2], 0, 1, 20, 30) for i in range(4)]
    table(tmp_path, None, rows, "val/val_annotations.txt", sep="\t")
    reading = read(tmp_path)
    assert labels(reading) == dict.fromkeys(ids, 6) and splits(reading) == {"train": 8, "val": 4}


def test_hugging_face_image_folder(tmp_path):
    for split, n in (("train", 8), ("test", 4)):
        fill(tmp_path, *(f"{split}/{i}.png" for i in range(n)))
        lines = [json.dumps({"file_name": f"{i}.png", "label": "ab"[i % 2]}) for i in range(n)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    reading = read(tmp_path)
    assert labels(reading) == {"a": 6, "b": 6} and splits(reading) == {"test": 4, "train": 8}


def test_roboflow_csv_and_coco(tmp_path):
    for split in ("train", "valid"):
        fill(tmp_path, *(f"{split}/{i}.png" for i in range(6)))
        rows = [(f"{i}.png", 64, 64, "ab"[i % 2], 1, 1, 9, 9) for i in range(6)]
        table(tmp_path, "filename,width,height,class,xmin,ymin,xmax,ymax", rows,
              f"{split}/_annotations.csv")  # fmt: skip
    reading = read(tmp_path)
    assert labels(reading) == {"a": 6, "b": 6} and splits(reading) == {"train": 6, "val": 6}
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(6)],
        "annotations": [
            {"image_id": i, "category_id": i % 2, "bbox": [1, 2, 3, 4]} for i in range(6)
        ],
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    other = fill(tmp_path / "coco", *(f"{i}.png" for i in range(6)))
    (other / "_annotations.coco.json").write_text(json.dumps(coco))
    found = read(other)
    assert labels(found) == {"a": 3, "b": 3}
    assert found.rows.loc[0, ["box_left", "box_right"]].tolist() == [1, 4]


def test_yolo(tmp_path):
    fill(tmp_path, *(f"images/train/{i}.png" for i in range(8)))
    for i in range(8):
        table(tmp_path, None, [(f"{i % 2} 0.5 0.5 0.1 0.1",)], f"labels/train/{i}.txt")
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: ['cat', 'dog']\n")
    reading = read(tmp_path)
    assert labels(reading) == {"cat": 4, "dog": 4} and splits(reading) == {"train": 8}


def test_two_tables_of_different_labels_are_asked(tmp_path):
    flat(tmp_path)
    table(tmp_path, "image,style", [(f"{i}.png", "ab"[i % 2]) for i in range(12)], "style.csv")
    table(tmp_path, "image,genre", [(f"{i}.png", "xyz"[i % 3]) for i in range(12)], "genre.csv")
    with pytest.raises(DarkroomError, match="table=genre.csv .*table=style.csv"):
        read(tmp_path)
    assert set(labels(read(tmp_path, table="genre.csv"))) == {"x", "y", "z"}


def test_folders_and_a_label_column_that_contradict_each_other_are_asked(tmp_path):
    fill(tmp_path, *each("{c}/{i}.png", c=("berlin", "paris")))
    rows = [(f"{c}/1{i:03}.png", "ab"[i % 2]) for c in ("berlin", "paris") for i in range(4)]
    table(tmp_path, "file,label", rows)
    with pytest.raises(DarkroomError, match="kind=folders gives .*kind=table takes column label"):
        read(tmp_path)
    assert labels(read(tmp_path, kind="table")) == {"a": 4, "b": 4}
    assert labels(read(tmp_path, kind="folders")) == {"berlin": 4, "paris": 4}


def test_a_split_column_with_an_unknown_word_is_asked(tmp_path):
    flat(tmp_path)
    rows = [(f"{i}.png", "ab"[i % 2], ("train", "test", "holdout")[i % 3]) for i in range(12)]
    table(tmp_path, "image,label,split", rows)
    with pytest.raises(
        DarkroomError, match="holdout.* is none that is known; say split_names=hold"
    ):
        read(tmp_path)
    assert splits(read(tmp_path, split_names="holdout:val")) == {"test": 4, "train": 4, "val": 4}
    assert splits(read(tmp_path, split="none")) == {}


def test_paths_tell_the_split_and_contradictions_are_asked(tmp_path):
    fill(tmp_path, *each("{s}/{i}.png", s=("train", "test")))
    rows = [(f"{s}/1{i:03}.png", "ab"[i % 2]) for s in ("train", "test") for i in range(4)]
    table(tmp_path, "image,label", rows)
    assert splits(read(tmp_path)) == {"test": 4, "train": 4}
    table(tmp_path, "image,label,split", [(*row, "train") for row in rows])
    with pytest.raises(DarkroomError, match="4 pictures different splits.*split="):
        read(tmp_path)


@pytest.mark.parametrize("name", ["product_id", "patient", "video"])
def test_groups_of_columns(tmp_path, name):
    flat(tmp_path, 60)
    rows = [(f"{i}.png", "ab"[i // 5 % 2], f"p{i // 5}") for i in range(60)]
    table(tmp_path, f"image,label,{name}", rows)
    reading = read(tmp_path)
    assert reading.group == f"column {name}" and reading.rows["source_group"].nunique() == 12


@pytest.mark.parametrize(("one", "other"), [("P{}", "p{}"), ("{:03}", "{}")])
def test_an_identity_that_is_spelled_in_two_ways_is_one_group(tmp_path, one, other):
    flat(tmp_path, 24)
    rows = [(f"{i}.png", "ab"[i % 2], (other if i % 4 else one).format(i // 4)) for i in range(24)]
    table(tmp_path, "image,label,patient_id", rows)
    group = read(tmp_path).rows.set_index("path")["source_group"]
    assert group.nunique() == 6 and group["images/4.png"] == group["images/5.png"]


def test_the_option_group(tmp_path):
    flat(tmp_path, 12)
    rows = [(f"{i}.png", "ab"[i % 2], f"s{i // 4}", f"c{i // 6}") for i in range(12)]
    table(tmp_path, "image,label,site,camera", rows)
    assert any("site (3 values), camera (2 values)" in note for note in read(tmp_path).notes)
    assert not any("site (" in note for note in read(tmp_path, group="site").notes)
    assert not any("repeat:" in note for note in read(tmp_path, group="none").notes)
    assert read(tmp_path, group="site").rows["source_group"].nunique() == 3
    with pytest.raises(DarkroomError, match="all pictures into one group"):
        read(tmp_path, group="site+camera")  # cameras join the sites
    assert read(tmp_path, group="name:(.)").rows["source_group"].nunique() == 10
    with pytest.raises(DarkroomError, match="takes a column .* Received: 'sit'"):
        read(tmp_path, group="sit")


def test_every_option_is_checked(tmp_path):
    fill(tmp_path, *each("{c}/{i}.png", c=CDO))
    for options, message in (
        ({"foo": 1}, "no option 'foo'"), ({"levle": 2}, "Did you mean 'level'"),
        ({"level": "two"}, "number of a folder level"), ({"kind": "tables"}, "one of folders, table"),
        ({"range": "5..1"}, "black below that of white"), ({"bands": "1,2"}, "one band number or three"),
        ({"group": "name:("}, "a pattern that is none"), ({"split_names": "x"}, "split_names"),
        ({"table": "labels.csv"}, "no table 'labels.csv'"),
    ):  # fmt: skip
        with pytest.raises(DarkroomError, match=message):
            read(tmp_path, **options)


WHY_NOT = {
    "labels.xlsx": (b"PK\x03\x04", "labels.xlsx .an Excel workbook"),
    "labels.csv": (b"image,label\n0.png,a,b,c\n", "row 2 has 4 cells and the first row has 2"),
    "names.csv": (b"image,label\nx.jpg,a\ny.jpg,b\n", "names files that are not there"),
    "same.csv": (b"image,label,label\n0.png,a,a\n", "two columns are called 'label'"),
    "pixels.csv": (
        ("label," + ",".join(f"p{i}" for i in range(784)) + "\n").encode() * 2, "pixels of a picture"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHY_NOT)
def test_a_table_that_cannot_be_used_is_named_with_its_reason(tmp_path, name):
    content, reason = WHY_NOT[name]
    flat(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DarkroomError, match=reason):
        read(tmp_path)


def test_archives_in_an_archive_are_named_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("train.zip", b"PK")
    with pytest.raises(DarkroomError, match=r"archive .*all.zip holds the archives train.zip"):
        intake.bring(str(tmp_path / "all.zip"))


def test_what_was_understood_follows_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    fill(tmp_path / "set", *each("{c}/{i}.png", c=CDO))
    assert (
        "3 classes: cat 4, dog 4, owl 4 · label" in intake.bring(str(tmp_path / "set")).understood
    )
    fill(tmp_path / "set", *each("{c}/{i}.png", c=("fox",)))
    dataset = intake.bring(str(tmp_path / "set"))
    scan.scan(dataset, workers=1)
    assert "4 classes: cat 4, dog 4, fox 4, owl 4" in intake.bring("set").understood


def test_archives_in_a_folder_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("a/1.png", PICTURE)
    with pytest.raises(DarkroomError, match="holds the archives train.zip and no picture"):
        read(tmp_path)


def test_a_parquet_table_keeps_ids_as_text(tmp_path):
    flat(tmp_path, 12)
    frame = pd.DataFrame(
        {"id": [*map(float, range(11)), None], "label": [i % 2 for i in range(12)]}
    )
    frame.to_parquet(tmp_path / "labels.parquet")
    assert labels(read(tmp_path)) == {"0": 6, "1": 5}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_pictures_inside_the_files_of_datasets_are_read(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for split, n in (("train", 8), ("test", 4)):
        pictures = [{"bytes": PICTURE, "path": f"{i}.png"} for i in range(n)]
        arrow = pa.table({"image": pictures, "label": [i % 2 for i in range(n)]})
        arrow = arrow.replace_schema_metadata({"huggingface": json.dumps(features)})
        if kind == "parquet":
            path = tmp_path / f"set/data/{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(arrow, path)
        else:
            path = tmp_path / f"set/{split}/data-00000-of-00001.arrow"
            path.parent.mkdir(parents=True)
            with (
                pa.OSFile(str(path), "wb") as file,
                pa.ipc.new_stream(file, arrow.schema) as stream,
            ):
                stream.write_table(arrow)
    data = intake.bring(str(tmp_path / "set"))
    rows = sources.rows(data)
    assert dict(rows["label"].value_counts()) == {"cat": 6, "dog": 6}
    assert dict(rows["source_split"].value_counts()) == {"train": 8, "test": 4}
    assert data.raw == data.folder / "raw" and (data.raw / rows["path"][0]).read_bytes() == PICTURE
    assert intake.bring(str(tmp_path / "set")) == data


def test_names_in_a_zip_are_utf_8_or_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for name, encoding in (("utf8", "utf-8"), ("dos", "cp866")):
        content = io.BytesIO()
        names = {label.encode(encoding): b"xy"[k : k + 1] for k, label in enumerate(("кот", "пёс"))}
        with zipfile.ZipFile(content, "w") as archive:
            for label, sign in names.items():
                for i in range(2):
                    archive.writestr(f"{sign.decode() * len(label)}/{i}.png", PICTURE)
        data = content.getvalue()
        for label, sign in names.items():  # the flag for UTF-8 stays off, as old programs leave it
            data = data.replace(sign * len(label) + b"/", label + b"/")
        (tmp_path / f"{name}.zip").write_bytes(data)
    assert set(sources.rows(intake.bring(str(tmp_path / "utf8.zip")))["label"]) == {"кот", "пёс"}
    with pytest.raises(
        DarkroomError, match="does not say how its names are encoded.*encoding=cp866"
    ):
        intake.bring(str(tmp_path / "dos.zip"))
    data = intake.bring(str(tmp_path / "dos.zip"), options={"encoding": "cp866"})
    assert set(sources.rows(data)["label"]) == {"кот", "пёс"}


def test_a_set_that_is_in_two_classes_throughout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(1)
    for i in range(12):
        image = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8))
        for name in ("first", "second"):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "set" / name / f"{i}.png")
    with pytest.raises(DarkroomError, match="24 of the 24 files .* in two classes.* ignore=FOLDER"):
        clean.clean(intake.bring(str(tmp_path / "set")), workers=1)


def test_files_that_came_and_went_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    fill(tmp_path / "set", *each("{c}/{i}.png", c=CDO))
    for number, path in enumerate(sorted((tmp_path / "set").rglob("*.png"))):
        noise = np.random.default_rng(number).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(noise).save(path)
    data = intake.bring(str(tmp_path / "set"))
    clean.ensure(data)
    fill(tmp_path / "set", *each("cat/new{i}.png", n=3))
    (tmp_path / "set/dog/1000.png").unlink()
    (tmp_path / "set/owl/1000.png").write_bytes(PICTURE)
    capsys.readouterr()
    clean.ensure(data)
    assert "3 files were added, 1 removed, 1 have another size" in capsys.readouterr().out


def test_a_table_that_agrees_with_one_level_decides_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    fill(tmp_path / "set", *each("{a}/{b}/{i}.png", a=("day", "night"), b=("car", "bus")))
    rows = [
        (f"{a}/{b}/2{i:03}.png", b)
        for a in ("day", "night")
        for b in ("car", "bus")
        for i in range(4)
    ]
    table(tmp_path / "set", "file,label", rows)
    data = intake.bring(str(tmp_path / "set"))
    assert data.source["read_as"]["label"] == "folder level 2"
    assert dict(sources.rows(data)["label"].value_counts()) == {"bus": 8, "car": 8}


# -- Exports of labelling tools, and lists of class names

CDO = ("cat", "dog", "owl")
TWELVE = [f"{i:02}.png" for i in range(12)]


def tasks(names, labels_of=lambda i: [CDO[i % 3]]):
    """Tasks as Label Studio exports them."""
    return [
        {
            "id": i,
            "data": {"image": f"/data/upload/1/{name}"},
            "annotations": [
                {"was_cancelled": True, "result": [{"value": {"choices": ["bin"]}}]},
                {"result": [{"type": "choices", "value": {"choices": labels_of(i)}}]},
            ],
        }
        for i, name in enumerate(names)
    ]


def test_label_studio_json_with_and_without_its_prefix(tmp_path):
    for folder, prefix in (("kept", "{i:08x}-"), ("own", "")):
        root = fill(tmp_path / folder, *(prefix.format(i=i) + n for i, n in enumerate(TWELVE)))
        names = [f"{i:08x}-{name}" for i, name in enumerate(TWELVE)]
        (root / "export.json").write_text(json.dumps(tasks(names)))
        assert labels(read(root)) == dict.fromkeys(CDO, 4)


def test_label_studio_csv_and_several_choices(tmp_path):
    root = fill(tmp_path / "csv", *TWELVE)
    rows = [(f"/data/local-files/?d={n}", i, CDO[i % 3], i / 7) for i, n in enumerate(TWELVE)]
    table(root, "image,id,choice,lead_time", rows)
    assert labels(read(root)) == dict.fromkeys(CDO, 4)
    root = fill(tmp_path / "several", *TWELVE)
    both = tasks(TWELVE, lambda i: [CDO[i % 3], CDO[(i + 1) % 3]])
    (root / "export.json").write_text(json.dumps(both))
    with pytest.raises(DarkroomError, match="12 of 12 images have several labels, such as cat and"):
        read(root)
    assert read(root, several="all").rows["attr_label"].iloc[0] == "cat|dog"


def test_prediction_strings_give_their_class(tmp_path):
    fill(tmp_path, *TWELVE)
    cells = ["none 1 0 0 1 1", "opacity 1 789.28 582.43 1815.94 2499.73 opacity 1 2 3 4.5 6"]
    table(tmp_path, "id,label", [(n[:-4], cells[i % 2]) for i, n in enumerate(TWELVE)])
    assert labels(read(tmp_path)) == {"none": 6, "opacity": 6}
    boxes = [(n, f"{i % 3} 0.9 {i} 2 {i + 20} 30") for i, n in enumerate(TWELVE)]
    table(tmp_path, "image_id,PredictionString", boxes)
    assert labels(read(tmp_path)) == {"0": 4, "1": 4, "2": 4}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "cat\ndog\nowl\n"),
        ("labels.txt", "0 cat\n1 dog\n2 owl\n"),
        ("data.yaml", "nc: 3\nnames: ['cat', 'dog', 'owl']\n"),
        ("label_map.json", '{"0": "cat", "1": "dog", "2": "owl"}'),
        ("class_indices.json", '{"cat": 0, "dog": 1, "owl": 2}'),
    ],
)
def test_numbered_classes_have_the_names_of_a_list(tmp_path, name, text):
    root = fill(tmp_path / "folders", *each("{c}/{i}.png", c="012"))
    (root / name).write_text(text)
    reading = read(root)
    assert labels(reading) == dict.fromkeys(CDO, 4) and name in reading.notes[0]
    assert labels(read(root, names="keep")) == {"0": 4, "1": 4, "2": 4}
    root = table(fill(tmp_path / "table", *TWELVE), "image,label",
                 [(n, i % 3 + 1) for i, n in enumerate(TWELVE)])  # fmt: skip
    (root / name).write_text(text)
    if name in ("classes.txt", "data.yaml"):  # numbers from 1 where the list has none
        assert labels(read(root)) == dict.fromkeys(CDO, 4)
    else:
        assert labels(read(root)) == {"1": 4, "2": 4, "3": 4}


def test_a_list_of_other_length_or_of_labels_by_position_names_no_class(tmp_path):
    root = fill(tmp_path / "folders", *each("{c}/{i}.png", c="012"))
    (root / "classes.txt").write_text("cat\ndog\n")
    assert labels(read(root)) == {"0": 4, "1": 4, "2": 4}
    root = fill(tmp_path / "flat", *(f"images/{name}" for name in TWELVE))
    (root / "labels.txt").write_text("".join(f"{CDO[i % 3]}\n" for i in range(12)))
    with pytest.raises(DarkroomError, match=r"labels.txt \(no column names pictures"):
        read(root)


def test_fiftyone_labelbox_supervisely_and_a_column_of_split_words(tmp_path):
    root = fill(tmp_path / "fiftyone", *(f"data/{name}" for name in TWELVE))
    numbers = {name[:-4]: i % 3 for i, name in enumerate(TWELVE)}
    (root / "labels.json").write_text(json.dumps({"classes": CDO, "labels": numbers}))
    assert labels(read(root)) == dict.fromkeys(CDO, 4)
    root = fill(tmp_path / "labelbox", *TWELVE)
    cells = [(n, '"{""animal"":""' + CDO[i % 3] + '""}"') for i, n in enumerate(TWELVE)]
    table(root, "External ID,Label", cells)
    assert labels(read(root)) == dict.fromkeys(CDO, 4)
    root = fill(tmp_path / "supervisely", *(f"ds/img/{name}" for name in TWELVE))
    for i, name in enumerate(TWELVE):
        (root / f"ds/ann/{name}.json").parent.mkdir(exist_ok=True)
        (root / f"ds/ann/{name}.json").write_text(json.dumps({"tags": [{"name": CDO[i % 3]}]}))
    assert labels(read(root)) == dict.fromkeys(CDO, 4)
    root = fill(tmp_path / "status", *TWELVE)
    status = [(n, CDO[i % 3], "train" if i < 8 else "test") for i, n in enumerate(TWELVE)]
    table(root, "image,label,evaluation_status", status)
    assert splits(read(root)) == {"test": 4, "train": 8}


VOC = [f"2007_{i:06}" for i in range(12)]


@pytest.fixture
def voc(tmp_path):
    """Three classes in turn, the first six pictures for training: JPEGImages and ImageSets."""
    fill(tmp_path, *(f"JPEGImages/{name}.png" for name in VOC))
    for split, names in (("train", VOC[:6]), ("val", VOC[6:]), ("trainval", VOC)):
        table(tmp_path, None, [(name,) for name in names], name=f"ImageSets/Main/{split}.txt")
        for number, label in enumerate(CDO):
            rows = [(f"{n} {'-1' if VOC.index(n) % 3 != number else ' 1'}",) for n in names]
            table(tmp_path, None, rows, name=f"ImageSets/Main/{label}_{split}.txt")
    return tmp_path


def test_lists_of_each_class_and_split_of_voc(voc):
    reading = read(voc)
    assert labels(reading) == dict.fromkeys(CDO, 4) and splits(reading) == {"train": 6, "val": 6}
    found = reading.rows.set_index("path")["label"]
    assert [found[f"JPEGImages/{name}.png"] for name in VOC[:3]] == [*CDO]
    again = read(voc, **reading.options)
    assert labels(again) == labels(reading) and splits(again) == splits(reading)


def test_annotations_of_voc_with_its_lists(voc):
    for number, name in enumerate(VOC):
        text = f"<annotation><object><name>{CDO[number % 3]}</name></object></annotation>"
        table(voc, None, [(text,)], name=f"Annotations/{name}.xml")
    reading = read(voc)
    assert labels(reading) == dict.fromkeys(CDO, 4) and splits(reading) == {"train": 6, "val": 6}


@pytest.mark.parametrize(
    "shape", ['<tag label="{}"/>', '<box label="{}" xtl="1" ytl="2" xbr="30" ybr="9.5"/>']
)
def test_exports_of_cvat(tmp_path, shape):
    fill(tmp_path, *(f"images/{name}" for name in TWELVE))
    images = [
        f'<image id="{i}" name="{name}">{shape.format(CDO[i % 3])}</image>'
        for i, name in enumerate(TWELVE)
    ]
    (tmp_path / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")
    reading = read(tmp_path)
    assert labels(reading) == dict.fromkeys(CDO, 4)
    assert reading.label == "column label of annotations.xml"
    if "box" in shape:
        assert set(reading.rows["box_bottom"]) == {9.5}


def test_marks_of_uncertain_classes_are_no_one_hot_columns(tmp_path):
    fill(tmp_path, *(f"patient0{i // 2}/study1/{i}.png" for i in range(12)))
    rows = [(f"patient0{i // 2}/study1/{i}.png", *"10"[:: 1 - i % 2 * 2], "-1") for i in range(11)]
    table(tmp_path, "Path,Edema,Mass,Effusion", [*rows, ("patient05/study1/11.png", 0, 0, 1)])
    with pytest.raises(DarkroomError, match=r"label\? It may be Effusion .2 values., Edema"):
        read(tmp_path)
    reading = read(tmp_path, label="Edema")
    assert labels(reading) == {"0": 6, "1": 6} and reading.group == "folder level 1"
    assert reading.rows["source_group"].nunique() == 6


def test_two_columns_of_pictures_and_two_of_labels(tmp_path):
    fill(tmp_path, *(f"{i}_{side}.png" for i in range(6) for side in ("left", "right")))
    rows = [(f"{i}_left.png", f"{i}_right.png", "ab"[i % 2], "xyz"[i % 3]) for i in range(6)]
    table(tmp_path, "left,right,target,species", rows)
    with pytest.raises(DarkroomError, match="'right' and 'left' name different.*image=COLUMN"):
        read(tmp_path)
    reading = read(tmp_path, image="left")
    assert labels(reading) == {"a": 3, "b": 3}
    assert any("Labels are also in species of labels.csv" in note for note in reading.notes)


@pytest.mark.parametrize("name", ["list.txt", "dataset.json"])
def test_a_list_without_header_that_contradicts_the_folders_is_asked(tmp_path, name):
    files = [f"{i // 4:05}/img{i:08}.png" for i in range(12)]
    fill(tmp_path, *files)
    rows = [[file, i % 2] for i, file in enumerate(files)]
    if name == "list.txt":
        table(tmp_path, None, rows, name=name, sep=" ")
    else:  # as StyleGAN writes it
        (tmp_path / name).write_text(json.dumps({"labels": rows}))
    with pytest.raises(DarkroomError, match=f"The folders and {name} give different labels"):
        read(tmp_path)
    assert labels(read(tmp_path, kind="table")) == {"0": 6, "1": 6}


def test_lists_of_ids_begin_with_their_first_row(tmp_path):  # as those of NABirds
    ids = [f"{i:04x}-3f-{i % 2}" for i in range(12)]
    files = [f"{['0817', '0900'][i % 2]}/{i:032x}.png" for i in range(12)]
    fill(tmp_path, *(f"images/{file}" for file in files))
    table(tmp_path, None, zip(ids, files, strict=True), name="images.txt", sep=" ")
    flags = [(one, int(i < 8)) for i, one in enumerate(ids)]
    table(tmp_path, None, flags, name="train_test_split.txt", sep=" ")
    reading = read(tmp_path)
    assert labels(reading) == {"0817": 6, "0900": 6}
    assert splits(reading) == {"train": 8, "test": 4}


def test_tables_without_pictures_and_above_them_are_named(tmp_path):
    fill(tmp_path / "images", *TWELVE)
    table(tmp_path, "image,label", [(name, "a") for name in TWELVE])
    with pytest.raises(DarkroomError, match="labels.csv lies in the folder above; give that one"):
        read(tmp_path / "images")
    table(tmp_path / "mnist", None, [["1"] * 785] * 2, name="train.csv")
    with pytest.raises(DarkroomError, match="holds no picture, and .*train.csv .*pixels"):
        read(tmp_path / "mnist")


def test_annotations_that_are_not_read_are_named(tmp_path):
    fill(tmp_path, *(f"images/{name}" for name in TWELVE))
    (tmp_path / "annotations.xml").write_text("<annotations/>")
    with pytest.raises(DarkroomError, match=r"not read: annotations.xml \(an XML file\)"):
        read(tmp_path)


def test_ids_without_ending_and_labels_with_leading_zeros(tmp_path):
    flat(tmp_path, 12, name="{i:05}.png")
    codes = ["01", "1", "007", "NA"]
    table(tmp_path, "id,label", [(f"{i:05}", codes[i % 4]) for i in range(12)])
    assert labels(read(tmp_path)) == {"007": 3, "01": 3, "1": 3, "NA": 3}


def test_class_names_of_two_words_are_no_lists(tmp_path):
    flat(tmp_path)
    names = ["golden retriever", "great dane", "pug"]
    table(tmp_path, "image,breed", [(f"{i}.png", names[i % 3]) for i in range(12)])
    assert set(labels(read(tmp_path))) == set(names)


def test_files_that_the_table_does_not_name_and_files_that_are_missing(tmp_path):
    flat(tmp_path, 12)
    table(tmp_path, "image,label", [(f"{i}.png", "ab"[i % 2]) for i in range(6, 16)])
    reading = read(tmp_path)
    assert reading.files_not_used == {"unlabelled: not named in labels.csv": 6}
    assert reading.rows_not_used["missing: the file is not there"] == 4
    assert len(reading.rows) == 16 and reading.rows["label"].notna().sum() == 10


def test_ham10000(tmp_path):
    fill(tmp_path, *(f"HAM10000_images_part_{1 + i % 2}/ISIC_{i:07}.png" for i in range(36)))
    rows = [(f"HAM_{i // 3:07}", f"ISIC_{i:07}", ("nv", "mel", "bkl")[i % 3], "histo", 40.0 + i, "male")
            for i in range(36)]  # fmt: skip
    table(tmp_path, "lesion_id,image_id,dx,dx_type,age,sex", rows, name="HAM10000_metadata.csv")
    reading = read(tmp_path)
    assert labels(reading) == {"bkl": 12, "mel": 12, "nv": 12}
    assert reading.label == "column dx of HAM10000_metadata.csv"
    assert reading.group == "column lesion_id" and reading.rows["source_group"].nunique() == 12


def test_the_sample_is_never_taken_for_the_labels(tmp_path):
    flat(tmp_path, 20)
    table(tmp_path, "image_id,label", [(i, "abc"[i % 3]) for i in range(12)], "train.csv")
    table(tmp_path, "image_id,label", [(i, "a") for i in range(12, 20)], "sample_submission.csv")
    table(tmp_path, "image_id", [(i,) for i in range(12, 20)], "test.csv")
    reading = read(tmp_path)
    assert labels(reading) == {"a": 4, "b": 4, "c": 4}
    assert reading.label == "column label of train.csv"


def test_tables_of_the_splits_are_united(tmp_path):
    flat(tmp_path, 30)
    for name, start, end in (("train", 0, 16), ("validation", 16, 22), ("test", 22, 30)):
        rows = [(f"{i}.png", "ab"[i % 2]) for i in range(start, end)]
        table(tmp_path, "image,label", rows, f"{name}.csv")
    reading = read(tmp_path)
    assert labels(reading) == {"a": 15, "b": 15}
    assert splits(reading) == {"test": 8, "train": 16, "val": 6}


def test_a_table_next_to_class_folders_is_attributes(tmp_path):
    fill(tmp_path, *each("{c}/{i}.png", n=20, c=CDO))
    rows = [(f"{c}/1{i:03}.png", f"P{i // 2}", 48) for c in CDO for i in range(20)]
    table(tmp_path, "file,patient,width", rows, "info.csv")
    reading = read(tmp_path)
    assert labels(reading) == dict.fromkeys(CDO, 20) and reading.kind == "folders"
    assert reading.rows["attr_patient"].nunique() == 10 and reading.group == "column patient"
    assert set(read(tmp_path, kind="table", label="patient").rows["label"]) == {
        f"P{i}" for i in range(10)
    }
    assert read(tmp_path, group="none").group is None
