"""Pixel by pixel from the gradients of the score: integrated gradients and SmoothGrad."""

from __future__ import annotations

import numpy as np

from lib.errors import DarkroomError
from lib.explain import baselines
from lib.explain.model_wrapper import Scored


def integrated_gradients(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    steps: int = 32,
    baseline: str = "blur",
) -> np.ndarray:
    """Returns what each pixel adds to the score on the straight way from the baseline to the image,
    channels summed.

    A map sums to the score of the image less that of its baseline, up to the error of `steps`
    points (Gauss-Legendre). Source: Sundararajan et al. 2017, equation 3.
    """
    if steps < 2:
        raise DarkroomError(f"`steps` must be at least 2. Received: {steps}.")
    start = baselines.fill(images, baseline)
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros_like(images)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        total += np.float32(weight) * scored.input_gradients(
            start + np.float32(place) * (images - start), targets
        )
    return (total * (images - start)).sum(axis=-1)


def smoothgrad(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 16,
    noise: float = 0.15,
    times_input: bool = True,
    baseline: str = "blur",
) -> np.ndarray:
    """Returns the mean gradient over noisy copies of the image times the image less its baseline,
    channels summed.

    Without `times_input` it is the size of the mean gradient, the largest of the channels: where
    the score is sensitive, which is more than what speaks for the class. `noise` is the standard
    deviation as a share of the image's own range of pixels. Source: Smilkov et al. 2017, section 3.
    """
    if samples < 1 or noise < 0:
        raise DarkroomError(
            f"`samples` must be at least 1, `noise` 0 or above. Received: {samples}, {noise}."
        )
    rng = np.random.default_rng(seed)
    spread = noise * (
        images.max(axis=(1, 2, 3), keepdims=True) - images.min(axis=(1, 2, 3), keepdims=True)
    )
    total = np.zeros_like(images)
    for _ in range(samples):
        drawn = rng.standard_normal(
            images.shape[1:], np.float32
        )  # the same for all, so that an image's map is its own
        total += scored.input_gradients(images + spread * drawn, targets) / samples
    if not times_input:
        return np.abs(total).max(axis=-1)
    return (total * (images - baselines.fill(images, baseline))).sum(axis=-1)
