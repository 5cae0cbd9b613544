import os
import subprocess
import sys

import numpy as np
import pandas
import pytest
from PIL import Image

from lib.batch import prune
from lib.data import decode, pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Three one-coloured pictures, 10 × 20 px."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, grey in (("b", 200), ("a", 100), ("c", 50)):
        Image.new("L", (20, 10), grey).save(raw / f"{name}.png")
    names = ["c.png", "a.png", "b.png"]
    rows = pandas.DataFrame({"path": names, "pixels": hashes_of(raw, names), "verdict": "keep"})
    monkeypatch.setattr(Dataset, "accepted", lambda self: rows.copy())
    return Dataset("d", tmp_path, raw)


def hashes_of(raw, names):
    return [decode.pixel_hash(decode.decode((raw / name).read_bytes()).pixels) for name in names]


def table_of(dataset):
    names = ["a.png", "b.png", "c.png"]
    return pandas.DataFrame(
        {"path": names, "pixels": hashes_of(dataset.raw, names), "verdict": "keep"}
    )


def test_a_picture_that_was_replaced_since_is_refused_and_no_cache_stays(dataset):
    first, second = (dataset.raw / name for name in ("a.png", "b.png"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(DarkroomError, match="a.png has changed since the data set 'd' was cleaned"):
        pixel_cache.cache(dataset, side=8)
    assert not [path for path in (dataset.folder / "pixels").iterdir() if path.is_dir()]
    first.write_bytes(kept)
    assert pixel_cache.cache(dataset, side=8).array[:, 0, 0, 0].tolist() == [100, 200, 50]


@pytest.mark.parametrize("damage", ["a byte", "the end", "the list"])
def test_a_damaged_cache_is_decoded_again(dataset, damage):
    first = pixel_cache.cache(dataset, side=8)
    stored = dataset.folder / "pixels" / first.key / "pixels.npy"
    content = bytearray(stored.read_bytes())
    if damage == "a byte":
        content[-1] ^= 0xFF
    stored.write_bytes(content[: -8 if damage == "the end" else None])
    if damage == "the list":
        (stored.parent / "index.json").write_text("{")
    assert pixel_cache.cache(dataset, side=8).array[:, 7, 7, 2].tolist() == [100, 200, 50]


def test_images_are_by_path_in_the_size_asked_for(dataset):
    cached = pixel_cache.cache(dataset, side=8)
    assert cached.array.shape == (3, 8, 8, 3)
    assert cached.array.dtype == np.uint8
    assert cached.array[:, 0, 0, 0].tolist() == [100, 200, 50]
    assert cached.rows_of(pandas.Series(["b.png", "a.png"])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        cached.array[0] = 0


def test_a_second_call_reads_and_other_sides_coexist(dataset):
    first = pixel_cache.cache(dataset, side=8)
    written = (dataset.folder / "pixels" / first.key / "pixels.npy").stat().st_mtime_ns
    other = pixel_cache.cache(dataset, side=16, fit="pad")
    assert pixel_cache.cache(dataset, side=8).key == first.key != other.key
    assert (dataset.folder / "pixels" / first.key / "pixels.npy").stat().st_mtime_ns == written
    assert other.array[0, 0].max() == 0  # padded with black above the wide picture
    assert other.array[0, 8].min() == 100


def test_progress_counts_every_image(dataset):
    told = []
    pixel_cache.cache(dataset, side=8, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)


def test_processes_that_build_at_once_do_not_disturb_each_other(tmp_path):
    """Two sides and twice the same side at once, the way parallel runs ask for them."""
    for number in range(120):
        folder = tmp_path / "raw" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    script = (
        "import sys, pandas, pathlib\nfrom lib.data import decode, pixel_cache\nfrom lib.data.dataset "
        "import Dataset\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "paths = sorted(p.relative_to(root / 'raw').as_posix() for p in root.glob('raw/*/*.png'))\n"
        "told = [decode.pixel_hash(decode.decode((root / 'raw' / path).read_bytes()).pixels) for "
        "path in paths]\n"
        "Dataset.accepted = lambda self: pandas.DataFrame({'path': paths, 'pixels': told})\n"
        "cached = pixel_cache.cache(Dataset('d', root, root / 'raw'), "
        "side=int(sys.argv[2]))\nprint(cached.array.sum())"
    )
    sides = ("32", "48", "32", "48")
    asked = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), side], stdout=-1)
        for side in sides
    ]
    told = [process.communicate(timeout=600)[0] for process in asked]
    assert [process.returncode for process in asked] == [0, 0, 0, 0]
    assert told[0] == told[2]
    assert told[1] == told[3]
    assert len([path for path in (tmp_path / "pixels").iterdir() if path.is_dir()]) == 2


def test_bad_sides_full_disks_and_lost_files_are_refused(dataset, monkeypatch):
    with pytest.raises(DarkroomError, match="8 to 2048 pixels. Received: 7"):
        pixel_cache.cache(dataset, side=7)
    (dataset.raw / "a.png").write_bytes(b"gone bad")
    with pytest.raises(DarkroomError, match=r"a.png could be read when.*Run 1_clean again"):
        pixel_cache.cache(dataset, side=8)
    monkeypatch.setattr(
        pixel_cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})()
    )
    with pytest.raises(DarkroomError, match="0.00 GB are free.*smaller image_side"):
        pixel_cache.cache(dataset, side=16)


def test_a_thumbnail_may_be_of_any_height_and_width(dataset):
    cached = pixel_cache.cache(dataset, side=(3, 2))
    assert cached.array.shape == (3, 3, 2, 3)
    assert cached.array[:, 0, 0, 0].tolist() == [100, 200, 50]
    assert pixel_cache.cache(dataset, side=(8, 8)).key == pixel_cache.cache(dataset, side=8).key
    with pytest.raises(DarkroomError, match="`size` must be 1 to 2048"):
        pixel_cache.cache(dataset, side=(0, 10))


def test_decoded_images_of_other_data_are_found(dataset, monkeypatch):
    table = table_of(dataset)
    kept = table.loc[2, "pixels"]
    now = {"table": table}
    monkeypatch.setattr(Dataset, "manifest", lambda self: now["table"])
    cached = pixel_cache.cache(dataset, side=8)
    few = pixel_cache.cache(dataset, side=8, rows=table.iloc[:2])
    assert pixel_cache.stale(dataset) == []
    table.loc[2, "pixels"] = "another picture"
    assert pixel_cache.stale(dataset) == [dataset.folder / "pixels" / cached.key]
    table.loc[2, "pixels"] = kept
    now["table"] = table.drop(index=0)
    assert pixel_cache.stale(dataset) == sorted(
        dataset.folder / "pixels" / each.key for each in (cached, few)
    )


def test_prune_finds_stale_caches_that_are_an_hour_old_and_deletes_them(
    dataset, tmp_path, monkeypatch
):
    table = table_of(dataset)
    monkeypatch.setattr(Dataset, "manifest", lambda self: table)
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    dataset = Dataset("d", tmp_path / "datasets" / "d", dataset.raw)
    monkeypatch.setattr("lib.data.dataset.load", lambda name: dataset)
    old, few = (
        pixel_cache.cache(dataset, side=8),
        pixel_cache.cache(dataset, side=8, rows=table.iloc[:2]),
    )
    folders = [dataset.folder / "pixels" / each.key for each in (old, few)]
    table.loc[2, "pixels"] = "another picture"
    assert prune.find() == []  # whoever is reading it may have begun before the picture changed
    hours_ago = folders[0].stat().st_mtime - 7200
    for folder in folders:
        os.utime(folder, (hours_ago, hours_ago))
    (found,) = prune.find()
    assert (found.path, found.reason) == (folders[0], "pixel cache of data that has changed")
    assert found.num_bytes > 3 * 8 * 8 * 3
    prune.delete([found])
    assert not folders[0].exists() and folders[1].exists()
