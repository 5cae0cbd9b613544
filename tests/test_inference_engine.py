import json

import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import build, feature_cache, inference, predictor

SIDE = 16
IMAGES = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
needs_export = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export goes through TensorFlow"
)


def small(**changes):
    keras.utils.set_random_seed(0)
    return build(
        "custom",
        class_names="abc",
        image_side=SIDE,
        **{"filters": (8,), "pool_after": (), **changes},
    )


@needs_export
def test_the_exported_network_agrees_and_says_how_near():
    pytest.importorskip("openvino")
    model = small()
    found = inference.prepare(model, IMAGES, engine="openvino")
    assert found.name == "openvino" and found.precision in inference.PRECISIONS
    assert found.agreement.holds and found.agreement.num_images == 12
    by_keras = inference.prepare(model, IMAGES, engine="keras")
    assert by_keras.facts() == {"engine": "keras", "precision": "float32", "agreement": None}
    np.testing.assert_allclose(found(IMAGES), by_keras(IMAGES), atol=0.05)
    before = found(IMAGES)
    model.set_weights([weight * 2 for weight in model.get_weights()])
    assert np.array_equal(found(IMAGES), before)  # it keeps the weights it was made from


@needs_export
def test_features_of_an_export_are_kept_next_to_those_of_keras_and_say_so(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(feature_cache, "_WORTH_AN_EXPORT", 10)
    model = small()
    exported = feature_cache.ensure(
        model, IMAGES, images_key="twelve", folder=tmp_path, engine="auto"
    )
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert folder.name.endswith("-openvino")
    told = feature_cache.facts(folder)
    assert told["engine"] == "openvino" and told["agreement"]["cosine"] > inference.LEAST_COSINE
    assert json.loads((folder / "engine.json").read_text()) == told
    by_keras = feature_cache.ensure(
        model, IMAGES, images_key="twelve", folder=tmp_path, engine="keras"
    )
    np.testing.assert_array_equal(by_keras, predictor.features(model, IMAGES))
    np.testing.assert_allclose(exported, by_keras, atol=0.05 * np.abs(by_keras).max())
    # From now on those of Keras, which are the truth, serve `auto` too.
    assert np.array_equal(
        feature_cache.ensure(model, IMAGES, images_key="twelve", folder=tmp_path), by_keras
    )


@needs_export
def test_an_export_that_disagrees_is_not_used(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(
        inference,
        "_compile",
        lambda exported, precision: lambda batch: np.ones((len(batch), 3), np.float32),
    )
    assert inference.prepare(small(), IMAGES, engine="auto").name == "keras"
    with pytest.raises(DarkroomError, match="do not agree with Keras.*smallest cosine"):
        inference.prepare(small(), IMAGES, engine="openvino")


def test_agreement_by_hand():
    turned = inference.compare(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]))
    assert turned.cosine == pytest.approx(1 / np.sqrt(2)) and not turned.holds
    assert inference.compare(np.zeros((1, 2)), np.zeros((1, 2))).cosine == 1
    assert not inference.compare(np.ones((1, 2)), np.full((1, 2), np.nan)).holds


def test_engines_that_cannot_be_are_refused(monkeypatch):
    with pytest.raises(
        DarkroomError,
        match="one of auto, keras, openvino. Received: 'openvno'. Did you mean 'openvino'",
    ):
        inference.resolve("openvno")
    monkeypatch.setattr(inference.importlib.util, "find_spec", lambda name: None)
    assert inference.resolve("auto") == "keras"
    with pytest.raises(DarkroomError, match="needs OpenVINO: run `pip install openvino`"):
        inference.resolve("openvino")
