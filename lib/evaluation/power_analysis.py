"""Power of a study: the smallest detectable difference, and the number of runs needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import arm_model
from lib.evaluation.arm_model import Uncertainty

ALPHA, POWER = 0.05, 0.8
DISAGREEMENT = 0.15
"""The assumed share of test images that only one of two arms gets right, before anything is
measured; between a frozen backbone and a small network it was 0.16 (elpv) and 0.23 (documents).
"""
TRAINING_SD = 0.01
"""The assumed standard deviation of accuracy between trainings of one arm on the same images."""
DEPENDENCE = 0.6
"""How much arms are assumed to depend on their training images, see `arm_model.shared_training`;
quickstart's do by 0.1 to 0.7, networks on paintings by 0.8 to 0.95.
"""
_MOST_RUNS = 100


@dataclass(frozen=True)
class Detectable:
    """The smallest difference in accuracy that a study shows with 80 % power; `num_pairs` are
    corrected for.
    """

    difference: float
    num_runs: int
    num_pairs: int
    num_test: int
    is_splits: bool

    @property
    def sentence(self) -> str:
        """One sentence for people, with what was assumed."""
        runs = f"{self.num_runs} {'splits' if self.is_splits else 'seeds'}"
        pairs = f"{self.num_pairs} comparison{'s' * (self.num_pairs > 1)}"
        images, points = f"{self.num_test:,} test images", f"{100 * self.difference:.1f} points"
        if self.num_runs == 1:
            return (
                f"One training each, {images}: this study can show that two trained models differ "
                f"by {points}, but nothing about the methods."
            )
        return (
            f"Smallest difference this study can show: {points} of accuracy ({runs}, {images}, "
            f"{pairs}, power {100 * POWER:.0f} %; assumed: two arms disagree on "
            f"{100 * DISAGREEMENT:.0f} % of the images, trainings vary by "
            f"{100 * TRAINING_SD:.0f} point)."
        )


def before(
    *,
    num_arms: int,
    num_runs: int,
    num_test: int,
    num_train: int,
    is_splits: bool,
    num_pairs: int | None = None,
    disagreement: float = DISAGREEMENT,
    training_sd: float = TRAINING_SD,
) -> Detectable:
    """The smallest difference in accuracy that a study of this design shows with 80 % power.

    Args:
        num_arms: arms, two or more.
        num_runs: trainings an arm.
        num_test: test images of one run.
        num_train: training images of one run.
        is_splits: each run has its own split; otherwise all runs share one.
        num_pairs: comparisons to correct for; by default all pairs of arms.
        disagreement: the share of test images that only one of two arms gets right.
        training_sd: the standard deviation of accuracy between trainings of one arm on the same
            images.
    """
    if num_arms < 2 or num_runs < 1 or num_test < 1 or num_train < 1:
        raise DarkroomError(
            f"A comparison takes two arms, one run and one image at least. Received: {num_arms} "
            f"arms, {num_runs} runs, {num_test} test and {num_train} training images."
        )
    pairs = num_arms * (num_arms - 1) // 2 if num_pairs is None else num_pairs
    over_images, of_training = disagreement / num_test, 2 * training_sd**2
    if num_runs == 1:
        expected = Uncertainty(over_images, over_images, np.inf)
    else:
        seen = num_test / (num_train + num_test) if is_splits else 1.0
        share = (of_training + over_images * (1 - seen)) / num_runs
        shared = arm_model.shared_training(DEPENDENCE) * num_test / num_train
        variance = over_images * (seen + shared) + share
        degrees = arm_model.PRIOR_DEGREES + (num_arms - is_splits) * (num_runs - 1)
        expected = Uncertainty(
            over_images * (seen + (1 - seen) / num_runs),
            variance,
            degrees * (variance / share) ** 2,
        )
    smallest = detectable(expected, alpha=pairwise_alpha(num_arms, pairs))
    return Detectable(smallest, num_runs, pairs, num_test, is_splits)


def pairwise_alpha(num_arms: int, num_pairs: int) -> float:
    """The level at which one pair is tested so that 5 % holds for all of them.

    Of all pairs of several arms by Tukey's range test, else by Holm's first step.
    """
    from scipy.special import ndtr
    from scipy.stats import studentized_range

    if num_pairs == 1 or num_pairs < num_arms * (num_arms - 1) // 2:
        return ALPHA / num_pairs
    return float(2 * ndtr(-studentized_range.ppf(1 - ALPHA, num_arms, np.inf) / np.sqrt(2)))


def power(difference: float, uncertainty: Uncertainty, *, alpha: float = ALPHA) -> float:
    """The probability that a true difference is shown at the level `alpha`."""
    from scipy.special import nctdtr, ndtr

    needed = uncertainty.half_width(1 - alpha)
    error, degrees = np.sqrt(uncertainty.variance), uncertainty.degrees_of_freedom
    if not np.isfinite(degrees) or degrees > 1e4:
        return float(ndtr((abs(difference) - needed) / error))
    return float(1 - nctdtr(degrees, abs(difference) / error, needed / error))


def detectable(uncertainty: Uncertainty, *, alpha: float = ALPHA) -> float:
    """The smallest difference that is shown with 80 % power."""
    from scipy.optimize import brentq

    enough = uncertainty.half_width(1 - alpha) + 10 * np.sqrt(uncertainty.variance)
    return float(brentq(lambda size: power(size, uncertainty, alpha=alpha) - POWER, 0.0, enough))


def runs_needed(difference: float, uncertainty: Uncertainty, *, alpha: float = ALPHA) -> int | None:
    """Number of runs an arm that shows a difference of this size with 80 % power; None if up to 100
    do not.
    """
    for num in range(2, _MOST_RUNS + 1):
        if power(difference, uncertainty.with_runs(num), alpha=alpha) >= POWER:
            return num
    return None
