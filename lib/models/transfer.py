"""Transfer learning: the head alone, the head on stored features, the top, or all layers."""

from __future__ import annotations

import math

import keras
import numpy as np

from lib.errors import DarkroomError
from lib.models import heads, linear_head

_STANDARDIZE = "standardize"


def standardizer() -> keras.layers.Layer:
    """Returns the layer between the features of several stages and the head.

    Their scales differ by orders of magnitude, and an optimiser's steps do not. It never learns;
    `standardize` gives it its numbers.
    """
    return keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-12, trainable=False, name=_STANDARDIZE
    )


def standardize(model: keras.Model, features: np.ndarray) -> None:
    """Gives the model's standardizer, if it has one, mean and variance of features (n, d)."""
    if (layer := _standardizer_of(model)) is not None:
        mean, std = linear_head.moments(features)
        layer.set_weights([mean, std**2])


def linear_weights(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel (features, units) and bias (units,) of a head that stands on the layer `pool`,
    for the features as they are, not standardized.
    """
    kernel, bias = heads.of(model).get_weights()
    if (layer := _standardizer_of(model)) is not None:
        mean, variance = layer.get_weights()
        kernel = kernel / np.sqrt(variance + layer.epsilon)[:, None]
        bias = bias - mean @ kernel
    return kernel, bias


def set_linear_weights(model: keras.Model, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Gives the head the kernel and bias that fit the features as they are, not standardized."""
    if (layer := _standardizer_of(model)) is not None:
        mean, variance = layer.get_weights()
        bias = bias + mean @ kernel
        kernel = kernel * np.sqrt(variance + layer.epsilon)[:, None]
    heads.of(model).set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])


def _standardizer_of(model: keras.Model) -> keras.layers.Layer | None:
    return next((layer for layer in model.layers if layer.name == _STANDARDIZE), None)


def freeze(model: keras.Model) -> int:
    """Freezes everything up to and including the layer `pool`, so that only what follows learns;
    compile the model after.

    Returns the number of trainable parameters that are left. Frozen batch normalisation runs in
    inference mode.
    """
    heads.of(model)
    body, tail = _parts(model)
    for layer in body:
        layer.trainable = False
    for layer in tail:
        layer.trainable = layer.name != _STANDARDIZE
    return num_trainable(model)


def unfreeze_top(model: keras.Model, *, fraction: float) -> int:
    """Lets the last `fraction` of the body's weighted layers learn and freezes the rest; compile
    the model after.

    Batch normalisation of the body stays frozen, in inference mode: statistics of small batches
    would spoil the pretrained ones. Counted are convolutions and dense layers; `fraction` is above
    0 and at most 1. Returns the number of trainable parameters.
    """
    if not 0 < fraction <= 1:
        raise DarkroomError(f"`fraction` must be above 0 and at most 1. Received: {fraction}.")
    freeze(model)
    body, _ = _parts(model)
    kernels = [
        layer
        for layer in body
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in kernels[len(kernels) - math.ceil(fraction * len(kernels)) :]:
        layer.trainable = True
    return num_trainable(model)


def unfreeze(model: keras.Model) -> int:
    """Lets every layer learn, batch normalisation included, and returns the number of trainable
    parameters.

    Compile the model after.
    """
    for layer in model.layers:
        layer.trainable = layer.name != _STANDARDIZE
    return num_trainable(model)


def num_trainable(model: keras.Model) -> int:
    """Returns the number of trainable parameters."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def classifier_on_features(model: keras.Model) -> keras.Model:
    """Returns a model of what follows the layer `pool`, from features (batch, d) to logits, to be
    trained on stored features.

    It starts from the model's own weights and shares none of them; `graft` puts its trained weights
    back.
    """
    head = heads.of(model)
    features = keras.Input(
        model.get_layer("pool").output.shape[1:], dtype="float32", name="features"
    )
    x = features
    _, tail = _parts(model)
    for layer in tail:
        x = type(layer).from_config(layer.get_config())(x)
    classifier = keras.Model(features, x, name=f"{model.name}_{head.name}")
    classifier.set_weights([weight for layer in tail for weight in layer.get_weights()])
    return classifier


def feature_layers(model: keras.Model) -> list[str]:
    """Returns the layers that hold the features: `pool`, or those that it joins."""
    pool = model.get_layer("pool")
    if not isinstance(pool, keras.layers.Concatenate):
        return [pool.name]
    return [tensor._keras_history.operation.name for tensor in pool.input]


def graft(model: keras.Model, classifier: keras.Model) -> None:
    """Puts the weights that `classifier_on_features` has trained into the model, which is whole
    again and can be saved.
    """
    _, tail = _parts(model)
    expected = [tuple(weight.shape) for layer in tail for weight in layer.weights]
    if [tuple(weight.shape) for weight in classifier.weights] != expected:
        raise DarkroomError(
            f"The classifier {classifier.name!r} was not made from {model.name!r}; their shapes "
            "differ."
        )
    for layer in tail:
        layer.set_weights(classifier.get_layer(layer.name).get_weights())


def _parts(model: keras.Model) -> tuple[list[keras.layers.Layer], list[keras.layers.Layer]]:
    """Returns the layers up to and including `pool`, and the chain of those after it."""
    names = [layer.name for layer in model.layers]
    cut = names.index("pool") + 1
    return model.layers[:cut], model.layers[cut:]
