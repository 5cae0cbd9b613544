import functools

import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import build, heads, losses, predictor, transfer

SIDE = 16


@pytest.fixture
def model():
    return build(
        "custom",
        class_names="ab",
        image_side=SIDE,
        filters=(4, 4),
        pool_after=(1,),
        dropout=0.5,
        batch_normalization=["block"],
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (32, SIDE, SIDE, 3), dtype=np.uint8)


def trainable(model):
    return [layer.name for layer in model.layers if layer.trainable and layer.weights]


def test_frozen_only_the_head_learns(model, images):
    assert transfer.freeze(model) == 4 * 2 + 2
    assert trainable(model) == ["logits"]
    before = predictor.features(model, images)
    model.compile("adam", losses.loss(model))
    model.fit(images, np.arange(32) % 2, verbose=0)
    np.testing.assert_array_equal(
        predictor.features(model, images), before
    )  # running statistics stood still too


def test_the_top_learns_and_batch_norm_does_not(model):
    assert transfer.unfreeze_top(model, fraction=0.5) == 4 * 4 * 9 + 4 * 2 + 2
    assert trainable(model) == ["block2_conv", "logits"]
    transfer.unfreeze_top(model, fraction=1.0)
    assert trainable(model) == ["block1_conv", "block2_conv", "logits"]
    transfer.unfreeze(model)
    assert trainable(model) == ["block1_conv", "block1_bn", "block2_conv", "block2_bn", "logits"]
    with pytest.raises(
        DarkroomError, match="`fraction` must be above 0 and at most 1. Received: 0"
    ):
        transfer.unfreeze_top(model, fraction=0)


def test_a_head_trained_on_features_makes_the_model_whole(model, images):
    truth = images.mean(axis=(1, 2, 3)) > np.median(images.mean(axis=(1, 2, 3)))
    features = predictor.features(model, images)
    classifier = transfer.classifier_on_features(model)
    np.testing.assert_allclose(
        classifier.predict(features, verbose=0),
        predictor.features(model, images, layer="logits"),
        atol=1e-5,
    )
    classifier.compile(
        keras.optimizers.Adam(0.1), losses.loss(classifier), metrics=[losses.accuracy(classifier)]
    )
    classifier.fit(features, truth.astype(int), epochs=2, verbose=0)
    before = predictor.predict_proba(model, images)
    transfer.graft(model, classifier)
    found = predictor.predict_proba(model, images)
    assert np.abs(found - before).max() > 1e-3
    expected = heads.probabilities(heads.of(classifier), classifier.predict(features, verbose=0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_head_of_another_model_is_refused(model):
    other = build("custom", class_names="abc", image_side=SIDE)
    with pytest.raises(DarkroomError, match="was not made from 'custom'"):
        transfer.graft(model, transfer.classifier_on_features(other))


def test_features_of_stages_are_standardized_before_the_head():
    model = build(
        "mobilenet_v3_small",
        class_names="ab",
        image_side=32,
        weights="none",
        feature_maps="stages",
    )
    rng = np.random.default_rng(0)
    num_features = model.get_layer("pool").output.shape[1]
    scales = 10 ** rng.uniform(-2, 2, num_features)
    features = (rng.normal(3, 1, (50, num_features)) * scales).astype(np.float32)
    transfer.standardize(model, features)
    kernel, bias = rng.normal(size=(num_features, 2)) / scales[:, None], np.array([0.5, -1.0])
    transfer.set_linear_weights(model, kernel, bias)
    classifier = transfer.classifier_on_features(model)
    logits, scaled = keras.Model(
        classifier.inputs, [classifier.output, classifier.get_layer("standardize").output]
    ).predict(features, verbose=0)
    floor = 1e-3 * features.std(axis=0).max()
    varied = features.std(axis=0) > floor  # the others are divided by more than their deviation
    assert 1000 < varied.sum() < num_features
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0)[varied], 1, atol=1e-3)
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-3, atol=0.1)
    for now, given in zip(transfer.linear_weights(model), (kernel, bias), strict=True):
        np.testing.assert_allclose(now, given, rtol=1e-3, atol=1e-3)
    top = functools.partial(transfer.unfreeze_top, fraction=0.5)
    for release in (transfer.freeze, top, transfer.unfreeze):
        release(model)
        assert not model.get_layer("standardize").trainable and model.layers[-1].trainable
