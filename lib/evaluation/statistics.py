"""Confidence intervals: over images and seeds, and in closed form for a proportion (Wilson), other
bounded numbers and kappa.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import arm_model, metrics, multilabel
from lib.evaluation.arm_model import LinearModel, Scores, Uncertainty
from lib.evaluation.predictions import Predictions

LEVEL = 0.95
NORMAL = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A number over runs, with both sources of its uncertainty kept apart.

    `image_low … image_high` is the 95 % interval over images, with these trainings; `low … high`
    over images, splits (where runs have their own) and trainings. A single further run of the same
    design lies in `new_low … new_high` (NaN for one training). `sd` is the deviation between runs
    (NaN for one).
    """

    name: str
    value: float
    low: float
    high: float
    image_low: float
    image_high: float
    sd: float
    num_seeds: int
    method: str
    uncertainty: Uncertainty
    new_low: float = float("nan")
    new_high: float = float("nan")

    @property
    def p_value(self) -> float:
        """The two-sided p that the number is 0: 1 - the level of the interval that reaches 0."""
        return self.uncertainty.p_value(abs(self.value))


def intervals(predictions: Predictions, split: str) -> pd.DataFrame:
    """One row a headline number of one run: `value`, `low`, `high` (95 % over images, by groups
    where near-duplicates share one).

    That of accuracy is Wilson's and that of kappa the large-sample one where every image is a group
    of its own; the others are bounded alike, see `confidence.bounded_interval`.
    """
    part = predictions.split(split)
    is_multilabel = part.kind == "multilabel"
    names = multilabel.HEADLINES if is_multilabel else metrics.HEADLINES
    functions = {name: metrics.HEADLINES.get(name) for name in names}
    scores = arm_model.score({"": {0: predictions}}, functions, split=split)
    estimates = {name: of_arm(scores[name], "") for name in names}
    rows = {name: (one.value, one.low, one.high) for name, one in estimates.items()}
    if not is_multilabel and not arm_model.has_groups(part):
        kappa = kappa_interval(metrics.confusion(part))
        rows["kappa"] = (rows["kappa"][0], *kappa)
    return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("metric")


def headline(predictions: Predictions, split: str = "test") -> dict[str, float | str]:
    """`metrics.summary` with `<name>_low` and `<name>_high` of each headline number and the bands
    of kappa; what is not defined is left out.
    """
    values: dict[str, float | str] = dict(metrics.summary(predictions, split))
    for name, row in intervals(predictions, split).iterrows():
        if name in values:
            values |= {f"{name}_low": float(row["low"]), f"{name}_high": float(row["high"])}
    if predictions.kind != "multilabel":
        for name in ("kappa", "kappa_low", "kappa_high"):
            values[f"{name}_band"] = metrics.landis_koch(float(values[name]))
    return values


def over_seeds(
    runs: Sequence[Predictions],
    name: str,
    *,
    split: str = "test",
    functions: Mapping[str, metrics.Function] = metrics.HEADLINES,
) -> Estimate:
    """One headline number, or another of `functions` of confusion matrices, over the runs of one
    arm.

    One run has only the interval over images. `linear_model` says how the others come about.
    """
    arm = dict(enumerate(runs))
    return of_arm(arm_model.score({"": arm}, {name: functions.get(name)}, split=split)[name], "")


def of_arm(scores: Scores, arm: str, *, model: LinearModel | None = None) -> Estimate:
    """The estimate of one arm, with the mean squares pooled over all arms of `scores`."""
    value, uncertainty = (model or LinearModel(scores)).mean(arm)
    rows = scores.rows(arm)
    places = sorted(set(scores.sets[rows]))
    num = len(np.unique(np.concatenate([scores.groups[place] for place in places])))
    lowest = min(float(scores.floors[rows].mean()), value)

    def interval(half: float) -> tuple[float, float]:
        return bounded_interval(value, half, num=num, lowest=lowest)

    sd = float(scores.values[rows].std(ddof=1)) if len(rows) > 1 else float("nan")
    return estimate(scores, rows, value, uncertainty, interval=interval, sd=sd)


def estimate(
    scores: Scores,
    rows: np.ndarray,
    value: float,
    uncertainty: Uncertainty,
    *,
    interval: Callable[[float], tuple[float, float]],
    sd: float,
) -> Estimate:
    """A number over the runs `rows`; `interval` gives the ends for half the width."""
    ends = {
        "": interval(uncertainty.half_width(LEVEL)),
        "image_": interval(uncertainty.half_width_over_images(LEVEL)),
    }
    if len(rows) > 1:
        ends["new_"] = interval(uncertainty.half_width_of_new_run(LEVEL))
    return Estimate(
        name=scores.metric,
        value=value,
        sd=sd,
        num_seeds=len(rows),
        method=method_of(scores, rows),
        uncertainty=uncertainty,
        **{f"{kind}low": low for kind, (low, _) in ends.items()},
        **{f"{kind}high": high for kind, (_, high) in ends.items()},
    )


def method_of(scores: Scores, rows: np.ndarray) -> str:
    """The method of an interval in words: over images, and splits, folds or seeds."""
    sets = sorted(set(scores.sets[rows]))
    if len(sets) > 1:
        sizes = np.concatenate([scores.images[place] for place in sets])
        times = np.unique(sizes, return_counts=True)[1]
        if times.max() == times.min() < len(sets):  # every image was tested equally often
            return f"over images, {len(sets)} folds and trainings"
        return f"over images, {len(sets)} splits and trainings"
    if len(rows) > 1:
        return f"over images and {len(rows)} trainings on one split"
    return "over images, with this training"


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
    kappa, expected = float(metrics.kappa(confusion)), float(metrics.chance(confusion))
    if kappa == 1:
        num = int(confusion.sum())
        return (wilson(num, num)[0] - expected) / (1 - expected), 1.0
    slopes = metrics.derivative(confusion, metrics.kappa)
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
