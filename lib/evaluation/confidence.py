"""Intervals: bootstrap over images or groups of near-duplicates; Wilson and kappa in closed form.

Two groups with the same confusions are alike to every number computed from a confusion matrix. So
groups are counted by kind, and a draw is one multinomial over the kinds: the same distribution as
drawing groups one by one, at a cost that hardly grows with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import confusion as matrices

Metric = Callable[[np.ndarray], np.ndarray]
_CELLS_AT_ONCE = 8_000_000  # float64 entries of a chunk of draws, 64 MB


@dataclass(frozen=True)
class Kinds:
    """Units of a bootstrap draw: `num_groups` groups, of which `counts[k]` are of kind k and hold
    `content[k]` patterns.

    `content` is a sparse (kinds, patterns) matrix of image counts.
    """

    num_groups: int
    counts: np.ndarray
    content: Any


def kinds(patterns: np.ndarray, groups: np.ndarray) -> Kinds:
    """Counts the groups by kind; `patterns` (n,) numbers what happened to each image, `groups` (n,)
    names its group.
    """
    from scipy import sparse

    num_patterns = int(patterns.max()) + 1
    _, group = np.unique(groups, return_inverse=True)  # 0 … num_groups - 1
    num_groups = int(group.max()) + 1
    # A sum of random 64-bit numbers, one a pattern, tells the kinds apart; two kinds share one with
    # odds below 1e-7.
    marks = np.random.default_rng(20_240_229).integers(2**63, size=num_patterns, dtype=np.uint64)
    signature = np.zeros(num_groups, dtype=np.uint64)
    np.add.at(signature, group, marks[patterns])
    _, example, counts = np.unique(signature, return_index=True, return_counts=True)
    kind_of_group = np.full(num_groups, -1)
    kind_of_group[example] = np.arange(len(example))
    chosen = kind_of_group[group] >= 0
    places = (kind_of_group[group[chosen]], patterns[chosen])
    content = sparse.csr_matrix((np.ones(chosen.sum()), places), shape=(len(example), num_patterns))
    return Kinds(num_groups, counts, content)


def draw(of: Kinds, metric: Metric, *, width: int, draws: int, seed: int) -> np.ndarray:
    """(draws, …): `metric` of each draw; it is given (some draws, patterns) float64, how often each
    pattern was drawn.

    `width` is how many numbers `metric` makes of one draw on its way; it bounds the memory.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, min(draws, _CELLS_AT_ONCE // max(width, *of.content.shape)))
    values = []
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        drawn = generator.multinomial(of.num_groups, of.counts / of.num_groups, size=size)
        values.append(metric((of.content.T @ drawn.T).T))  # (size, patterns)
    return np.concatenate(values)


def of_confusion(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    groups: np.ndarray,
    num_classes: int,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """(draws,) of every headline number (accuracy, balanced accuracy, macro F1, kappa, Matthews) of
    one prediction.
    """
    cells = truth * num_classes + predicted
    used, patterns = np.unique(cells, return_inverse=True)

    def headlines(drawn: np.ndarray) -> np.ndarray:
        full = np.zeros((len(drawn), num_classes**2))
        full[:, used] = drawn
        confusions = full.reshape(-1, num_classes, num_classes)
        return np.stack([f(confusions) for f in matrices.HEADLINES.values()], axis=1)

    values = draw(
        kinds(patterns, groups), headlines, width=num_classes**2, draws=draws, seed=seed
    )  # (draws, headlines)
    return dict(zip(matrices.HEADLINES, values.T, strict=True))


def percentile_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the draws; draws where the number is undefined are left out."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


LEVEL = 0.95
NORMAL = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""


def wilson(num_right: int, num: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a proportion. Source: Wilson, Journal of the American Statistical Association
    22 (1927).
    """
    from scipy.special import ndtri

    if not 0 <= num_right <= num or num == 0:
        raise DarkroomError(
            "A proportion needs 0 <= right <= number and one image at least. Received: "
            f"{num_right} of {num}."
        )
    z = float(ndtri((1 + level) / 2))
    share, scale = num_right / num, 1 + z**2 / num
    middle = (share + z**2 / (2 * num)) / scale
    half = z * np.sqrt(share * (1 - share) / num + z**2 / (4 * num**2)) / scale
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def kappa_interval(confusion: np.ndarray, *, level: float = LEVEL) -> tuple[float, float]:
    """The large-sample interval of Cohen's unweighted kappa, clipped to -1 … 1.

    Where no image was confused that interval has no width; then Wilson's interval of the accuracy
    is carried over.

    Source: Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969), equation 14; (Fleiss,
        Statistical Methods for Rates and Proportions, 2nd edition, equation 13.15).
    """
    from scipy.special import ndtri

    shares = np.asarray(confusion, dtype=np.float64) / np.sum(confusion)
    truth, predicted = shares.sum(axis=1), shares.sum(axis=0)
    kappa = float(matrices.kappa(confusion))
    expected = float(truth @ predicted)
    if expected == 1:
        return kappa, kappa
    if kappa == 1:
        num = int(np.sum(confusion))
        return (wilson(num, num, level=level)[0] - expected) / (1 - expected), 1.0
    agree = np.diagonal(shares)
    on = (agree * (1 - (truth + predicted) * (1 - kappa)) ** 2).sum()
    weight = (predicted[:, None] + truth[None, :]) ** 2  # p_.i + p_j.
    off = (1 - kappa) ** 2 * ((shares * weight).sum() - (agree * np.diagonal(weight)).sum())
    variance = (on + off - (kappa - expected * (1 - kappa)) ** 2) / (
        np.sum(confusion) * (1 - expected) ** 2
    )
    half = float(ndtri((1 + level) / 2)) * np.sqrt(max(variance, 0.0))
    return max(-1.0, kappa - half), min(1.0, kappa + half)


def bounded_interval(
    value: float, half: float, *, num: int, lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float]:
    """Wilson's interval of a number whose symmetric interval would be `value` ± `half`.

    It cannot leave `lowest` … `highest`. The number of images that Wilson's formula asks for is the
    one at which a proportion has this half-width; for a number at either end it is `num`.
    """
    width = highest - lowest
    share, half = (value - lowest) / width, half / width
    variance = share * (1 - share)
    excess = half**2 / variance if variance > 1e-12 else NORMAL**2 / num  # q² / n
    middle = share + excess / 2
    reach = float(np.sqrt((half**2 if variance > 1e-12 else 0.0) + excess**2 / 4))
    low, high = ((middle + sign * reach) / (1 + excess) for sign in (-1, 1))
    return lowest + width * max(0.0, float(low)), lowest + width * min(1.0, float(high))
