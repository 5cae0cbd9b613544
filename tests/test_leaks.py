"""Leaks of a data set and its split, made in miniature: flagged, and held where there is none."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.cleaning import clean, leaks, measurements, scan
from lib.data import groups, intake, splits

FRACTIONS = (0.5, 0.2, 0.3)


def picture(rng, side=48, level=0.0):
    """A picture that is nobody's copy: coarse blobs and fine noise, brighter by `level`."""
    blobs = np.kron(rng.integers(40, 150, (6, 6, 3)), np.ones((side // 6, side // 6, 1)))
    noise = rng.integers(-20, 20, (side, side, 3))
    return np.clip(blobs + noise + level, 0, 255).astype(np.uint8)


def folder(tmp_path, make, *, names=("cat", "dog"), number=60):
    """Class folders of pictures that `make(rng, class, number)` draws; returns it, cleaned."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(names):
        for n in range(number):
            image, ending, options = make(rng, k, n)
            path = tmp_path / "raw" / name / f"{n:03}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, **options)
    dataset = intake.bring(str(tmp_path / "raw"))
    clean.clean(dataset, workers=1)
    return dataset


def plain(rng, k, n):
    return picture(rng), "png", {}


def outcome(dataset, name, **division):
    split = splits.ensure(dataset, fractions=FRACTIONS, **division)
    rows = {row["check"]: row for row in leaks.checks(dataset, split)}
    return rows[name]["outcome"], rows[name]["message"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))


def test_a_sound_set_has_no_finding(tmp_path):
    dataset = folder(tmp_path, plain, number=90)
    split = splits.ensure(dataset, fractions=FRACTIONS)
    rows = leaks.checks(dataset, split)
    assert [row["check"] for row in rows] == list(leaks.CHECKS)
    assert {row["outcome"] for row in rows} == {"held"}, rows
    assert leaks.notes(dataset) == []


SHORTCUTS = {
    "format": lambda rng, k, n: (picture(rng), "png" if k else "jpg", {}),
    "size": lambda rng, k, n: (picture(rng, 96 if k else 48), "png", {}),
    "aspect": lambda rng, k, n: (picture(rng)[: 48 - 12 * k], "png", {}),
    "mode": lambda rng, k, n: (picture(rng)[..., 0] if k else picture(rng), "png", {}),
    "brightness": lambda rng, k, n: (picture(rng, level=70 * k), "png", {}),
    "compression": lambda rng, k, n: (picture(rng), "jpg", {"quality": 60 + 35 * k}),
    "sharpness": lambda rng, k, n: (cv2.blur(picture(rng), (1 + 2 * k,) * 2), "png", {}),
}


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_a_class_that_the_file_tells_is_flagged(tmp_path, kind):
    dataset = folder(tmp_path, SHORTCUTS[kind])
    found, message = outcome(dataset, "file_shortcut")
    assert found == "flagged", message
    told = {"size": "bytes|width|height", "compression": "bytes", "format": "format|bytes"}
    assert any(word in message for word in told.get(kind, kind).split("|")), message
    assert any("Numbers of the files alone" in note for note in leaks.notes(dataset))


def test_one_class_of_five_that_the_file_tells_is_named(tmp_path):
    def make(rng, k, n):
        return picture(rng), "jpg" if k == 2 else "png", {}

    dataset = folder(tmp_path, make, names=("ant", "bee", "cat", "dog", "eel"), number=30)
    found, message = outcome(dataset, "file_shortcut")
    assert found == "flagged" and "the class cat from the others" in message, message


SHIFTS = {
    "brighter": lambda rng, test, n: (picture(rng, level=70 * test), "png", {}),
    "larger": lambda rng, test, n: (picture(rng, 96 if test else 48), "png", {}),
    "format": lambda rng, test, n: (picture(rng), "jpg" if test else "png", {}),
}


@pytest.mark.parametrize("kind", SHIFTS)
def test_a_test_folder_from_elsewhere_is_flagged(tmp_path, kind):
    rng = np.random.default_rng(0)
    for split, number in (("train", 60), ("test", 30)):
        for name in ("cat", "dog"):
            for n in range(number):
                image, ending, options = SHIFTS[kind](rng, split == "test", n)
                path = tmp_path / "raw" / split / name / f"{split}{n:03}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path, **options)
    dataset = intake.bring(str(tmp_path / "raw"))
    clean.clean(dataset, workers=1)
    assert outcome(dataset, "test_shift", method="source")[0] == "flagged"
    assert any("Test images differ from train images" in note for note in leaks.notes(dataset))
    assert outcome(dataset, "test_shift", method="grouped")[0] == "held"


def test_a_class_balance_of_54_to_6_in_test_is_flagged(tmp_path):
    rng = np.random.default_rng(0)
    numbers = {("train", "cat"): 60, ("train", "dog"): 60, ("test", "cat"): 54, ("test", "dog"): 6}
    for (split, name), number in numbers.items():
        for n in range(number):
            path = tmp_path / "raw" / split / name / f"{split}{n:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(rng)).save(path)
    dataset = intake.bring(str(tmp_path / "raw"))
    clean.clean(dataset, workers=1)
    found, message = outcome(dataset, "class_shift", method="source")
    assert (found, "90 % of test" in message) == ("flagged", True), message
    assert outcome(dataset, "class_shift", method="grouped")[0] == "held"


def test_neighbours_in_name_order_that_look_alike_are_flagged_and_runs_of_them_held(tmp_path):
    scenes = np.random.default_rng(5).integers(40, 200, (40, 6, 6, 3))

    def scene(rng, k, n):
        blobs = np.kron(scenes[20 * k + n // 6], np.ones((8, 8, 1)))
        return (
            np.clip(blobs + rng.integers(-60, 60, (48, 48, 3)), 0, 255).astype(np.uint8),
            "png",
            {},
        )

    dataset = folder(tmp_path, scene, number=120)
    found, message = outcome(dataset, "file_order")
    assert (found, "'runs of 50'" in message) == ("flagged", True), message
    split = splits.ensure(dataset, method="runs of 6", fractions=FRACTIONS)
    assert split.frame.groupby("group")["split"].nunique().max() == 1
    assert outcome(dataset, "file_order", method="runs of 6")[0] == "held"


def test_neighbours_of_one_class_are_found_where_the_classes_alternate(tmp_path):
    rng, scenes = (
        np.random.default_rng(0),
        np.random.default_rng(5).integers(40, 200, (20, 6, 6, 3)),
    )
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    for n in range(120):  # cat and dog of scene 0 in turns, then those of scene 1
        blobs = np.kron(scenes[n % 2 * 10 + n // 12], np.ones((8, 8, 1)))
        noisy = np.clip(blobs + rng.integers(-60, 60, (48, 48, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(raw / f"images/{n:03}.png")
    rows = [f"{n:03}.png,{'cat' if n % 2 else 'dog'}" for n in range(120)]
    (raw / "labels.csv").write_text("\n".join(["image,label", *rows]))
    dataset = intake.bring(str(raw))
    clean.clean(dataset, workers=1)
    assert outcome(dataset, "file_order")[0] == "flagged"


def table_set(tmp_path, columns, number=120, **options):
    """Pictures beside a table with more columns; returns the data set, cleaned."""
    rng = np.random.default_rng(0)
    (tmp_path / "raw" / "images").mkdir(parents=True)
    for n in range(number):
        Image.fromarray(picture(rng)).save(tmp_path / "raw" / "images" / f"{n:03}.png")
    names = [f"images/{n:03}.png" for n in range(number)]
    table = pd.DataFrame({"image": names, "label": ["cat", "dog"] * (number // 2), **columns})
    table.to_csv(tmp_path / "raw" / "labels.csv", index=False)
    dataset = intake.bring(str(tmp_path / "raw"), options=options or None)
    clean.clean(dataset, workers=1)
    return dataset


@pytest.mark.parametrize("name", ["patient", "patient_id", "lesion_id", "film", "camera_no"])
def test_an_identity_that_straddles_the_split_is_flagged(tmp_path, name):
    dataset = table_set(tmp_path, {name: [f"p{n // 4}" for n in range(120)]}, group="none")
    found, message = outcome(dataset, "group_columns")
    assert (found, f"--option group={name}" in message) == ("flagged", True), message


def test_columns_that_name_no_identity_are_not_asked_about(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(20, 90, 120),
        "sex": rng.choice(["f", "m"], 120),
        "weight": rng.normal(70, 10, 120).round(1),
        "image_id": [f"i{n}" for n in range(120)],
        "year": rng.integers(1900, 1930, 120),
    }
    dataset = table_set(tmp_path, columns)
    assert outcome(dataset, "group_columns")[0] == "held"


def test_groups_are_united_over_columns():
    patient = pd.Series(["a", "a", "b", "b", "c", None, None])
    film = pd.Series([1, 2, 2, 3, 4, 4, None])
    assert groups.united([patient, film]).tolist() == [0, 0, 0, 0, 1, 1, 2]


def test_groups_by_runs_of_names():
    runs = groups.by_runs(["a/10.png", "a/9.png", "a/2.png", "b/1.png"], 2)
    assert runs == ["run 1", "run 0", "run 0", "run 2"]


@pytest.mark.parametrize("method", ["grouped", "random", "fold 1 of 3", "runs of 5"])
def test_no_named_group_straddles_a_split_whatever_the_method(tmp_path, method):
    dataset = table_set(tmp_path, {"patient": [f"p{n // 5}" for n in range(120)]})
    manifest = dataset.manifest()
    named = manifest.assign(source_group=manifest["attr_patient"].astype("str"))
    united = groups.united([named["copy_group"], named["source_group"]])
    from lib.data import manifest as manifests

    manifests.write(dataset.folder, named.assign(group=united))
    split = splits.ensure(dataset, method=method, fractions=FRACTIONS)
    joined = split.frame.merge(named[["path", "source_group"]], on="path")
    assert joined.groupby("source_group")["split"].nunique().max() == 1
    shares = joined["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(1 / 3 if "fold" in method else 0.3, abs=0.05)
    assert json.loads(split.counts().to_json())["test"]["cat"] > 0


@pytest.mark.parametrize("file", ["scan.parquet", "thumbs.bin", "groups.parquet"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_damaged_scan_caches_are_made_again(tmp_path, file, damage):
    rng = np.random.default_rng(0)
    for n in range(12):
        path = tmp_path / "raw" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(rng)).save(path)
    dataset = intake.bring(str(tmp_path / "raw"))
    before = clean.clean(dataset, workers=1).manifest
    path = dataset.folder / "scan" / file
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 3] ^= 0xFF
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "emptied": b""}[damage])
    after = clean.clean(dataset, workers=1)
    pd.testing.assert_frame_equal(after.manifest, before)
    stored = scan.thumbs(dataset.folder)
    again = scan.scan(dataset, workers=1)
    assert len(stored) >= len(again) and again["thumb"].is_unique
    for row in again.itertuples():
        grey = cv2.cvtColor(np.asarray(Image.open(dataset.raw / row.path)), cv2.COLOR_RGB2GRAY)
        assert np.array_equal(stored[row.thumb], measurements.thumbnail(grey))


def test_cropped_turned_framed_and_mirrored_copies_share_a_group(tmp_path):
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = [cv2.resize(image, (320, 214)) for image in load_sample_images().images]
    for number, photograph in enumerate(photographs):
        image = Image.fromarray(photograph)
        edits = {
            "original": image,
            "cropped": image.crop((0, 0, 240, 160)),
            "turned": image.rotate(15, Image.Resampling.BICUBIC, expand=True),
            "framed": Image.fromarray(
                cv2.copyMakeBorder(photograph, *[40] * 4, cv2.BORDER_CONSTANT)
            ),
            "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).crop((40, 20, 320, 214)),
        }
        for name, edit in edits.items():
            path = tmp_path / "raw" / f"kind{number}" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            edit.save(path)
    for n in range(20):
        Image.fromarray(picture(rng, 96)).save(tmp_path / "raw" / "kind0" / f"other{n}.png")
    dataset = intake.bring(str(tmp_path / "raw"))
    table = clean.clean(dataset, workers=1).manifest.set_index("path")
    for number in (0, 1):
        names = [f"kind{number}/{name}.png" for name in ("original", "cropped", "turned", "framed")]
        assert table.loc[[*names, f"kind{number}/mirrored.png"], "group"].nunique() == 1
    assert table["group"].nunique() == 2 + 20
