"""Weights of a backbone: ImageNet's, a file's, or none. Missing ones are an error."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path

import keras
import numpy as np

from lib.errors import DarkroomError, first_line
from lib.models import backbones, efficientnet_lite

_SUFFIXES = (".h5", ".keras", ".pth")
_SECONDS_TO_ANSWER = 20


def load(model: keras.Model, architecture: str, weights: str | Path, *, alpha: float = 1.0) -> None:
    """Gives the layers of the backbone in `model` their weights; the head keeps its own.

    `weights` is "imagenet", "none", or a file: `.h5` as Keras' applications store it without top,
    `.keras` as this suite saves its models, `.pth` for EfficientNet-Lite0. Raises DarkroomError for
    a file that is missing or does not fit, and for a download that fails.
    """
    if weights == "none":
        return
    names = backbones.parts(architecture) if weights == "imagenet" else [architecture]
    if len(names) > 1:
        for name in names:
            _load_part(model, name, weights, alpha=alpha, prefix=f"{name}_")
    elif isinstance(model.get_layer("pool"), backbones.StagePooling):
        _load_part(model, architecture, weights, alpha=alpha)
    elif weights != "imagenet":
        _load_file(model, architecture, Path(weights))
    elif (load_own := backbones.named(architecture).load) is not None:
        load_own(model)
    else:
        _load_application(model, architecture, alpha=alpha)


def _load_part(
    model: keras.Model, name: str, weights: str | Path, *, alpha: float, prefix: str = ""
) -> None:
    """Gives the layers of one backbone in `model` the weights that it has when it stands alone."""
    images = keras.Input(model.input_shape[1:])
    part = keras.Model(images, backbones.pooled(images, name, alpha=alpha))
    load(part, name, weights, alpha=alpha)
    own = {layer.name: layer for layer in model.layers}
    for layer in part.layers:
        if layer.weights and prefix + layer.name in own:
            own[prefix + layer.name].set_weights(layer.get_weights())


def check(architecture: str, weights: str | Path) -> None:
    """Raises DarkroomError, before anything is built, for a weights file that is missing or of an
    unknown kind.
    """
    if weights in ("imagenet", "none"):
        return
    path = Path(weights)
    if not path.is_file():
        raise DarkroomError(
            "`weights` must be 'imagenet', 'none' or a file that exists. Received: "
            f"{str(weights)!r} for {architecture}."
        )
    if path.suffix not in _SUFFIXES or (
        path.suffix == ".pth" and architecture not in efficientnet_lite.VARIANTS
    ):
        raise DarkroomError(
            f"A weights file for {architecture} must end in .h5, .weights.h5 or .keras"
            f"{' or .pth' if architecture in efficientnet_lite.VARIANTS else ''}. Received: "
            f"{path.name!r}."
        )


def _load_application(model: keras.Model, architecture: str, *, alpha: float) -> None:
    backbone = backbones.named(architecture)
    options = backbone.options | ({"alpha": alpha} if backbone.alphas else {})
    build = getattr(keras.applications, backbone.title)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_TO_ANSWER)
    try:
        with warnings.catch_warnings():
            # The MobileNets' weights were trained at several sides; those of 224 px fit all, which
            # Keras warns of.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            source = build(include_top=False, weights="imagenet", **options)
    except Exception as error:  # Keras raises a bare Exception for an address that does not answer
        raise DarkroomError(
            f"The ImageNet weights of {backbone.title} could not be downloaded "
            f"({first_line(error)}). Go online once, or use weights='none', a file, or "
            "architecture='efficientnet_lite0', whose weights come by pip."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    _copy(source, model, what=f"the ImageNet weights of {backbone.title}")
    _undo_keras_variance(model)


def _undo_keras_variance(model: keras.Model) -> None:
    """EfficientNet's ImageNet files hold deviations where variances belong.

    Keras builds one more layer for them where it loads the weights itself; here the variances are
    put right instead. Source: keras/src/applications/efficientnet.py, above its second Rescaling.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, deviation, *rest = layer.get_weights()
            layer.set_weights([mean, deviation**2, *rest])
            layer.finalize_state()


def _load_file(model: keras.Model, architecture: str, path: Path) -> None:
    check(architecture, path)
    if path.suffix == ".pth":
        efficientnet_lite.load_weights(model, path, architecture=architecture)
        return
    if path.suffix == ".keras":
        from lib.models import serialization

        _copy(serialization.load(path), model, what=path.name)
        return
    # A model that ends at the last maps has exactly the layers that such a file holds.
    headless = keras.Model(model.inputs, last_maps(model))
    before = _kernel_sums(headless)
    try:
        headless.load_weights(path)
    # h5py and Keras raise classes of every kind for a file that is none or does not fit
    except Exception as error:
        raise DarkroomError(
            f"{path.name} does not fit {architecture}: {first_line(error)}"
        ) from error
    unchanged = [name for name, total in _kernel_sums(headless).items() if total == before[name]]
    if unchanged:
        raise DarkroomError(
            f"{path.name} does not fit {architecture}: it holds no weights for layer "
            f"{unchanged[0]}."
        )


def last_maps(model: keras.Model) -> keras.KerasTensor:
    """Returns the last tensor with height and width, (batch, height, width, channels): what the
    layer `pool` sums up.
    """
    return model.get_layer("pool").input


def _copy(source: keras.Model, model: keras.Model, *, what: str) -> None:
    """Copies every layer with weights up to `pool`, in order, after all of their shapes have been
    compared.
    """
    ours = _weighted(keras.Model(model.inputs, last_maps(model)))
    theirs = _weighted(source)
    if any(layer.name == "pool" for layer in source.layers):
        theirs = _weighted(keras.Model(source.inputs, last_maps(source)))
    arrays = [layer.get_weights() for layer in theirs]
    shapes = [[array.shape for array in weights] for weights in arrays]
    expected = [[tuple(weight.shape) for weight in layer.weights] for layer in ours]
    if shapes != expected:
        raise DarkroomError(
            f"{what} does not fit the model: it holds {len(shapes)} layers of other shapes than "
            f"the {len(expected)} here."
        )
    for layer, weights in zip(ours, arrays, strict=True):
        layer.set_weights(weights)


def _weighted(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights]


def _kernel_sums(model: keras.Model) -> dict[str, float]:
    return {
        layer.name: float(np.abs(layer.get_weights()[0]).sum())
        for layer in _weighted(model)
        if not isinstance(layer, keras.layers.BatchNormalization)
    }
