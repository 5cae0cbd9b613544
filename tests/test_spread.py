"""Passes spread over processes end with what one machine ends with by itself."""

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from lib import cli, models, paths
from lib.apply import folder as folders
from lib.apply import load
from lib.batch.dask_executor import Executor
from lib.cleaning import clean
from lib.cleaning.scan import scan
from lib.data import intake, pixel_cache
from lib.embeddings import feature_spaces
from lib.models import feature_cache, serialization


@pytest.fixture
def executor():
    with Executor(workers=1) as executor:
        yield executor


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Nine small pictures of two classes, one of them broken, as the data set `pictures`."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    draw = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / "pictures" / ("cat", "dög")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            cv2.imencode(".png", draw.integers(0, 255, (40, 40, 3), dtype=np.uint8))[1].tobytes()
        )
    path.write_bytes(path.read_bytes()[:300])
    return intake.bring(str(tmp_path / "pictures"))


def test_a_spread_scan_is_the_scan(executor, pictures):
    found = scan(pictures, executor=executor, part_size=4)
    assert not list((pictures.folder / "scan").glob("*-parts"))
    (pictures.folder / "scan" / "scan.parquet").unlink()
    alone = scan(pictures, workers=1)
    pd.testing.assert_frame_equal(found, alone)
    assert list(alone["problem"].notna()) == [False] * 4 + [True] + [False] * 4
    assert (
        cli.main(["spread", "scan", pictures.name, "--workers", "1"]) == 0
    )  # nothing is left to do


def test_spread_features_and_answers_are_those_of_one_machine(executor, pictures, tmp_path):
    clean.clean(pictures, workers=1)
    keras.utils.set_random_seed(0)
    network = models.build(
        "custom", class_names=["cat", "dög"], image_side=32, filters=[4], dense_units=[8]
    )
    path = tmp_path / "model.keras"
    serialization.save(
        network,
        path,
        card={
            "calibration": {"temperature": 1.0, "thresholds": [{"wished": 0.95, "threshold": 0.5}]}
        },
    )
    layer = network.layers[-2].name

    folder = feature_spaces.compute(
        pictures, path, executor=executor, layer=layer, dtype="float32", part_size=3
    )
    cached = pixel_cache.cache(pictures, side=32)
    before = (folder / "features.npy").stat().st_mtime_ns
    own = feature_cache.ensure(
        network,
        cached.array,
        images_key=cached.key,
        folder=pictures.folder / "features",
        layer=layer,
    )
    assert (folder / "features.npy").stat().st_mtime_ns == before  # it was found
    np.testing.assert_allclose(
        own, feature_cache.predictor.features(network, cached.array, layer=layer), atol=1e-5
    )

    classifier = load(path)
    told = folders.apply(classifier, pictures.raw, tmp_path / "alone")
    ours = folders.apply(
        classifier,
        pictures.raw,
        tmp_path / "spread",
        executor=executor,
        model=str(path),
        part_size=4,
    )
    assert (tmp_path / "spread" / "labels.csv").read_text() == (
        tmp_path / "alone" / "labels.csv"
    ).read_text()
    assert ours.summary.verdicts == told.summary.verdicts and told.summary.verdicts["not read"] == 1
    assert not list((paths.logs() / ".parts").glob("*"))
