"""Grad-CAM and Grad-CAM++: where the last maps that still have height and width speak for the
class.
"""

from __future__ import annotations

import keras
import numpy as np

from lib.errors import DarkroomError, suggest
from lib.explain.heat import enlarge
from lib.explain.model_wrapper import Scored

_PASSING = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.InputLayer,
)


def gradcam(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    layer: str | None = None,
) -> np.ndarray:
    """Returns how much each place of the layer's maps speaks for the target, 0 where it speaks
    against it.

    `layer` is by default the last one with maps of 4 x 4 or more (2 x 2 where there is none).
    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    maps, gradients = scored.layer_gradients(_layer(scored, layer), images, targets)
    weights = gradients.mean(axis=(1, 2), keepdims=True)  # (n, 1, 1, channels)
    return enlarge(np.maximum((weights * maps).sum(axis=-1), 0), size=scored.size)


def gradcam_plus_plus(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    layer: str | None = None,
) -> np.ndarray:
    """Returns as `gradcam` does, with places weighted so that several objects of the class all
    count.

    Source: Chattopadhay et al. 2018, equations 10 and 19, with the exponential of the score.
    """
    maps, gradients = scored.layer_gradients(_layer(scored, layer), images, targets)
    squares = gradients**2
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * squares * gradients
    shares = np.divide(squares, below, out=np.zeros_like(squares), where=np.abs(below) > 1e-20)
    weights = (shares * np.maximum(gradients, 0)).sum(
        axis=(1, 2), keepdims=True
    )  # (n, 1, 1, channels)
    return enlarge(np.maximum((weights * maps).sum(axis=-1), 0), size=scored.size)


def find_layer(model: keras.Model, name: str | None = None) -> keras.layers.Layer:
    """Returns the layer of that name, inside nested models too; without a name the last one with
    maps of 4 x 4 or more.

    Where no layer has so many, the last one of 2 x 2 or more: a picture in four quarters is better
    than none.

    Raises DarkroomError for an unknown name, for a layer without maps, and where no layer has any.
    """
    layers = list(_flat(model))
    if name is not None:
        found = [layer for layer in layers if layer.name == name]
        if not found:
            names = [layer.name for layer in layers]
            raise DarkroomError(
                f"`layer` must name a layer of {model.name!r}. Received: "
                f"{name!r}.{suggest(name, names)}"
            )
        if _shape(found[0]) is None:
            raise DarkroomError(
                f"The layer {name!r} has no maps of height and width; take one before the pooling."
            )
        return found[0]
    maps = [
        layer for layer in layers if _shape(layer) is not None and not isinstance(layer, _PASSING)
    ]
    for least in (4, 2):
        fitting = [layer for layer in maps if min(_shape(layer)[1:3]) >= least]
        if fitting:
            return fitting[-1]
    raise DarkroomError(
        f"No layer of {model.name!r} has maps of 2 x 2 or more, so Grad-CAM can show nothing. Use "
        "a larger image side, or "
        "method='occlusion'."
    )


def _layer(scored: Scored, name: str | None) -> keras.layers.Layer | None:
    return find_layer(scored.model, name) if isinstance(scored.model, keras.Model) else None


def _flat(model: keras.Model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _shape(layer: keras.layers.Layer) -> tuple | None:
    try:
        shape = layer.output.shape
    except (
        AttributeError,
        ValueError,
    ):  # it gives several outputs, or was never called symbolically
        return None
    return shape if len(shape) == 4 and None not in shape[1:] else None
