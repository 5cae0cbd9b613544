"""Intervals in closed form for a proportion and for Cohen's kappa, with independent images."""

from __future__ import annotations

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import confusion as matrices

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
