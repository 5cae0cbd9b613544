"""Arms of a comparison side by side: weighted kappa, disagreements, calibration and selective
prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import calibration, formatting, metrics, multilabel, statistics
from lib.evaluation.comparison import Comparison
from lib.evaluation.predictions import Predictions
from lib.evaluation.run_records import RunRecord


def weighted_kappa(comparison: Comparison, order: Sequence[str]) -> pd.DataFrame:
    """One row an arm and weighting (`unweighted`, `linear`, `quadratic`): `kappa`, `low`, `high`,
    `agreement`.

    `order` is every class once, from the lowest to the highest. `agreement` is Landis and Koch's
    word for the kappa, and for both ends of its 95 % interval where they have another.
    """
    class_names = list(comparison.class_names)
    if sorted(order) != sorted(class_names):
        raise DarkroomError(
            f"`order` must name every class once. Expected: {sorted(class_names)}. Received: "
            f"{list(order)}."
        )
    places = [class_names.index(name) for name in order]
    index = np.ix_(places, places)
    weightings = {"unweighted": None, "linear": "linear", "quadratic": "quadratic"}
    rows = []
    for arm, runs in comparison.arms.items():
        for name, weights in weightings.items():
            function = partial(_kappa, index=index, weights=weights)
            tables = [run.predictions for run in runs]
            one = statistics.over_seeds(tables, "kappa", functions={"kappa": function})
            row = {"arm": arm, "weights": name, "kappa": one.value, "low": one.low}
            rows.append(row | {"high": one.high, "agreement": _words(one)})
    return pd.DataFrame(rows).set_index(["arm", "weights"])


def _kappa(
    confusion: np.ndarray, *, index: tuple[np.ndarray, np.ndarray], weights: str | None
) -> np.ndarray:
    return metrics.kappa(np.asarray(confusion)[..., *index], weights=weights)


def _words(estimate: statistics.Estimate) -> str:
    low, middle, high = (
        metrics.landis_koch(value) for value in (estimate.low, estimate.value, estimate.high)
    )
    return middle if low == middle == high else f"{middle} ({low} to {high})"


def parts(comparison: Comparison) -> tuple[int, dict[str, Predictions]] | None:
    """The first seed that all arms have, and each arm's test predictions of it; None for one arm or
    no common seed.
    """
    common = set.intersection(*({run.seed for run in runs} for runs in comparison.arms.values()))
    if len(comparison.arms) < 2 or not common:
        return None
    seed = min(common)
    chosen = {
        arm: next(run for run in runs if run.seed == seed) for arm, runs in comparison.arms.items()
    }
    return seed, {arm: run.predictions.split("test") for arm, run in chosen.items()}


def sentence(comparison: Comparison) -> str:
    """On how many test images all arms are right, none is, or they differ; "" for one arm or
    without a common seed.
    """
    shared = parts(comparison)
    if shared is None:
        return ""
    seed, of_arm = shared
    right = np.stack([_is_right(part) for part in of_arm.values()]).sum(axis=0)
    num, num_all_wrong = len(right), int((right == 0).sum())
    num_all_right = int((right == len(of_arm)).sum())
    return (
        f"With seed {seed}, all arms are right on {num_all_right:,} of {num:,} test images, none "
        f"on {num_all_wrong:,}; on {num - num_all_right - num_all_wrong:,} they differ."
    )


def images(comparison: Comparison, num: int = 12) -> pd.DataFrame:
    """The test images on which two arms name different classes and both are surest of it: `path`,
    `label`, a column an arm.

    An arm's column holds the class it names. Empty for one arm or without a common seed.
    """
    shared = parts(comparison)
    if shared is None:
        return pd.DataFrame(columns=["path", "label", *comparison.arms])
    _, of_arm = shared
    tables = list(of_arm.values())
    if tables[0].kind == "multilabel":
        names, labels, strength = _of_labels(tables)
    else:
        names, labels, strength = _of_classes(tables)
    order = np.argsort(-strength, kind="stable")[:num]
    order = order[strength[order] > 0]
    table = pd.DataFrame(
        {"path": tables[0].frame["path"].to_numpy()[order], "label": labels[order]}
    )
    return table.assign(**{arm: names[order, column] for column, arm in enumerate(of_arm)})


def _is_right(part: Predictions) -> np.ndarray:
    if part.kind == "multilabel":
        return (part.present == part.truths).all(axis=1)
    return part.predicted == part.truth


def _of_classes(tables: list[Predictions]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The predicted classes (n, arms), the labels (n,) and how strongly arms contradict (n,)."""
    predicted = np.stack([part.predicted for part in tables], axis=1)
    sure = np.stack([part.confidence for part in tables], axis=1)
    first = sure.argmax(axis=1)  # the surest arm, and the surest of those that contradict it
    contradicts = predicted != np.take_along_axis(predicted, first[:, None], axis=1)
    strength = np.where(contradicts, sure, 0).max(axis=1)
    names = np.asarray(tables[0].class_names, dtype=object)
    return names[predicted], tables[0].frame["label"].to_numpy(), strength


def _of_labels(tables: list[Predictions]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_of_classes`; the strength is the widest gap in a label that one arm names."""
    class_names = tables[0].class_names
    predicted = np.stack([part.present for part in tables])  # (arms, n, k)
    gap = np.ptp(np.stack([part.probabilities for part in tables]), axis=0)
    strength = np.where(predicted.any(axis=0) & ~predicted.all(axis=0), gap, 0).max(axis=1)
    names = [multilabel.names_of(labels, class_names) for labels in predicted]
    labels = np.asarray(multilabel.names_of(tables[0].truths, class_names), dtype=object)
    return np.asarray(names, dtype=object).T, labels, strength


TARGET_ACCURACY = 0.95
_COLUMNS = ("calibration_error", "temperature", "calibration_error_scaled", "coverage", "accuracy")


def selective_prediction(
    comparison: Comparison, *, target_accuracy: float = TARGET_ACCURACY
) -> pd.DataFrame:
    """One row an arm, means over seeds; none for arms that state no probabilities or hold no
    validation images.

    `calibration_error` as stated, `temperature` (of validation), `calibration_error_scaled` at it;
    `num_raised`, in how many trainings it raises the error; and what answering only above the
    threshold for the `target_accuracy` accuracy on validation does on test: `coverage` and
    `accuracy` (NaN where no seed reaches the target).
    """
    rows = {
        arm: _row(runs, target_accuracy)
        for arm, runs in comparison.arms.items()
        if all(map(states_probabilities, runs))
    }
    return pd.DataFrame(rows, index=[*_COLUMNS, "num_raised"]).T.rename_axis("arm")


def selective_prediction_text(
    rows: pd.DataFrame, *, target_accuracy: float = TARGET_ACCURACY
) -> pd.DataFrame:
    """The table as text, for the notebook and the page."""
    promised = rows["coverage"].map(
        lambda share: "cannot be promised" if np.isnan(share) else formatting.percent(share)
    )
    columns = {
        "calibration error": rows["calibration_error"].map(formatting.percent),
        "temperature": rows["temperature"].map(
            lambda value: "1 (none helps)" if value == 1 else f"{value:.2f}"
        ),
        "error at that temperature": rows["calibration_error_scaled"].map(formatting.percent),
        f"coverage at {100 * target_accuracy:.0f} % target accuracy": promised,
        "accuracy of these": rows["accuracy"].map(formatting.percent),
    }
    return pd.DataFrame(columns)


def raised_text(rows: pd.DataFrame) -> str:
    """Which arms' temperatures raise the error on test, in a sentence; "" where none does."""
    arms = [
        f"{arm} ({num:.0f} training{'s' * (num > 1)})"
        for arm, num in rows["num_raised"].items()
        if num
    ]
    if not arms:
        return ""
    return (
        "On test, the temperature chosen on validation increases the calibration error of "
        f"{', '.join(arms)}."
    )


def states_probabilities(run: RunRecord) -> bool:
    """Whether a run's table holds probabilities, and validation images to set a temperature by."""
    return run.predictions.kind == "probability" and "val" in run.predictions.splits


def _row(runs: Sequence[RunRecord], target_accuracy: float) -> dict[str, float]:
    advices = [calibration.advice(run.predictions, targets=(target_accuracy,)) for run in runs]
    row = {name: float(np.mean([advice[name] for advice in advices])) for name in _COLUMNS[:3]}
    row["num_raised"] = sum(
        advice["calibration_error_scaled"] > advice["calibration_error"] for advice in advices
    )
    reached = [advice["thresholds"][0] for advice in advices if advice["thresholds"]]
    # A seed whose validation never reaches the target answers nothing.
    row["coverage"] = row["accuracy"] = float("nan")
    if reached:
        row["coverage"] = sum(one["coverage"] for one in reached) / len(advices)
    if answered := sum(one["coverage"] for one in reached):
        right = sum(one["coverage"] * (one["accuracy"] or 0.0) for one in reached)
        row["accuracy"] = right / answered
    return row
