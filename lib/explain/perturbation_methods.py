"""Attribution by hiding parts of the image, for any model: occlusion, RISE, LIME, KernelSHAP."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from lib.errors import DarkroomError
from lib.explain.model_wrapper import Batch


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


def superpixels(
    image: np.ndarray, *, num: int = 49, compactness: float = 12.0, rounds: int = 6
) -> np.ndarray:
    """Returns int (height, width): the index of each pixel's superpixel, about `num` in all.

    A pixel belongs to the nearest centre around it by colour (CIELAB) and position; `compactness`
    weights the position.

    Source: Achanta et al. 2012 (SLIC).
    """
    height, width = image.shape[:2]
    across = min(round(num**0.5), height, width)
    if across < 1:
        raise DarkroomError(f"`segments` must be at least 1. Received: {num}.")
    step = (height * width) ** 0.5 / across
    lab = cv2.cvtColor((image / 255).astype(np.float32), cv2.COLOR_RGB2Lab)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    weight = np.float32(compactness / step)
    points = np.dstack([lab, weight * rows, weight * columns]).reshape(-1, 5)  # (pixels, 5)
    home = (rows * across / height).astype(int) * across + (columns * across / width).astype(int)
    owner, near = home.ravel(), _neighbours(home, across=across)
    for _ in range(rounds):
        centres = _means(points, owner, num=across**2)
        distance = ((points[:, None, :] - centres[near]) ** 2).sum(axis=-1)  # (pixels, 9)
        owner = np.take_along_axis(near, distance.argmin(axis=1)[:, None], axis=1)[:, 0]
    return np.unique(owner, return_inverse=True)[1].reshape(height, width)


def spread(values: np.ndarray, segment_of: np.ndarray) -> np.ndarray:
    """Returns float32 (height, width): the value of each superpixel, divided among its pixels."""
    return (values / np.bincount(segment_of.ravel()))[segment_of].astype(np.float32)


def _neighbours(home: np.ndarray, *, across: int) -> np.ndarray:
    """For each pixel the nine cells around its own; at the border some of them twice."""
    row, column = home.ravel() // across, home.ravel() % across
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    near = [
        np.clip(row + down, 0, across - 1) * across + np.clip(column + right, 0, across - 1)
        for down, right in moves
    ]
    return np.stack(near, axis=1)


def _means(points: np.ndarray, owner: np.ndarray, *, num: int) -> np.ndarray:
    counts = np.bincount(owner, minlength=num)
    sums = np.stack(
        [np.bincount(owner, weights=column, minlength=num) for column in points.T], axis=1
    )
    # A superpixel that lost all its pixels is moved far away and gets none back.
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], 1e6).astype(
        np.float32
    )


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
        return ridge(visible_segments, scores, weights, penalty=1.0)

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
    full = len(inside) == 2**num - 2 if num < 31 else False
    weights = (
        (num - 1)
        / (np.array([math.comb(num, int(size)) for size in sizes]) * sizes * (num - sizes))
        if full
        else None
    )
    # The last value is what the others leave of the whole, so that the sum is exact.
    left = inside[:, :-1] - inside[:, -1:]
    right = gains - inside[:, -1] * (whole - none)
    root = np.sqrt(weights)[:, None] if full else 1.0
    solved = np.linalg.lstsq(left * root, right * np.squeeze(root), rcond=None)[0]
    return np.append(solved, whole - none - solved.sum())


def ridge(
    visible_segments: np.ndarray, scores: np.ndarray, weights: np.ndarray, *, penalty: float
) -> np.ndarray:
    """Returns (segments,): coefficients of a weighted ridge regression, intercept unpenalised."""
    total = weights.sum()
    columns = visible_segments - (weights @ visible_segments) / total
    rest = scores - (weights @ scores) / total
    square = (columns * weights[:, None]).T @ columns + penalty * np.eye(visible_segments.shape[1])
    return np.linalg.solve(square, (columns * weights[:, None]).T @ rest)


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
        maps.append(spread(values, segment_of))
    return np.stack(maps)
