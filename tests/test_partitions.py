"""A pass over many files in parts, and that it ends with what one machine ends with by itself."""

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import cli
from lib.apply import folder as folders
from lib.apply import load
from lib.batch import partitions
from lib.batch.engine import Engine
from lib.cleaning import clean
from lib.cleaning.scan import scan
from lib.data import sources
from lib.errors import DarkroomError
from lib.spread import answers, features, scanning


def squares(part, times, log):
    """Also notes that it was called."""
    with Path(log).open("a") as file:
        file.write(f"{part[0]}\n")
    return pd.DataFrame({"square": [number**2 * times for number in part]})


def halves(part):
    return np.float32([number / 2 for number in part])


def dies(part, marker):
    """Kills its process on the part that begins with 2: the first time only, or always where there is no marker."""
    if part[0] == 2 and not (marker and Path(marker).exists()):
        if marker:
            Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return halves(part)


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    with Engine(workers=2) as engine:
        yield engine


def test_parts_come_in_order_and_are_not_done_twice(engine, tmp_path):
    parts = partitions.cut(range(5), size=2)
    assert [list(part) for part in parts] == [[0, 1], [2, 3], [4]]
    log = tmp_path / "log"
    for _ in range(2):
        found = partitions.spread(engine, squares, parts, 10, str(log), folder=tmp_path / "parts")
        assert [(index, list(table["square"])) for index, table in found] == [(0, [0, 10]), (1, [40, 90]), (2, [160])]
        assert sorted(log.read_text().split()) == ["0", "2", "4"]
    list(partitions.spread(engine, squares, parts, 11, str(log), folder=tmp_path / "parts"))
    assert len(log.read_text().split()) == 6  # other work is not taken for the same


def test_a_part_whose_process_dies_is_done_anew_and_given_up_at_last(engine, tmp_path):
    parts = partitions.cut(range(4), size=2)
    marker = str(tmp_path / "marker")
    found = list(partitions.spread(engine, dies, parts, marker, folder=tmp_path / "parts"))
    assert [list(values) for _, values in found] == [[0, 0.5], [1, 1.5]]
    with pytest.raises(DarkroomError, match=r"A part of 2 files, 2 to 3, failed: Crashed.*signal 9") as caught:
        list(partitions.spread(engine, dies, parts, "", folder=tmp_path / "others"))
    assert "the same command goes on" in str(caught.value)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Nine small pictures of two classes, one of them broken, as the data set `pictures`."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    draw = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / "pictures" / ("cat", "dög")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", draw.integers(0, 255, (40, 40, 3), dtype=np.uint8))[1].tobytes())
    path.write_bytes(path.read_bytes()[:300])
    return sources.bring(str(tmp_path / "pictures"))


def test_a_spread_scan_is_the_scan(engine, pictures):
    found = scan(pictures, measure=scanning.by(engine, pictures, size=4))
    assert not list((pictures.folder / "scan").glob("*-parts"))
    (pictures.folder / "scan" / "scan.parquet").unlink()
    alone = scan(pictures, workers=1)
    pd.testing.assert_frame_equal(found, alone)
    assert list(alone["problem"].notna()) == [False] * 4 + [True] + [False] * 4
    assert cli.main(["spread", "scan", pictures.name, "--workers", "1"]) == 0  # nothing is left to do


def test_spread_features_and_answers_are_those_of_one_machine(engine, pictures, tmp_path):
    import keras

    from lib import models
    from lib.data import pixels
    from lib.models import feature_cache, saved

    clean.clean(pictures, workers=1)
    keras.utils.set_random_seed(0)
    network = models.build("custom", class_names=["cat", "dög"], image_side=32, filters=[4], dense_units=[8])
    path = tmp_path / "model.keras"
    saved.save(network, path, card={"calibration": {"temperature": 1.0, "thresholds": [{"wished": 0.95, "threshold": 0.5}]}})
    layer = network.layers[-2].name

    folder = features.compute(engine, pictures, str(path), layer=layer, dtype="float32", size=3)
    cached = pixels.cache(pictures, side=32)
    before = (folder / "features.npy").stat().st_mtime_ns
    own = feature_cache.ensure(network, cached.array, images_key=cached.key, folder=pictures.folder / "features", layer=layer)
    assert (folder / "features.npy").stat().st_mtime_ns == before  # it was found
    np.testing.assert_allclose(own, feature_cache.predictor.features(network, cached.array, layer=layer), atol=1e-5)

    classifier = load(path)
    told = folders.apply(classifier, pictures.raw, tmp_path / "alone")
    spread = answers.by(engine, str(path), kept=tmp_path / "parts", size=4)
    ours = folders.apply(classifier, pictures.raw, tmp_path / "spread", answers=spread)
    assert (tmp_path / "spread" / "labels.csv").read_text() == (tmp_path / "alone" / "labels.csv").read_text()
    assert ours.seen.verdicts == told.seen.verdicts and told.seen.verdicts["not read"] == 1
    assert not (tmp_path / "parts").exists()
