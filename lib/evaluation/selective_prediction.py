"""Calibration and selective prediction of the arms of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.evaluation import calibration, formatting
from lib.evaluation.comparison import Comparison
from lib.evaluation.run_records import RunRecord

TARGET_ACCURACY = 0.95
_COLUMNS = ("calibration_error", "temperature", "calibration_error_scaled", "coverage", "accuracy")


def table(comparison: Comparison, *, target_accuracy: float = TARGET_ACCURACY) -> pd.DataFrame:
    """One row an arm, means over seeds; none for arms that state no probabilities or hold no
    validation images.

    `calibration_error` as stated, `temperature` (of validation), `calibration_error_scaled` at it;
    and what answering only above the threshold for the `target_accuracy` accuracy on validation
    does on test: `coverage` and `accuracy` (NaN where no seed reaches the wish).
    """
    rows = {
        arm: _row(runs, target_accuracy)
        for arm, runs in comparison.arms.items()
        if all(map(states_probabilities, runs))
    }
    return pd.DataFrame(rows, index=list(_COLUMNS)).T.rename_axis("arm")


def shown(rows: pd.DataFrame, *, target_accuracy: float = TARGET_ACCURACY) -> pd.DataFrame:
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


def states_probabilities(run: RunRecord) -> bool:
    """Whether a run's table holds probabilities, and validation images to set a temperature by."""
    return run.predictions.kind == "probability" and "val" in run.predictions.splits


def _row(runs: Sequence[RunRecord], target_accuracy: float) -> dict[str, float]:
    advices = [calibration.advice(run.predictions, targets=(target_accuracy,)) for run in runs]
    row = {name: float(np.mean([advice[name] for advice in advices])) for name in _COLUMNS[:3]}
    reached = [advice["thresholds"][0] for advice in advices if advice["thresholds"]]
    answered = [advice for advice in reached if advice["accuracy"] is not None]
    # A seed whose validation never reaches the wish answers nothing.
    row["coverage"] = (
        sum(advice["coverage"] for advice in reached) / len(advices) if reached else float("nan")
    )
    num = sum(advice["coverage"] for advice in answered)
    row["accuracy"] = (
        sum(advice["coverage"] * advice["accuracy"] for advice in answered) / num
        if num
        else float("nan")
    )
    return row
