"""Batch normalisation by TensorFlow's kernel: the same numbers as Keras', and Keras' own where
nothing is learnt.
"""

import keras
import numpy as np
import pytest

from lib.models import build, compilation, distribution, serialization

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's kernel"
)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(2, 3, (6, 9, 7, 5)).astype("float32")


def alone(**options):
    inputs = keras.Input((9, 7, 5))
    layer = keras.layers.BatchNormalization(
        gamma_initializer="random_uniform", beta_initializer="random_uniform", **options
    )
    return keras.Model(inputs, layer(inputs))


def learnt(model, images):
    """Outputs, gradients for inputs and weights, and the moving statistics after a step."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        seen = tf.constant(images)
        tape.watch(seen)
        outputs = model(seen, training=True)
        uneven = np.cos(np.arange(images.size, dtype="float32")).reshape(images.shape)
        loss = tf.reduce_sum(tf.cast(outputs, "float32") * uneven)
    found = tape.gradient(loss, [seen, *(weight.value for weight in model.trainable_weights)])
    return [
        np.asarray(tf.cast(value, "float32"))
        for value in (outputs, *found, *model.non_trainable_weights)
    ]


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9, "epsilon": 1e-5}, {"scale": False}, {"center": False}]
)
@pytest.mark.parametrize(("policy", "apart"), [("float32", 2e-5), ("mixed_bfloat16", 0.03)])
def test_it_learns_as_keras_does(images, options, policy, apart):
    keras.utils.set_random_seed(0)
    plain = alone(dtype=policy, **options)
    fused = keras.models.clone_model(plain)
    fused.set_weights(plain.get_weights())
    compilation.fuse_batch_norm(fused)
    for mine, theirs in zip(learnt(fused, images), learnt(plain, images), strict=True):
        np.testing.assert_allclose(
            mine, theirs, rtol=apart, atol=apart * max(1, np.abs(theirs).max())
        )


def operations(model, *, training):
    import tensorflow as tf

    traced = tf.function(lambda batch: model(batch, training=training)).get_concrete_function(
        tf.TensorSpec((None, *model.input_shape[1:]), "float32")
    )
    return {operation.type for operation in traced.graph.get_operations()}


def test_what_is_frozen_or_applied_stays_with_keras(images):
    model = alone()
    before = model.predict(images, verbose=0)
    compilation.fuse_batch_norm(model)
    assert "FusedBatchNormV3" in operations(model, training=True)
    assert "FusedBatchNormV3" not in operations(model, training=False)
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)
    model.layers[-1].trainable = False
    assert "FusedBatchNormV3" not in operations(model, training=True)


def test_a_fused_model_is_saved_as_any_other(tmp_path):
    model = build("custom", class_names=("a", "b"), image_side=16, preset="compact")
    compilation.fuse_batch_norm(model)
    assert "FusedBatchNormV3" in operations(model, training=True)
    model.save(tmp_path / "model.keras")
    again = serialization.load(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_what_the_kernel_cannot_do_is_left_alone(monkeypatch):
    inputs = keras.Input((4,))
    flat = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    compilation.fuse_batch_norm(flat)
    assert "FusedBatchNormV3" not in operations(flat, training=True)
    monkeypatch.setattr(distribution, "compiled", lambda: True)  # as on a GPU
    model = alone()
    compilation.fuse_batch_norm(model)
    assert "FusedBatchNormV3" not in operations(model, training=True)
