import io
import json
import signal

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.cleaning import clean as cleaning
from lib.cleaning import findings, ledger, measurements, plots
from lib.cleaning import scan as scanning
from lib.cleaning.findings import Thresholds
from lib.cleaning.measurements import Measured, light, measure, thumbnail
from lib.data import intake, manifest, thumbnails
from lib.errors import DarkroomError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))


def scene(seed, side=64):
    """A picture of coloured blobs, unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def save(path, pixels, kind="PNG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, kind, **options)


@pytest.fixture
def faulty(tmp_path):
    """Class folders a and b of five good pictures each, and one file of every fault."""
    raw = tmp_path / "faulty"
    for name in "ab":
        for number in range(5):
            save(raw / name / f"{number}.png", scene(number + 10 * (name == "b")))
    (raw / "a/text.png").write_text("not a picture")
    whole = io.BytesIO()
    Image.fromarray(scene(50)).save(whole, "JPEG")
    (raw / "a/cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    save(raw / "a/copy of 0.bmp", scene(0), "BMP")
    save(raw / "a/shared.png", scene(60))
    save(raw / "b/shared.png", scene(60))
    save(raw / "b/wrong.jpg", scene(61))
    save(raw / "b/tiny.png", np.random.default_rng(62).integers(0, 255, (5, 5, 3), np.uint8))
    save(raw / "b/long.png", np.tile(scene(63), (1, 20, 1)))
    save(raw / "b/black.png", np.full((64, 64, 3), 3, np.uint8))
    save(raw / "b/white.png", np.full((64, 64, 3), 254, np.uint8))
    save(raw / "stray.png", scene(64))
    return raw


def reasons(cleaned):
    return {row.path: row.reasons for row in cleaned.manifest.itertuples() if row.reasons}


def test_every_fault_is_found_and_judged(faulty):
    cleaned = cleaning.clean(intake.bring(str(faulty)), thresholds=Thresholds(few_files=0))
    assert reasons(cleaned) == {
        "a/copy of 0.bmp": ["exact_duplicate"],
        "a/text.png": ["not_an_image"],
        "a/cut.jpg": ["truncated"],
        "a/shared.png": ["two_labels"],
        "b/shared.png": ["two_labels"],
        "b/wrong.jpg": ["wrong_extension"],
        "b/tiny.png": ["too_small"],
        "b/long.png": ["odd_aspect"],
        "stray.png": ["unlabelled"],
        "b/black.png": ["dark", "low_contrast", "uniform"],
        "b/white.png": ["bright", "low_contrast", "uniform"],
    }
    verdicts = cleaned.manifest.set_index("path")["verdict"]
    assert verdicts["a/0.png"] == "keep"  # of two copies the first path stays
    rejected = [
        "a/copy of 0.bmp",
        "a/cut.jpg",
        "a/shared.png",
        "a/text.png",
        "b/shared.png",
        "stray.png",
    ]
    assert sorted(verdicts.index[verdicts == "reject"]) == rejected
    assert (
        set(verdicts[["b/tiny.png", "b/long.png", "b/black.png"]]) == {"review"}
        and verdicts["b/wrong.jpg"] == "keep"
    )
    assert cleaned.classes.loc["a"].to_dict() == {
        "before": 9,
        "keep": 5,
        "review": 0,
        "reject": 4,
        "after": 5,
    }
    assert "9 rejected" not in cleaned.sentence() and "6 rejected" in cleaned.sentence()


def test_raw_files_stay_and_the_manifest_is_the_contract_s(faulty):
    before = {path: path.read_bytes() for path in faulty.rglob("*") if path.is_file()}
    data = intake.bring(str(faulty))
    cleaning.clean(data)
    assert before == {path: path.read_bytes() for path in faulty.rglob("*") if path.is_file()}
    table = data.manifest()
    names = {*manifest.COLUMNS, *manifest.OPTIONAL}
    assert set(table.columns) == names and len(table) == len(before)
    row = table.set_index("path").loc["a/1.png"]
    assert (row["format"], row["width"], row["height"], row["mode"], row["label"]) == (
        "PNG",
        64,
        64,
        "RGB",
        "a",
    )
    broken = table.set_index("path").loc["a/cut.jpg"]
    assert pd.isna(broken["pixels"]) and pd.isna(broken["width"]) and len(broken["sha256"]) == 64
    assert set(data.accepted()["label"]) == {"a", "b"}
    assert (data.accepted()["verdict"] == "keep").all()


def test_cleaning_again_changes_nothing_and_opens_nothing(faulty, monkeypatch):
    data = intake.bring(str(faulty))
    first = cleaning.clean(data)
    digest, entries = data.digest(), len(ledger.read(data.folder))
    monkeypatch.setattr(
        measurements, "measure_all", lambda *a, **k: pytest.fail("a file was opened")
    )
    second = cleaning.clean(data)
    pd.testing.assert_frame_equal(first.manifest, second.manifest)
    pd.testing.assert_frame_equal(first.findings, second.findings)
    assert data.digest() == digest and len(ledger.read(data.folder)) == entries == 1


def test_cleaning_says_what_it_counts(faulty):
    counted = []

    def counting(what):
        return lambda done, total: counted.append((what, done, total))

    cleaned = cleaning.clean(intake.bring(str(faulty)), counting=counting)
    num = len(cleaned.manifest)
    assert ("files read", 1, num) in counted
    assert counted[-1] == ("files compared, to find copies", 0, num)


def test_only_what_changed_is_read(faulty):
    data = intake.bring(str(faulty))
    scanning.scan(data)
    save(faulty / "a/new.png", scene(99))
    save(faulty / "a/1.png", scene(98))
    (faulty / "a/2.png").unlink()
    read = []
    table = scanning.scan(data, progress=lambda done, total: read.append((done, total)))
    assert read == [(1, 2), (2, 2)] and "a/2.png" not in set(table["path"])


def test_thresholds_and_verdicts_are_parameters(faulty):
    data = intake.bring(str(faulty))
    loose = cleaning.clean(
        data, thresholds=Thresholds(smallest_side=2, few_files=0), verdicts={"odd_aspect": "reject"}
    )
    verdicts = loose.manifest.set_index("path")["verdict"]
    assert verdicts["b/tiny.png"] == "keep" and verdicts["b/long.png"] == "reject"
    with pytest.raises(ValueError, match="threshold dark must be a number"):
        Thresholds(dark=float("nan"))
    with pytest.raises(ValueError, match="Received: 'blury'. Did you mean 'blurred'"):
        cleaning.clean(data, verdicts={"blury": "keep"})
    with pytest.raises(ValueError, match="`verdict blurred` must be one of keep.* 'maybe'"):
        cleaning.clean(data, verdicts={"blurred": "maybe"})


def test_hand_decisions_hold_and_can_be_undone(faulty):
    data, limits = intake.bring(str(faulty)), Thresholds(few_files=0)
    cleaning.clean(data, thresholds=limits)
    plain = data.manifest()
    cleaning.decide(data, ["b/tiny.png"], verdict="keep", by="ada")
    cleaning.relabel(data, ["b/1.png"], label="a", by="ada")
    moved = cleaning.clean(data, thresholds=limits).manifest.set_index("path")
    assert moved.loc["b/tiny.png", "verdict"] == "keep" and moved.loc["b/1.png", "label"] == "a"
    assert cleaning.undo(data)["action"] == "label"
    assert data.manifest().set_index("path").loc["b/1.png", "label"] == "b"
    cleaning.undo(data, entry=2)
    pd.testing.assert_frame_equal(data.manifest(), plain)
    assert [entry["action"] for entry in ledger.read(data.folder)] == [
        "clean",
        "verdict",
        "label",
        "undo",
        "undo",
    ]
    cleaning.undo(data)  # the cleaning itself
    assert (data.manifest()["verdict"] == "keep").all()
    with pytest.raises(DarkroomError, match="nothing to undo"):
        cleaning.undo(data)
    with pytest.raises(DarkroomError, match="no file 'nowhere.png'"):
        cleaning.decide(data, ["nowhere.png"], verdict="keep")


def test_a_relabelled_copy_is_no_conflict_any_more(faulty):
    data = intake.bring(str(faulty))
    cleaning.clean(data)
    cleaning.relabel(data, ["b/shared.png"], label="a")
    again = reasons(cleaning.clean(data))
    assert "a/shared.png" not in again or "two_labels" not in again["a/shared.png"]
    assert "exact_duplicate" in again["b/shared.png"]


def test_an_undo_can_be_undone(tmp_path):
    for label in ("x", "y"):
        ledger.append(
            tmp_path,
            by="ada",
            action="label",
            changes=[{"path": "1", "before": {}, "after": {"label": label}}],
        )
    ledger.undo(tmp_path)
    assert ledger.state(ledger.read(tmp_path)) == {"1": {"label": "x"}}
    ledger.append(tmp_path, by="undo", action="undo", changes=[], of=3)
    assert ledger.state(ledger.read(tmp_path)) == {"1": {"label": "y"}}
    with pytest.raises(DarkroomError, match="no act 9 to undo; those that stand are 1, 2"):
        ledger.undo(tmp_path, entry=9)


def test_a_torn_last_line_is_passed_over_and_healed(tmp_path):
    ledger.append(tmp_path, by="ada", action="label", changes=[])
    with (tmp_path / ledger.FILE).open("a") as file:
        file.write('{"entry": 2, "acti')
    assert len(ledger.read(tmp_path)) == 1
    assert ledger.append(tmp_path, by="ada", action="label", changes=[])["entry"] == 2
    assert [
        json.loads(line)["entry"] for line in (tmp_path / ledger.FILE).read_text().splitlines()
    ] == [1, 2]


def test_a_source_that_leaks_is_named_and_the_test_copy_stays(tmp_path):
    raw = tmp_path / "split"
    for split, base in (("train", 0), ("test", 100)):
        for name in "ab":
            for number in range(3):
                save(
                    raw / split / name / f"{number}.png", scene(base + number + 10 * (name == "b"))
                )
    save(raw / "train/a/leak.png", scene(100))
    found = cleaning.clean(intake.bring(str(raw)), thresholds=Thresholds(few_files=0)).findings
    assert found[["path", "reason", "verdict"]].values.tolist() == [
        ["test/a/0.png", "duplicate_across_splits", "keep"],
        ["train/a/leak.png", "duplicate_across_splits", "keep"],
        ["train/a/leak.png", "exact_duplicate", "reject"],
    ]


def test_a_file_that_kills_its_worker_is_named_and_the_rest_continues(tmp_path, monkeypatch):
    hostile = tmp_path / "site"
    hostile.mkdir()
    (hostile / "sitecustomize.py").write_text(
        "import os, time\nfrom pathlib import Path\nold = Path.open\n"
        "def read(path, *mode, **options):\n"
        "    if path.name == 'kill.png': os.kill(os.getpid(), 9)\n"
        "    if path.name == 'hang.png': time.sleep(600)\n"
        "    return old(path, *mode, **options)\nPath.open = read\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hostile))
    names = ["1.png", "kill.png", "2.png", "hang.png", "3.png", "gone.png"]
    for name in names[:-1]:
        save(tmp_path / name, scene(1))
    measured = list(
        measurements.measure_all([tmp_path / name for name in names], workers=1, patience_s=30)
    )
    assert [row.problem for row in measured] == [
        None,
        "crashed",
        None,
        "crashed",
        None,
        "unreadable",
    ]
    assert (
        f"signal {int(signal.SIGKILL)}" in measured[1].detail
        and "longer than 30 s" in measured[3].detail
    )


def test_measures_can_be_checked_by_hand(tmp_path):
    half = np.zeros((10, 20, 3), np.uint8)
    half[:, 10:] = 255
    save(tmp_path / "half.png", half)
    told = measure(tmp_path / "half.png")
    assert (told.dark, told.bright, told.contrast, told.uniform) == (1.0, 0.0, 1.0, 0.5)
    assert (told.width, told.height, told.format, told.mode, told.problem) == (
        20,
        10,
        "PNG",
        "RGB",
        None,
    )
    save(tmp_path / "half.bmp", half, "BMP")
    assert measure(tmp_path / "half.bmp").pixels == told.pixels
    assert measure(tmp_path / "none.png") == Measured(
        problem="unreadable", detail="No such file or directory"
    )


def test_too_little_left_is_refused(tmp_path):
    for name in "ab":
        for number in range(2):
            save(tmp_path / "same" / name / f"{number}.png", scene(1))
    with pytest.raises(
        DarkroomError, match=r"4 of the 4 files of .same. show a picture that is in two classes"
    ):
        cleaning.clean(intake.bring(str(tmp_path / "same")))


def test_figures_say_what_they_show(faulty):
    save(faulty / "猫 😀 with a very long name indeed, longer than any axis" / "1.png", scene(200))
    save(faulty / "猫 😀 with a very long name indeed, longer than any axis" / "2.png", scene(201))
    cleaned = cleaning.clean(intake.bring(str(faulty)))
    for drawing, words in (
        (plots.counts(cleaned), "two_labels 2 (reject)"),
        (plots.classes(cleaned), "3 classes"),
        (plots.worst(cleaned, "truncated"), "a/cut.jpg"),
        (plots.groups(cleaned), "of 2, 2 files"),
    ):
        assert words in drawing.alt and drawing.png(dpi=50).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no finding 'corrupted'"):
        plots.worst(cleaned, "corrupted")


def test_where_no_two_files_are_alike_the_sentence_says_so(tmp_path):
    for at, name in enumerate("aabb"):
        save(tmp_path / "four" / name / f"{at}.png", scene(at))
    told = cleaning.clean(intake.bring(str(tmp_path / "four"))).sentence()
    assert told.endswith("0 rejected; there are no near-duplicates. No raw file was changed.")


def test_a_file_s_caption_is_its_path_as_a_decision_wants_it_and_all_that_is_reported(faulty):
    cleaned = cleaning.clean(intake.bring(str(faulty)))
    drawing = plots.worst(cleaned, "two_labels")
    captions = {axes.get_title("left") for axes in drawing.axes} - {""}
    told = cleaned.findings.query("reason == 'two_labels'")
    assert {" ".join(caption.split("\n")) for caption in captions} == set(
        told["path"] + " " + told["detail"]
    )
    assert drawing.get_suptitle() == "two_labels (reject): 2 files"
    assert {tuple(np.diff(axes.get_xlim())) for axes in drawing.axes if axes.get_title("left")} == {
        (thumbnails.SIDE,)
    }
    bars = plots.counts(cleaned).axes[0]
    assert not bars.spines["top"].get_visible() and not bars.spines["right"].get_visible()


def test_the_hardest_verdict_wins():
    assert findings.worst(["keep", "reject", "review"]) == "reject" and findings.worst([]) == "keep"


def test_thumbnails_are_apart_and_a_torn_one_is_cut_off(faulty):
    data = intake.bring(str(faulty))
    table = scanning.scan(data)
    with (data.folder / scanning.THUMBS).open("ab") as file:
        file.write(b"torn")
    save(faulty / "a/new.png", scene(99))
    again = scanning.scan(data).set_index("path")
    stored = scanning.thumbs(data.folder)
    assert (
        stored.shape[1:] == (64, 64)
        and len(stored) == again["thumb"].notna().sum() == table["thumb"].notna().sum() + 1
    )
    assert stored[again.loc["a/new.png", "thumb"]].tobytes() == measure(faulty / "a/new.png").thumb
    assert again["thumb"].dropna().is_unique


@pytest.mark.parametrize(
    ("size", "most", "mean"), [((512, 512), 1, 0.5), ((480, 640), 2, 0.5), ((300, 400), 5, 1.0)]
)
def test_a_thumbnail_is_nearly_that_of_the_whole_picture_at_once(size, most, mean):
    noise = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    grey = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    apart = np.abs(
        thumbnail(grey).astype(int) - cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    )
    assert apart.max() <= most and apart.mean() <= mean


def test_the_light_of_a_large_picture_is_nearly_that_of_every_row(monkeypatch):
    grey = np.random.default_rng(0).normal(100, 10, (1201, 1600)).astype(np.uint8)
    grey[300:600] = 250
    some = light(grey)
    monkeypatch.setattr("lib.cleaning.measurements.MAX_LIGHT_PIXELS", grey.size)
    assert some == pytest.approx(light(grey), abs=0.005) and some["dark"] == 250 / 255


def test_a_scan_that_was_stopped_continues_from_what_it_wrote(faulty, monkeypatch):
    data = intake.bring(str(faulty))
    monkeypatch.setattr(scanning, "SAVED_EVERY_S", 0.0)

    def stop(done, total):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scanning.scan(data, progress=stop)
    read = []
    table = scanning.scan(data, progress=lambda done, total: read.append(total))
    assert read[0] == len(table) - 8  # the ninth had been measured, but not written down


def test_groups_are_found_once(faulty, monkeypatch):
    from lib.cleaning import duplicates

    data = intake.bring(str(faulty))
    first = cleaning.clean(data)
    monkeypatch.setattr(
        duplicates, "group", lambda *a, **k: pytest.fail("groups were sought again")
    )
    pd.testing.assert_frame_equal(first.scanned, cleaning.clean(data).scanned)
    with pytest.raises(DarkroomError, match="must be one of copies, look_alikes"):
        cleaning.clean(data, grouping="twins")
    save(faulty / "a/new.png", scene(99))
    with pytest.raises(pytest.fail.Exception, match="sought again"):
        cleaning.clean(data)
