"""By a simple model in place of the network: LIME and KernelSHAP over superpixels. Black boxes
both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lib.errors import DarkroomError
from lib.explain import baselines
from lib.explain.model_wrapper import Scored
from lib.explain.segments import segments as pieces_of
from lib.explain.segments import spread


def lime(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 256,
    segments: int = 49,
    baseline: str = "mean",
    width: float = 0.25,
) -> np.ndarray:
    """Returns the weight of each superpixel in a ridge regression of the score on which pieces are
    seen.

    Samples near the whole image count more: a kernel of `width` over the cosine distance. Source:
    Ribeiro et al. 2016.
    """

    def fitted(seen: np.ndarray, scores: np.ndarray) -> np.ndarray:
        distance = 1 - np.sqrt(seen.mean(axis=1))  # cosine distance to all ones
        return ridge(seen, scores, np.exp(-((distance / width) ** 2)), penalty=1.0)

    def drawn(num: int) -> np.ndarray:
        seen = np.random.default_rng(seed).random((max(samples, 2), num)) < 0.5
        seen[0] = True
        return seen

    return _by_pieces(scored, images, targets, drawn, fitted, segments=segments, baseline=baseline)


def kernel_shap(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 256,
    segments: int = 49,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns the Shapley value of each superpixel, its pixels sharing it: what seeing the piece
    adds, over all orders.

    A map sums to the score of the image less that of its baseline, exactly. Subsets are drawn in
    pairs, each with its complement; all of them are taken where there are fewer than `samples`.
    Source: Lundberg and Lee 2017, theorem 2.
    """

    def drawn(num: int) -> np.ndarray:
        return subsets(num, samples=samples, seed=seed)

    return _by_pieces(scored, images, targets, drawn, shapley, segments=segments, baseline=baseline)


def subsets(num: int, *, samples: int, seed: int) -> np.ndarray:
    """Returns bool (subsets, num): none and all of `num` pieces, then subsets drawn by the Shapley
    kernel in pairs.

    All 2**num subsets, each once, where that is not more than `samples`.
    """
    if num < 2:
        return np.array([[False] * num, [True] * num])
    if 2**num <= samples:
        inside = (np.arange(1, 2**num - 1)[:, None] >> np.arange(num)) & 1 > 0
    else:
        rng, sizes = np.random.default_rng(seed), np.arange(1, num)
        chance = (num - 1) / (sizes * (num - sizes))
        drawn = rng.choice(sizes, size=max(1, (samples - 2) // 2), p=chance / chance.sum())
        ranks = rng.random((len(drawn), num)).argsort(axis=1)
        half = ranks < drawn[:, None]
        inside = np.concatenate([half, ~half])
    return np.concatenate([np.zeros((1, num), bool), np.ones((1, num), bool), inside])


def shapley(seen: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns (pieces,): the values that fit the scores of subsets best and sum to all less none.

    The first two rows of `seen` are none and all, the rest as `subsets` gives them: every subset
    once, weighted here, or drawn by their weight.
    """
    num = seen.shape[1]
    none, whole = scores[:2].astype(np.float64)
    if num < 2:
        return np.full(num, whole - none)
    inside, gains = seen[2:].astype(np.float64), scores[2:] - none
    sizes = inside.sum(axis=1)
    full = len(inside) == 2**num - 2 if num < 31 else False
    weights = (
        (num - 1)
        / (np.array([math.comb(num, int(size)) for size in sizes]) * sizes * (num - sizes))
        if full
        else None
    )
    # The last piece takes what the others leave of the whole, so that the sum is exact.
    left = inside[:, :-1] - inside[:, -1:]
    right = gains - inside[:, -1] * (whole - none)
    root = np.sqrt(weights)[:, None] if full else 1.0
    solved = np.linalg.lstsq(left * root, right * np.squeeze(root), rcond=None)[0]
    return np.append(solved, whole - none - solved.sum())


def ridge(
    seen: np.ndarray, scores: np.ndarray, weights: np.ndarray, *, penalty: float
) -> np.ndarray:
    """Returns the coefficients (pieces,) of a weighted ridge regression with an intercept that is
    not punished.
    """
    total = weights.sum()
    columns = seen - (weights @ seen) / total
    rest = scores - (weights @ scores) / total
    square = (columns * weights[:, None]).T @ columns + penalty * np.eye(seen.shape[1])
    return np.linalg.solve(square, (columns * weights[:, None]).T @ rest)


def _by_pieces(
    scored: Scored,
    images: np.ndarray,
    targets: np.ndarray,
    draw: Callable,
    fit: Callable,
    *,
    segments: int,
    baseline: str,
) -> np.ndarray:
    if segments < 2:
        raise DarkroomError(f"`segments` must be at least 2. Received: {segments}.")
    fills = baselines.fill(images, baseline)
    maps = []
    for row in range(len(images)):
        pieces = pieces_of(images[row], num=segments)
        seen = draw(int(pieces.max()) + 1)  # (samples, pieces)
        one = slice(row, row + 1)
        scores = scored.masked(images[one], fills[one], seen[:, pieces], targets[one])[0]
        maps.append(spread(fit(seen.astype(np.float64), scores.astype(np.float64)), pieces))
    return np.stack(maps)
