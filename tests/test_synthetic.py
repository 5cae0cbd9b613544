import hashlib
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data.sources import synthetic as source
from lib.errors import DarkroomError
from tools import synthetic
from tools.synthetic import faults, formats, plan
from tools.synthetic.drawing import moved

SMALL = (64, 96)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "raw"
    return folder, synthetic.draw(folder, num_images=40, seed=3, sides=SMALL)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def one(truth, fault):
    (row,) = truth[truth["fault"] == fault].to_dict("records")
    return row


@pytest.mark.parametrize("kind", sorted(synthetic.KINDS))
def test_picture_is_settled_by_its_seed(kind):
    first = synthetic.picture(kind, seed=5)
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert 120 <= min(first.shape[:2]) <= max(first.shape[:2]) <= 480
    assert np.array_equal(first, synthetic.picture(kind, seed=5))
    other = synthetic.picture(kind, seed=6)
    assert other.shape != first.shape or not np.array_equal(first, other)
    assert first.std() > 4


def test_picture_does_not_touch_the_global_random_state():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    synthetic.picture("photo", seed=1, sides=SMALL)
    assert np.array_equal(before, np.random.get_state()[1])


def test_picture_refuses_what_it_cannot_draw():
    with pytest.raises(
        DarkroomError, match=r"must be one of painting, photo.*'skech'.*Did you mean 'sketch'"
    ):
        synthetic.picture("skech", seed=0)
    with pytest.raises(DarkroomError, match=r"between 32 and 2048 pixels. Received: \(7, 90\)"):
        synthetic.picture("text", seed=0, sides=(7, 90))
    with pytest.raises(DarkroomError, match=r"Received: \(90, 60\)"):
        synthetic.picture("text", seed=0, sides=(90, 60))


def test_the_same_seed_gives_the_same_files(tmp_path):
    first = synthetic.draw(tmp_path / "a" / "raw", num_images=30, seed=8, sides=SMALL)
    second = synthetic.draw(tmp_path / "b" / "raw", num_images=30, seed=8, sides=SMALL)
    pd.testing.assert_frame_equal(first, second)
    for path in first["path"]:
        assert digest(tmp_path / "a" / "raw" / path) == digest(tmp_path / "b" / "raw" / path)


def test_truth_is_next_to_the_folder_and_names_every_file(drawn):
    folder, truth = drawn
    there = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    assert there == sorted(truth["path"])
    assert list(truth["path"]) == sorted(truth["path"])
    stored = pd.read_parquet(folder.parent / synthetic.TRUTH)
    assert list(stored["path"]) == list(truth["path"])
    assert list(stored["fault"].isna()) == list(truth["fault"].isna())
    assert (truth["path"].str.split("/").str[0] == truth["label"]).all()
    assert sorted(truth["label"].unique()) == sorted(synthetic.KINDS)


def test_every_fault_occurs_and_most_pictures_are_sound(drawn):
    _, truth = drawn
    assert set(truth["fault"].dropna()) == {*plan.IN_PLACE, *plan.EXTRA, "litter"}
    assert truth["fault"].isna().sum() == 40 - len(
        plan.IN_PLACE
    )  # each once among forty, as 3 % of 40 is one
    sound = truth[truth["fault"].isna()]
    assert (sound["kind"] == sound["label"]).all()


def test_only_the_files_said_to_be_broken_do_not_decode(drawn):
    folder, truth = drawn
    broken = (
        set(faults.BYTES) - {"rotten_crc"}
        | {f"not_an_image_{name}" for name in faults.STRANGERS}
        | {"litter"}
    )
    for row in truth.itertuples():
        if row.fault in broken:
            with pytest.raises(OSError):
                pixels(folder / row.path)
        else:
            assert pixels(folder / row.path).ndim == 3


def test_a_bad_checksum_is_found_by_who_verifies(drawn):
    folder, truth = drawn
    with (
        Image.open(folder / one(truth, "rotten_crc")["path"]) as image,
        pytest.raises(SyntaxError, match="bad header checksum|CRC"),
    ):
        image.verify()


def test_exact_copies(drawn):
    folder, truth = drawn
    for fault in ("exact_bytes", "two_labels"):
        row = one(truth, fault)
        assert digest(folder / row["path"]) == digest(folder / row["partner"])
    row = one(truth, "exact_pixels")
    assert digest(folder / row["path"]) != digest(folder / row["partner"])
    assert np.array_equal(pixels(folder / row["path"]), pixels(folder / row["partner"]))
    twice = one(truth, "two_labels")
    assert twice["path"].split("/")[0] != twice["partner"].split("/")[0]


def test_near_copies_are_what_they_say(drawn):
    folder, truth = drawn

    def pair(name):
        row = one(truth, f"near_{name}")
        return pixels(folder / row["path"]), pixels(folder / row["partner"])

    copy, original = pair("mirror")
    assert np.abs(copy[:, ::-1] - original).mean() < 8
    copy, original = pair("turn_90_degrees")
    assert np.abs(np.rot90(copy, -1) - original).mean() < 8
    copy, original = pair("quality_50")
    assert 0 < np.abs(copy - original).mean() < 12
    copy, original = pair("half_size")
    assert copy.shape[:2] == (original.shape[0] // 2, original.shape[1] // 2)
    copy, original = pair("darker_15")
    assert copy.mean() == pytest.approx(0.85 * original.mean(), rel=0.02)


def test_wrong_labels_are_in_another_class(drawn):
    _, truth = drawn
    row = one(truth, "wrong_label")
    assert row["kind"] != row["label"]
    assert row["detail"] == f"truly {row['kind']}"


def test_spoilt_looks_and_the_wrong_extension(drawn):
    folder, truth = drawn
    assert pixels(folder / one(truth, "dark")["path"]).mean() < 20
    assert pixels(folder / one(truth, "bright")["path"]).mean() > 235
    assert pixels(folder / one(truth, "uniform")["path"]).std(axis=(0, 1)).max() < 2
    wrong = one(truth, "wrong_extension")["path"]
    with Image.open(folder / wrong) as image:
        assert (image.format, wrong[-4:]) == ("PNG", ".jpg")


def test_boxes_are_inside_their_pictures(drawn):
    folder, truth = drawn
    boxed = truth[truth["box_left"].notna() & ~truth["fault"].isin([*faults.BYTES])]
    assert len(boxed) > 40
    for row in boxed.itertuples():
        height, width = pixels(folder / row.path).shape[:2]
        assert 0 <= row.box_left < row.box_right <= width
        assert 0 <= row.box_top < row.box_bottom <= height


def test_boxes_move_with_the_picture():
    box = (10.0, 20.0, 30.0, 60.0)  # in a picture 100 wide and 80 high
    image = np.zeros((80, 100, 3), np.uint8)
    expected = {
        "mirror": (70, 20, 90, 60),
        "half_size": (5, 10, 15, 30),
        "turn_90_degrees": (20, 70, 60, 90),
        "crop_2_percent": (8, 18, 28, 58),
    }
    for name, there in expected.items():
        copy, matrix = faults.COPIES[name](image)
        assert moved(box, matrix, width=copy.shape[1], height=copy.shape[0]) == there
    assert moved((0.0, 0.0, 1.0, 9.0), np.eye(2, 3), width=100, height=80) is None
    assert moved(None, np.eye(2, 3), width=100, height=80) is None


def test_a_box_stays_on_its_pixels_in_a_quarter_turn():
    image = np.zeros((80, 100, 3), np.uint8)
    image[20:60, 10:30] = 255
    copy, matrix = faults.COPIES["turn_90_degrees"](image)
    left, top, right, bottom = (
        int(v) for v in moved((10, 20, 30, 60), matrix, width=80, height=100)
    )
    assert copy[top:bottom, left:right].min() == 255
    assert copy.sum() == image.sum() == copy[top:bottom, left:right].sum()


def test_without_faults_there_are_only_sound_files(tmp_path):
    truth = synthetic.draw(tmp_path / "raw", num_images=50, faults=False, sides=SMALL)
    assert len(truth) == 50
    assert truth["fault"].isna().all()
    assert truth["label"].value_counts().to_dict() == {
        "painting": 11,
        "photo": 11,
        "schematic": 9,
        "sketch": 10,
        "text": 9,
    }


def test_touch_changes_the_drawn_pictures_last_of_all(tmp_path):
    def mark(image, label):
        marked = image.copy()
        marked[:8, :8] = 255 if label == "text" else 0
        return marked

    truth = synthetic.draw(tmp_path / "raw", num_images=10, faults=False, sides=SMALL, touch=mark)
    for row in truth.itertuples():
        corner = pixels(tmp_path / "raw" / row.path)[:8, :8].mean()
        assert corner > 200 if row.label == "text" else corner < 55


def test_draw_refuses(tmp_path):
    with pytest.raises(DarkroomError, match="at least 30 with faults. Received: 29"):
        synthetic.draw(tmp_path / "raw", num_images=29)
    with pytest.raises(DarkroomError, match="at least 5. Received: 4"):
        synthetic.draw(tmp_path / "raw", num_images=4, faults=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DarkroomError, match="is not empty"):
        synthetic.draw(tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_the_plan_of_a_thousand():
    entries = plan.settle(1000, seed=0, with_faults=True)
    assert [entry.number for entry in entries] == list(range(len(entries)))
    counts = pd.Series([entry.fault for entry in entries]).value_counts()
    assert counts["wrong_label"] == 30
    assert counts["exact_bytes"] == 12
    by_number = {entry.number: entry for entry in entries}
    for entry in entries:
        if entry.partner is not None:
            assert by_number[entry.partner].fault is None
            assert by_number[entry.partner].kind == entry.kind
    twice = [entry.partner for entry in entries if entry.fault == "two_labels"]
    assert len(set(twice)) == len(twice) == 6
    assert not {entry.partner for entry in entries if entry.fault != "two_labels"} & set(twice)


def test_the_source_tells_labels_and_boxes_but_no_faults(drawn):
    folder, truth = drawn
    rows = source.rows(folder)
    assert {
        "path",
        "label",
        "source_split",
        "attr_artist",
        "attr_palette",
        "attr_year",
        "box_left",
    } <= set(rows.columns)
    assert not {"fault", "kind", "partner", "detail"} & set(rows.columns)
    assert sorted(rows["path"]) == sorted(truth.loc[truth["fault"] != "litter", "path"])


def test_the_source_says_what_to_do_without_the_truth_table(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(DarkroomError, match="is gone; delete .* and draw it again"):
        source.rows(tmp_path / "raw")


def test_intake_fills_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "NUM_IMAGES", 30)
    (tmp_path / "aside").mkdir()
    noted = source.intake(tmp_path / "aside")
    assert noted["licence"] == "CC0 1.0"
    assert len(source.rows(tmp_path / "aside")) > 30


def test_encode_writes_what_the_extension_says():
    image = np.zeros((8, 9, 3), np.uint8)
    for extension, form in {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP"}.items():
        with Image.open(io.BytesIO(formats.encode(image, extension))) as made:
            assert (made.format, made.size) == (form, (9, 8))
