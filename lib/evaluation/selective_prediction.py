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


def shown(found: pd.DataFrame, *, target_accuracy: float = TARGET_ACCURACY) -> pd.DataFrame:
    """The table as text, for the notebook and the page."""
    promised = found["coverage"].map(
        lambda share: "cannot be promised" if np.isnan(share) else formatting.percent(share)
    )
    columns = {
        "calibration error": found["calibration_error"].map(formatting.percent),
        "temperature": found["temperature"].map(
            lambda value: "1 (none helps)" if value == 1 else f"{value:.2f}"
        ),
        "error at that temperature": found["calibration_error_scaled"].map(formatting.percent),
        f"coverage at {100 * target_accuracy:.0f} % target accuracy": promised,
        "accuracy of these": found["accuracy"].map(formatting.percent),
    }
    return pd.DataFrame(columns)


def states_probabilities(run: RunRecord) -> bool:
    """Whether a run's table holds probabilities, and validation images to set a temperature by."""
    return run.predictions.kind == "probability" and "val" in run.predictions.splits


def _row(runs: Sequence[RunRecord], target_accuracy: float) -> dict[str, float]:
    told = [calibration.advice(run.predictions, targets=(target_accuracy,)) for run in runs]
    row = {name: float(np.mean([each[name] for each in told])) for name in _COLUMNS[:3]}
    reached = [each["thresholds"][0] for each in told if each["thresholds"]]
    answered = [each for each in reached if each["accuracy"] is not None]
    # A seed whose validation never reaches the wish answers nothing.
    row["coverage"] = (
        sum(each["coverage"] for each in reached) / len(told) if reached else float("nan")
    )
    num = sum(each["coverage"] for each in answered)
    row["accuracy"] = (
        sum(each["coverage"] * each["accuracy"] for each in answered) / num if num else float("nan")
    )
    return row
