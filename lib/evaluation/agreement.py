"""Weighted kappa of ordered classes, over the arms of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from lib.evaluation import confusion as matrices
from lib.evaluation import metrics, statistics
from lib.evaluation.comparison import Comparison


def table(comparison: Comparison, order: Sequence[str]) -> pd.DataFrame:
    """One row an arm and weighting (`unweighted`, `linear`, `quadratic`): `kappa`, `low`, `high`,
    `agreement`.

    `order` is every class once, from the lowest to the highest. `agreement` is Landis and Koch's
    word for the kappa, and for both ends of its 95 % interval where they have another.
    """
    index = metrics.ordered(comparison.class_names, order)
    functions = {
        f"{name} kappa": partial(_kappa, index=index, weights=weights)
        for name, weights in (
            ("unweighted", None),
            ("linear", "linear"),
            ("quadratic", "quadratic"),
        )
    }
    rows = []
    for arm, runs in comparison.arms.items():
        for name in functions:
            estimate = statistics.over_seeds(
                [run.predictions for run in runs], name, functions=functions
            )
            rows.append(
                {
                    "arm": arm,
                    "weights": name.removesuffix(" kappa"),
                    "kappa": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "agreement": _words(estimate),
                }
            )
    return pd.DataFrame(rows).set_index(["arm", "weights"])


def _kappa(
    confusion: np.ndarray, *, index: tuple[np.ndarray, np.ndarray], weights: str | None
) -> np.ndarray:
    return matrices.kappa(np.asarray(confusion)[..., *index], weights=weights)


def _words(estimate: statistics.Estimate) -> str:
    low, middle, high = (
        matrices.landis_koch(value) for value in (estimate.low, estimate.value, estimate.high)
    )
    return middle if low == middle == high else f"{middle} ({low} to {high})"
