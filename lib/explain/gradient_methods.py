"""Attribution by gradients: Grad-CAM, Grad-CAM++, integrated gradients, SmoothGrad."""

from __future__ import annotations

import keras
import numpy as np

from lib.errors import DarkroomError, suggest
from lib.explain import heatmap
from lib.explain.model_wrapper import Batch

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
    batch: Batch,
    *,
    seed: int = 0,
    layer: str | None = None,
) -> np.ndarray:
    """Returns the evidence for the target in the feature maps of `layer`, 0 where it is negative.

    `layer` defaults to the last one with maps of at least 4 x 4, or 2 x 2 if there is none.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    maps, gradients = _layer_gradients(batch, layer)
    return _positive(batch, gradients.mean(axis=(1, 2), keepdims=True), maps)


def gradcam_plus_plus(
    batch: Batch,
    *,
    seed: int = 0,
    layer: str | None = None,
) -> np.ndarray:
    """Returns `gradcam` with weights by which several objects of the class all count.

    Source: Chattopadhay et al. 2018, equations 10 and 19, with the exponential of the score.
    """
    maps, gradients = _layer_gradients(batch, layer)
    squares = gradients**2
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * squares * gradients
    shares = np.divide(squares, below, out=np.zeros_like(squares), where=np.abs(below) > 1e-20)
    positive = np.maximum(gradients, 0)
    return _positive(batch, (shares * positive).sum(axis=(1, 2), keepdims=True), maps)


def find_layer(model: keras.Model, name: str | None = None) -> keras.layers.Layer:
    """Returns the layer of that name, also inside nested models.

    Without a name, returns the last layer with maps of at least 4 x 4, or 2 x 2 if there is none.

    Raises DarkroomError for an unknown name, a layer without maps, and a model without any.
    """
    layers = list(_flat(model))
    if name is not None:
        named = [layer for layer in layers if layer.name == name]
        if not named:
            names = [layer.name for layer in layers]
            raise DarkroomError(
                f"`layer` must name a layer of {model.name!r}. Received: "
                f"{name!r}.{suggest(name, names)}"
            )
        if _shape(named[0]) is None:
            raise DarkroomError(
                f"The layer {name!r} has no feature maps; choose one before the pooling."
            )
        return named[0]
    maps = [
        layer for layer in layers if _shape(layer) is not None and not isinstance(layer, _PASSING)
    ]
    for least in (4, 2):
        fitting = [layer for layer in maps if min(_shape(layer)[1:3]) >= least]
        if fitting:
            return fitting[-1]
    raise DarkroomError(
        f"Grad-CAM needs a layer with maps of at least 2 x 2, and {model.name!r} has none. Use a "
        "larger image side, or method='occlusion'."
    )


def _layer_gradients(batch: Batch, name: str | None) -> tuple[np.ndarray, np.ndarray]:
    model = batch.wrapper.model
    return batch.layer_gradients(
        find_layer(model, name) if isinstance(model, keras.Model) else None
    )


def _positive(batch: Batch, weights: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The positive part of the maps' sum by weights (n, 1, 1, channels), at the images' size."""
    return heatmap.enlarge(np.maximum((weights * maps).sum(axis=-1), 0), size=batch.size)


def _flat(model: keras.Model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _shape(layer: keras.layers.Layer) -> tuple | None:
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):  # several outputs, or never called symbolically
        return None
    return shape if len(shape) == 4 and None not in shape[1:] else None


def integrated_gradients(
    batch: Batch,
    *,
    seed: int = 0,
    steps: int = 32,
    baseline: str = "blur",
) -> np.ndarray:
    """Returns each pixel's contribution to the score along the line from baseline to image.

    Channels are summed. A map sums to the score of the image minus the score of the baseline, up to
    the error of `steps` Gauss-Legendre points. What the baseline keeps, such as colour and coarse
    shape under blur, is not in the map; `baseline_share` tells how much of the score that is.

    Source: Sundararajan et al. 2017, equation 3.
    """
    if steps < 2:
        raise DarkroomError(f"`steps` must be at least 2. Received: {steps}.")
    images = batch.images
    start = heatmap.fill(images, baseline)
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros_like(images)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        between = start + np.float32(place) * (images - start)
        total += np.float32(weight) * batch.input_gradients(between)
    return (total * (images - start)).sum(axis=-1)


def baseline_share(batch: Batch, *, baseline: str = "blur") -> np.ndarray:
    """Returns (n,): the target's score on the baseline as a share of its score on the image.

    With the score "probability", 0.3 means that the baseline keeps 30 % of the probability, so that
    integrated gradients explain the other 70 %. Above 1 the baseline favours the class more.
    """
    kept = batch.scores(heatmap.fill(batch.images, baseline))
    return kept / np.maximum(batch.scores(), 1e-12)


def smoothgrad(
    batch: Batch,
    *,
    seed: int = 0,
    samples: int = 16,
    noise: float = 0.15,
    times_input: bool = True,
    baseline: str = "blur",
) -> np.ndarray:
    """Returns the mean gradient over noisy copies, times image minus baseline, channels summed.

    Without `times_input`, returns the largest absolute mean gradient of the channels: where the
    score is sensitive, which includes more than evidence for the class. `noise` is the standard
    deviation as a share of the image's range of pixels.

    Source: Smilkov et al. 2017, section 3.
    """
    if samples < 1 or noise < 0:
        raise DarkroomError(
            f"`samples` must be at least 1, `noise` at least 0. Received: {samples}, {noise}."
        )
    images, rng = batch.images, np.random.default_rng(seed)
    spread = noise * (
        images.max(axis=(1, 2, 3), keepdims=True) - images.min(axis=(1, 2, 3), keepdims=True)
    )
    total = np.zeros_like(images)
    for _ in range(samples):
        # The same for all images, so that a map does not depend on the other images.
        draw = rng.standard_normal(images.shape[1:], np.float32)
        total += batch.input_gradients(images + spread * draw) / samples
    if not times_input:
        return np.abs(total).max(axis=-1)
    return (total * (images - heatmap.fill(images, baseline))).sum(axis=-1)
