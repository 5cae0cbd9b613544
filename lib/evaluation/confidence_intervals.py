"""Intervals in closed form: Wilson's of a proportion and its like for other bounded numbers, and
kappa's large-sample interval.
"""

from __future__ import annotations

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import confusion_metrics as matrices
from lib.evaluation import influence

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


def kappa_interval(confusion: np.ndarray) -> tuple[float, float]:
    """The 95 % large-sample interval of Cohen's unweighted kappa, clipped to -1 … 1.

    Where no image was confused that interval has no width; then Wilson's interval of the accuracy
    is carried over.

    Source: Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969), equation 14, by the
        influence of each count.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    kappa, expected = float(matrices.kappa(confusion)), float(matrices.chance(confusion))
    if kappa == 1:
        num = int(confusion.sum())
        return (wilson(num, num)[0] - expected) / (1 - expected), 1.0
    slopes = influence.of_confusion(confusion, matrices.kappa)
    half = NORMAL * float(np.sqrt((confusion * slopes**2).sum()))
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
