"""By hiding parts of the image: occlusion one patch at a time, RISE many random ones. No gradients,
so any model will do.
"""

from __future__ import annotations

import cv2
import numpy as np

from lib.errors import DarkroomError
from lib.explain import baselines
from lib.explain.model_wrapper import Scored


def occlusion(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    patch: int | None = None,
    stride: int | None = None,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns how much the score falls when a patch over a pixel is hidden, the mean over the
    patches that cover it.

    `patch` is its side in pixels, by default a 14th of the image's (196 patches); `stride` is by
    default the patch. Source: Zeiler and Fergus 2014.
    """
    patch = patch or max(1, round(max(scored.size) / 14))
    hidden = patches(scored.size, patch=patch, stride=stride or patch)  # (masks, height, width)
    whole = scored.scores(images, targets)[:, None]
    fills = baselines.fill(images, baseline)
    falls = whole - scored.masked(images, fills, ~hidden, targets)  # (n, masks)
    counts = hidden.sum(axis=0)
    return (np.tensordot(falls, hidden.astype(np.float32), axes=1) / counts).astype(np.float32)


def rise(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 512,
    grid: int = 7,
    shown: float = 0.5,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns how the score goes with seeing a pixel, over random soft masks that show the share
    `shown` of the image.

    The published mean of masks weighted by their scores also holds each pixel's luck with the
    masks; the covariance of score and mask does not. Source: Petsiuk et al. 2018, equations 6 and
    7.
    """
    if samples < 2 or not 0 < shown < 1:
        raise DarkroomError(
            f"`samples` must be at least 2, `shown` between 0 and 1. Received: {samples}, {shown}."
        )
    masks = soft_masks(samples, size=scored.size, grid=grid, shown=shown, seed=seed)
    scores = scored.masked(images, baselines.fill(images, baseline), masks, targets)  # (n, samples)
    centred = scores - scores.mean(axis=1, keepdims=True)
    masks = masks.astype(np.float32)
    return np.tensordot(centred, masks - masks.mean(axis=0), axes=1) / np.maximum(
        samples * masks.var(axis=0), 1e-6
    )


def patches(size: tuple[int, int], *, patch: int, stride: int) -> np.ndarray:
    """Returns bool (patches, height, width), true inside each patch; the last of a row reaches the
    edge.
    """
    if not 1 <= patch <= min(size) or not 1 <= stride <= patch:
        raise DarkroomError(
            f"`patch` must be 1 to {min(size)} pixels and `stride` 1 to the patch, so that every "
            "pixel is hidden once. "
            f"Received: patch={patch}, stride={stride}."
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
    num: int, *, size: tuple[int, int], grid: int, shown: float, seed: int
) -> np.ndarray:
    """Returns float16 (num, height, width) of 0 to 1: coarse random cells, enlarged and shifted by
    part of a cell.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    cells = -(-height // grid), -(-width // grid)
    large = ((grid + 1) * cells[1], (grid + 1) * cells[0])
    masks = np.empty((num, *size), np.float16)
    for row in range(num):
        coarse = (rng.random((grid + 1, grid + 1)) < shown).astype(np.float32)
        top, left = rng.integers(0, cells)
        masks[row] = cv2.resize(coarse, large, interpolation=cv2.INTER_LINEAR)[
            top : top + height, left : left + width
        ]
    return masks
