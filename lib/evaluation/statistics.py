"""Confidence intervals over images and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.evaluation import confidence, influence, linear_model, metrics, multilabel
from lib.evaluation import confusion as matrices
from lib.evaluation.linear_model import LinearModel, Scores, Uncertainty
from lib.evaluation.predictions import Predictions

DRAWS = 1000


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


def intervals(
    predictions: Predictions, split: str, *, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """One row a headline number of one run: `value`, `low`, `high` (95 %), `method`.

    Where every image is its own group, accuracy has Wilson's interval and kappa the large-sample
    one; everything else is a percentile bootstrap, over groups where near-duplicates share one.
    """
    of_split = predictions.split(split)
    counted = metrics.confusion(of_split)
    grouped = linear_model.has_groups(of_split)
    drawn = confidence.of_confusion(
        of_split.truth,
        of_split.predicted,
        groups=of_split.groups,
        num_classes=len(of_split.class_names),
        draws=draws,
        seed=seed,
    )
    rows = {}
    for name, function in matrices.HEADLINES.items():
        low, high = confidence.percentile_interval(drawn[name])
        method = "bootstrap over groups" if grouped else "bootstrap over images"
        if name == "accuracy" and not grouped:
            (low, high), method = (
                confidence.wilson(int(np.trace(counted)), int(counted.sum())),
                "Wilson",
            )
        if name == "kappa" and not grouped:
            (low, high), method = confidence.kappa_interval(counted), "large sample"
        if low > 1 - 1e-9:
            low, method = (
                _lowest_of_faultless(of_split, counted, name),
                "Wilson over groups" if grouped else "Wilson",
            )
        rows[name] = {"value": float(function(counted)), "low": low, "high": high, "method": method}
    return (
        pd.DataFrame(rows)
        .T.astype({"value": float, "low": float, "high": float})
        .rename_axis("metric")
    )


def headline(
    predictions: Predictions, split: str = "test", *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float | str]:
    """`metrics.summary` with `<name>_low` and `<name>_high` of each headline number and the bands
    of kappa.
    """
    if predictions.kind == "multilabel":
        return multilabel.headline(predictions.split(split), draws=draws, seed=seed)
    values: dict[str, float | str] = dict(metrics.summary(predictions, split))
    for name, row in intervals(predictions, split, draws=draws, seed=seed).iterrows():
        values |= {f"{name}_low": float(row["low"]), f"{name}_high": float(row["high"])}
    for name in ("kappa", "kappa_low", "kappa_high"):
        values[f"{name}_band"] = matrices.landis_koch(float(values[name]))
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, str) or np.isfinite(value)
    }


def over_seeds(
    runs: Sequence[Predictions],
    name: str,
    *,
    split: str = "test",
    functions: Mapping[str, influence.Function] = matrices.HEADLINES,
) -> Estimate:
    """One headline number, or another of `functions` of confusion matrices, over the runs of one
    arm.

    One run has only the interval over images. `linear_model` says how the others come about.
    """
    arm = dict(enumerate(runs))
    return of_arm(linear_model.score({"": arm}, {name: functions.get(name)}, split=split)[name], "")


def of_arm(scores: Scores, arm: str, *, model: LinearModel | None = None) -> Estimate:
    """The estimate of one arm, with the mean squares pooled over all arms of `scores`."""
    value, uncertainty = (model or LinearModel(scores)).mean(arm)
    rows = scores.rows(arm)
    num_groups = len(
        np.unique(np.concatenate([scores.groups[place] for place in set(scores.sets[rows])]))
    )
    lowest = -1.0 if scores.metric == "matthews" or "kappa" in scores.metric else 0.0

    def interval(half: float) -> tuple[float, float]:
        return confidence.bounded_interval(value, half, num=num_groups, lowest=lowest)

    low, high = interval(uncertainty.half_width(confidence.LEVEL))
    image_low, image_high = interval(confidence.NORMAL * np.sqrt(uncertainty.image_variance))
    new_low = new_high = sd = float("nan")
    if len(rows) > 1:
        new_low, new_high = interval(uncertainty.half_width_of_new_run(confidence.LEVEL))
        sd = float(scores.values[rows].std(ddof=1))
    return Estimate(
        name=scores.metric,
        value=value,
        low=low,
        high=high,
        image_low=image_low,
        image_high=image_high,
        new_low=new_low,
        new_high=new_high,
        sd=sd,
        num_seeds=len(rows),
        method=method_of(scores, rows),
        uncertainty=uncertainty,
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


def _lowest_of_faultless(part: Predictions, counted: np.ndarray, name: str) -> float:
    # Without a single error there is nothing to resample; Wilson's bound of the accuracy still
    # knows the number of images.
    num_groups = part.frame["group"].nunique()
    accuracy = confidence.wilson(num_groups, num_groups)[0]
    if name != "matthews" and "kappa" not in name:
        return accuracy
    shares = counted.sum(axis=1) / counted.sum()
    expected = float((shares**2).sum())
    return (accuracy - expected) / (1 - expected)
