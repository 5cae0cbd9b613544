"""Features of a finished run and of the network before it, and the notebook that looks at them."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import map_home
import numpy as np
import pytest

from lib import parameter_table
from lib.data import dataset as datasets
from lib.data import pixel_cache
from lib.embeddings import feature_spaces, map_record
from lib.errors import DarkroomError
from lib.models import predictor

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("spaces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARKROOM_HOME", str(root))
        map_home.build(root)
        map_home.train(root)
        yield root


@pytest.fixture
def origin(home):
    return feature_spaces.load_run(
        datasets.load("pictures"), study="odd@pictures", trained="tiny-s0"
    )


def test_features_of_a_run_are_those_of_its_model_for_every_accepted_image(origin, monkeypatch):
    dataset = datasets.load("pictures")
    space = feature_spaces.features(origin, dataset)
    assert (space.name, space.features.dtype, space.features.shape) == (
        "trained",
        np.float16,
        (60, 8),
    )
    cached = pixel_cache.cache(dataset, side=16)
    expected = predictor.features(origin.model, np.asarray(cached.array), dtype="float16")
    np.testing.assert_allclose(space.features, expected, atol=2e-3)
    assert json.loads((space.folder / feature_spaces.INDEX).read_text())["paths"] == list(
        cached.rows.index
    )
    assert origin.table["verdict"].value_counts().to_dict() == {"right": 48, "wrong": 12}
    monkeypatch.setattr(predictor, "feature_batches", None)  # a second time nothing is computed
    feature_spaces.features(origin, dataset)


def test_the_network_before_training_is_another_one_and_seeded(origin):
    dataset = datasets.load("pictures")
    trained = feature_spaces.features(origin, dataset)
    first = feature_spaces.load_before(origin, dataset, which="untrained", seed=3)
    assert first.folder != trained.folder and first.features.shape == trained.features.shape
    assert (
        feature_spaces.load_before(origin, dataset, which="untrained", seed=3).folder
        == first.folder
    )
    assert (
        feature_spaces.load_before(origin, dataset, which="untrained", seed=4).folder
        != first.folder
    )
    with pytest.raises(DarkroomError, match="has ImageNet weights.*for custom"):
        feature_spaces.load_before(origin, dataset, which="frozen")


def test_the_pretrained_network_before_a_training_that_recorded_all_parameters(home):
    dataset = datasets.load("pictures")
    network = feature_spaces.load_backbone(
        dataset, architecture="efficientnet_lite0", image_side=32, limit=12
    )
    recorded = parameter_table.find("3_train").defaults() | network.parameters
    assert recorded["alpha"] == 1.0
    trained = dataclasses.replace(network, name="trained", parameters=recorded)
    before = feature_spaces.load_before(trained, dataset, which="frozen")
    expected = feature_spaces.features(network, dataset)
    np.testing.assert_array_equal(before.features, expected.features)


def test_a_limit_takes_images_of_the_split_first(home):
    limited = feature_spaces.load_run(
        datasets.load("pictures"), study="odd@pictures", trained="train/tiny-s0", limit=15
    )
    assert len(limited.table) == len(limited.images) == 15
    assert limited.table["split"].notna().all()
    assert limited.table["path"].is_monotonic_increasing


def test_a_training_that_is_not_there_is_named(home):
    with pytest.raises(
        DarkroomError, match="no finished training odd@pictures/train/small-s0.*tiny-s0"
    ):
        feature_spaces.load_run(datasets.load("pictures"), study="odd@pictures", trained="small-s0")
    with pytest.raises(DarkroomError, match="unit, stage/unit or study/stage/unit"):
        feature_spaces.load_run(datasets.load("pictures"), study="s", trained="a/b/c/d")


def test_the_notebook_runs_by_plain_papermill_and_leaves_what_the_site_shows(home, tmp_path):
    words = [
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "8_features.ipynb"),
        str(tmp_path / "out.ipynb"),
        "-p",
        "tiny",
        "True",
        "-p",
        "data",
        "pictures",
        "-p",
        "trained",
        map_home.MODEL,
        "-p",
        "arm",
        "seen",
        "--no-progress-bar",
    ]
    done = subprocess.run(
        [sys.executable, *words], env=dict(os.environ), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run = home / "logs" / "interactive" / "features" / "seen-s0"
    told = json.loads((run / "result.json").read_text())
    assert {
        f"{name}.png" for name in ("separated", "maps", "maps_other", "before", "faithfulness")
    } <= set(told["figures"])
    assert told["sentences"][0].startswith("A tiny run")
    [separated] = told["audit"]
    assert separated["check"] == "classes_separated" and "purity" in separated["message"]
    assert told["sentences"][1].startswith("The trained network ")
    found = map_record.read(run)
    assert found.places("untrained", "pca").shape == (60, 2)
    assert found.account["model"]["path"] == "odd@pictures/train/tiny-s0/model.keras"
    assert (run / "projector_config.pbtxt").is_file()
