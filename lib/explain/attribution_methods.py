"""Attribution methods: by hiding parts of the image, for any model (occlusion, RISE, LIME,
KernelSHAP), and by gradients, for networks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import keras
import numpy as np
from scipy import special
from sklearn.linear_model import Ridge

from lib.errors import DarkroomError, check_choice, suggest
from lib.explain import heat_maps, model_wrapper
from lib.explain.model_wrapper import Batch, BlackBox
from lib.models.preprocessing import Preprocess


def occlusion(
    batch: Batch,
    *,
    seed: int = 0,
    patch: int | None = None,
    stride: int | None = None,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns the mean fall of the score over the hidden patches that cover a pixel.

    `patch` is a side in pixels, by default a 14th of the image's; `stride` defaults to `patch`.

    Source: Zeiler and Fergus 2014.
    """
    patch = patch or max(1, round(max(batch.size) / 14))
    hidden = patches(batch.size, patch=patch, stride=stride or patch)  # (masks, height, width)
    falls = batch.scores()[:, None] - batch.masked(~hidden, baseline)  # (n, masks)
    counts = hidden.sum(axis=0)
    return (np.tensordot(falls, hidden.astype(np.float32), axes=1) / counts).astype(np.float32)


def rise(
    batch: Batch,
    *,
    seed: int = 0,
    samples: int = 512,
    grid: int = 7,
    visible: float = 0.5,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns the covariance of the score with a pixel's visibility under random soft masks.

    Each mask shows the share `visible` of the image. The published mean of the masks weighted by
    their scores depends on how often a pixel happened to be visible; the covariance does not.

    Source: Petsiuk et al. 2018, equations 6 and 7.
    """
    if samples < 2 or not 0 < visible < 1:
        raise DarkroomError(
            f"`samples` must be at least 2, `visible` between 0 and 1. Received: {samples}, "
            f"{visible}."
        )
    masks = soft_masks(samples, size=batch.size, grid=grid, visible=visible, seed=seed)
    scores = batch.masked(masks, baseline)  # (n, samples)
    centred = scores - scores.mean(axis=1, keepdims=True)
    masks = masks.astype(np.float32)
    return np.tensordot(centred, masks - masks.mean(axis=0), axes=1) / np.maximum(
        samples * masks.var(axis=0), 1e-6
    )


def patches(size: tuple[int, int], *, patch: int, stride: int) -> np.ndarray:
    """Returns bool (patches, height, width), true inside each patch; together they cover all."""
    if not 1 <= patch <= min(size) or not 1 <= stride <= patch:
        raise DarkroomError(
            f"`patch` must be 1 to {min(size)} pixels and `stride` 1 to the patch, so that every "
            f"pixel is hidden. Received: patch={patch}, stride={stride}."
        )
    down, across = (_bands(side, patch=patch, stride=stride) for side in size)
    return (down[:, None, :, None] & across[None, :, None, :]).reshape(-1, *size)


def _bands(side: int, *, patch: int, stride: int) -> np.ndarray:
    starts = sorted({*range(0, side - patch + 1, stride), side - patch})
    bands = np.zeros((len(starts), side), bool)
    for row, start in enumerate(starts):
        bands[row, start : start + patch] = True
    return bands


def soft_masks(
    num: int, *, size: tuple[int, int], grid: int, visible: float, seed: int
) -> np.ndarray:
    """Returns float16 (num, height, width) in 0 to 1: coarse random cells, enlarged and shifted."""
    rng = np.random.default_rng(seed)
    height, width = size
    cells = -(-height // grid), -(-width // grid)
    large = ((grid + 1) * cells[1], (grid + 1) * cells[0])
    masks = np.empty((num, *size), np.float16)
    for row in range(num):
        coarse = (rng.random((grid + 1, grid + 1)) < visible).astype(np.float32)
        top, left = rng.integers(0, cells)
        masks[row] = cv2.resize(coarse, large, interpolation=cv2.INTER_LINEAR)[
            top : top + height, left : left + width
        ]
    return masks


def superpixels(image: np.ndarray, *, num: int = 49, compactness: float = 12.0) -> np.ndarray:
    """Returns int (height, width): the index of each pixel's superpixel, about `num` in all.

    They are k-means clusters of colour (CIELAB) and position that start from a grid; `compactness`
    weights the position.

    Source: Achanta et al. 2012 (SLIC), without its limit on where a pixel's centre is sought.
    """
    height, width = image.shape[:2]
    across = min(round(num**0.5), height, width)
    weight = np.float32(compactness * across / (height * width) ** 0.5)
    lab = cv2.cvtColor((image / 255).astype(np.float32), cv2.COLOR_RGB2Lab)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    points = np.dstack([lab, weight * rows, weight * columns]).reshape(-1, 5)  # (pixels, 5)
    cells = (rows * across // height) * across + columns * across // width
    labels = cells.reshape(-1, 1).astype(np.int32)
    rounds = (cv2.TERM_CRITERIA_COUNT, 6, 0)
    cv2.kmeans(points, across**2, labels, rounds, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return np.unique(labels, return_inverse=True)[1].reshape(height, width)


def lime(
    batch: Batch,
    *,
    seed: int = 0,
    samples: int = 256,
    segments: int = 49,
    baseline: str = "mean",
    width: float = 0.25,
) -> np.ndarray:
    """Returns each superpixel's coefficient in a weighted ridge regression of the score.

    Samples near the whole image count more, by the square root of an exponential kernel of `width`
    over the cosine distance.

    Source: Ribeiro et al. 2016, section 3.4, with the kernel of the authors' code.
    """

    def fitted(visible_segments: np.ndarray, scores: np.ndarray) -> np.ndarray:
        distance = 1 - np.sqrt(visible_segments.mean(axis=1))  # cosine distance to all ones
        weights = np.sqrt(np.exp(-((distance / width) ** 2)))
        return Ridge(1.0).fit(visible_segments, scores, sample_weight=weights).coef_

    def draw(num: int) -> np.ndarray:
        visible_segments = np.random.default_rng(seed).random((max(samples, 2), num)) < 0.5
        visible_segments[0] = True
        return visible_segments

    return _by_superpixels(batch, draw, fitted, segments=segments, baseline=baseline)


def kernel_shap(
    batch: Batch,
    *,
    seed: int = 0,
    samples: int = 256,
    segments: int = 49,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns the Shapley value of each superpixel, divided among its pixels.

    A map sums exactly to the score of the image minus that of its baseline. Subsets are drawn in
    pairs with their complements; if there are at most `samples`, all are used.

    Source: Lundberg and Lee 2017, theorem 2.
    """

    def draw(num: int) -> np.ndarray:
        return subsets(num, samples=samples, seed=seed)

    return _by_superpixels(batch, draw, shapley, segments=segments, baseline=baseline)


def subsets(num: int, *, samples: int, seed: int) -> np.ndarray:
    """Returns bool (subsets, num): none, all, then subsets drawn by the Shapley kernel in pairs.

    Returns all 2**num subsets once if there are at most `samples`.
    """
    if num < 2:
        return np.array([[False] * num, [True] * num])
    if 2**num <= samples:
        inside = (np.arange(1, 2**num - 1)[:, None] >> np.arange(num)) & 1 > 0
    else:
        rng, sizes = np.random.default_rng(seed), np.arange(1, num)
        chance = (num - 1) / (sizes * (num - sizes))
        drawn_sizes = rng.choice(sizes, size=max(1, (samples - 2) // 2), p=chance / chance.sum())
        ranks = rng.random((len(drawn_sizes), num)).argsort(axis=1)
        half = ranks < drawn_sizes[:, None]
        inside = np.concatenate([half, ~half])
    return np.concatenate([np.zeros((1, num), bool), np.ones((1, num), bool), inside])


def shapley(visible_segments: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns (segments,): the values that best fit the scores of subsets.

    They sum to the score of all minus the score of none, the first two rows. The other rows are
    either all subsets, which are weighted here, or subsets drawn by their weight.
    """
    num = visible_segments.shape[1]
    none, whole = scores[:2].astype(np.float64)
    if num < 2:
        return np.full(num, whole - none)
    inside, gains = visible_segments[2:].astype(np.float64), scores[2:] - none
    sizes = inside.sum(axis=1)
    weights = np.ones(len(inside))
    if len(inside) == 2**num - 2:
        weights = (num - 1) / (special.comb(num, sizes) * sizes * (num - sizes))
    # The last value is what the others leave of the whole, so that the sum is exact.
    left = inside[:, :-1] - inside[:, -1:]
    right = gains - inside[:, -1] * (whole - none)
    root = np.sqrt(weights)
    solved = np.linalg.lstsq(left * root[:, None], right * root, rcond=None)[0]
    return np.append(solved, whole - none - solved.sum())


def _by_superpixels(
    batch: Batch, draw: Callable, fit: Callable, *, segments: int, baseline: str
) -> np.ndarray:
    if segments < 2:
        raise DarkroomError(f"`segments` must be at least 2. Received: {segments}.")
    maps = []
    for row, image in enumerate(batch.images):
        segment_of = superpixels(image, num=segments)
        visible = draw(int(segment_of.max()) + 1)  # (samples, segments)
        scores = batch[row : row + 1].masked(visible[:, segment_of], baseline)[0]
        values = fit(visible.astype(np.float64), scores.astype(np.float64))
        maps.append((values / np.bincount(segment_of.ravel()))[segment_of])
    return np.stack(maps).astype(np.float32)


_PASSING = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    Preprocess,
)


def gradcam(batch: Batch, *, seed: int = 0, layer: str | None = None) -> np.ndarray:
    """Returns the evidence for the target in the feature maps of `layer`, 0 where it is negative.

    `layer` defaults to the last one with maps of at least 4 x 4, or 2 x 2 if there is none.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    maps, gradients = batch.gradients(layer=find_layer(batch.wrapper.model, layer))
    return _positive(batch, gradients.mean(axis=(1, 2), keepdims=True), maps)


def gradcam_plus_plus(batch: Batch, *, seed: int = 0, layer: str | None = None) -> np.ndarray:
    """Returns `gradcam` with weights by which several objects of the class all count.

    Source: Chattopadhay et al. 2018, equations 10 and 19, with the exponential of the score.
    """
    maps, gradients = batch.gradients(layer=find_layer(batch.wrapper.model, layer))
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


def _positive(batch: Batch, weights: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The positive part of the maps' sum by weights (n, 1, 1, channels), at the images' size."""
    return heat_maps.enlarge(np.maximum((weights * maps).sum(axis=-1), 0), size=batch.size)


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
    batch: Batch, *, seed: int = 0, steps: int = 32, baseline: str = "blur"
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
    start = heat_maps.fill(images, baseline)
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros_like(images)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        between = start + np.float32(place) * (images - start)
        total += np.float32(weight) * batch.gradients(between)[1]
    return (total * (images - start)).sum(axis=-1)


def baseline_share(batch: Batch, *, baseline: str = "blur") -> np.ndarray:
    """Returns (n,): the target's score on the baseline as a share of its score on the image.

    With the score "probability", 0.3 means that the baseline keeps 30 % of the probability, so that
    integrated gradients explain the other 70 %. Above 1 the baseline favours the class more.
    """
    kept = batch.scores(heat_maps.fill(batch.images, baseline))
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
        total += batch.gradients(images + spread * draw)[1] / samples
    if not times_input:
        return np.abs(total).max(axis=-1)
    return (total * (images - heat_maps.fill(images, baseline))).sum(axis=-1)


@dataclass(frozen=True)
class Method:
    """A method: its title in figures, its function, and its unit (maps, pixels, patches, segments).

    The maps of `seeded` methods change a little with the seed.
    """

    title: str
    function: Callable
    unit: str
    seeded: bool = False

    @property
    def needs_gradients(self) -> bool:
        """Whether the method explains networks only; the others need probabilities alone."""
        return self.unit in ("maps", "pixels")

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the method's options."""
        return tuple(inspect.signature(self.function).parameters)[2:]


METHODS = {
    "gradcam": Method("Grad-CAM", gradcam, "maps"),
    "gradcam_plus_plus": Method("Grad-CAM++", gradcam_plus_plus, "maps"),
    "integrated_gradients": Method("Integrated gradients", integrated_gradients, "pixels"),
    "smoothgrad": Method("SmoothGrad", smoothgrad, "pixels", seeded=True),
    "occlusion": Method("Occlusion", occlusion, "patches"),
    "rise": Method("RISE", rise, "patches", seeded=True),
    "lime": Method("LIME", lime, "segments", seeded=True),
    "kernel_shap": Method("KernelSHAP", kernel_shap, "segments", seeded=True),
}


def explain(
    model: keras.Model | BlackBox,
    images: np.ndarray,
    *,
    method: str = "gradcam",
    target: int | str | Sequence | None = None,
    score: str = "logit",
    seed: int = 0,
    batch_size: int = 32,
    **options: object,
) -> np.ndarray:
    """Returns float32 (n, height, width): evidence for the target class, negative if against it.

    Args:
        model: any Keras model from images (n, height, width, 3) to classes (n, classes), also with
            nested models and a final activation. Or a black box such as a thumbnail model, for
            methods without gradients.
        images: RGB as the model takes them, uint8 or float.
        method: a name in `METHODS`.
        target: the class to explain, by name or number, or one for each image; None for the
            predicted class.
        score: what is explained, one of `model_wrapper.SCORES`.
        seed: of methods with random numbers; the same seed gives the same maps on every backend,
            up to rounding.
        batch_size: images computed at once.
        options: of the method, see its function in `METHODS`.

    Raises:
        DarkroomError: for an unknown method, option or class, images of another shape, and a model
            without feature maps for Grad-CAM.

    Example:
        >>> heat = explain(model, images, method="occlusion", target="Schematics", patch=16)
    """
    check_choice("method", method, METHODS)
    known = METHODS[method].options
    for name in options:
        check_choice("option", name, known, where=method)
    if METHODS[method].needs_gradients and not isinstance(model, keras.Model):
        raise DarkroomError(
            "This model is not a network and has no gradients. Use occlusion, rise, lime or "
            "kernel_shap, which only hide parts of the image."
        )
    wrapper = model_wrapper.wrap(model, score, batch_size)
    images = _checked(images, wrapper.size, batch_size)
    if not len(images):
        return np.zeros(images.shape[:3], np.float32)
    batch = Batch(wrapper, images, wrapper.targets(images, target))
    maps = METHODS[method].function(batch, seed=seed, **options)
    return maps.astype(np.float32)


def _checked(images: np.ndarray, size: tuple[int, int], batch_size: int) -> np.ndarray:
    if batch_size < 1:
        raise DarkroomError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != (*size, 3):
        received = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        shape = f"(n, {size[0]}, {size[1]}, 3)"
        raise DarkroomError(
            f"`images` must be an RGB array of the shape {shape}. Received: {received}."
        )
    return images.astype(np.float32)
