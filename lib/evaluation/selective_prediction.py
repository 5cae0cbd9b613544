"""Calibration and selective prediction of the arms of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.evaluation import calibration
from lib.evaluation.comparison import Comparison
from lib.evaluation.predictions import Predictions
from lib.evaluation.run_records import Unit
from lib.reporting import plots, text
from lib.reporting.style import Drawing

TARGET_ACCURACY = 0.95
_COLUMNS = ("calibration_error", "temperature", "calibration_error_scaled", "coverage", "accuracy")
_MOST_ARMS = 8  # lines that an eye can follow


def table(comparison: Comparison, *, target_accuracy: float = TARGET_ACCURACY) -> pd.DataFrame:
    """One row an arm, means over seeds; none for arms that state no probabilities or hold no
    validation images.

    `calibration_error` as stated, `temperature` (of validation), `calibration_error_scaled` at it;
    and what answering only above the threshold for the `target_accuracy` accuracy on validation does on
    test: `coverage` and `accuracy` (NaN where no seed reaches the wish).
    """
    rows = {
        arm: _row(units, target_accuracy)
        for arm, units in comparison.arms.items()
        if all(map(states_probabilities, units))
    }
    return pd.DataFrame(rows, index=list(_COLUMNS)).T.rename_axis("arm")


def shown(found: pd.DataFrame, *, target_accuracy: float = TARGET_ACCURACY) -> pd.DataFrame:
    """The table as text, for the notebook and the page."""
    promised = found["coverage"].map(
        lambda share: "cannot be promised" if np.isnan(share) else text.percent(share)
    )
    columns = {
        "calibration error": found["calibration_error"].map(text.percent),
        "temperature": found["temperature"].map(
            lambda value: "1 (none helps)" if value == 1 else f"{value:.2f}"
        ),
        "error at that temperature": found["calibration_error_scaled"].map(text.percent),
        f"coverage at {100 * target_accuracy:.0f} % target accuracy": promised,
        "accuracy of these": found["accuracy"].map(text.percent),
    }
    return pd.DataFrame(columns)


def drawings(
    comparison: Comparison, *, target_accuracy: float = TARGET_ACCURACY
) -> dict[str, Drawing]:
    """`reliability` of the best arm as stated, its seeds together, and `coverage` of the arms (the
    best eight), scaled.
    """
    told = {
        arm: units
        for arm, units in comparison.arms.items()
        if all(map(states_probabilities, units))
    }
    if not told:
        return {}
    best, units = next(iter(told.items()))
    pooled = _together([unit.predictions.split("test") for unit in units])
    error = calibration.calibration_error(pooled)
    together = (
        f", its {len(units)} seeds together" if len(units) > 1 else ""
    )  # not the mean over seeds that the table holds
    title = f"{best}: calibration error {100 * error:.1f} %{together}"
    curves = {
        arm: calibration.risk_coverage(_together([_scaled(unit).split("test") for unit in its]))
        for arm, its in list(told.items())[:_MOST_ARMS]
    }
    return {
        "reliability": plots.reliability(calibration.reliability(pooled), error, title=title),
        "coverage": plots.risk_coverage(curves, target=target_accuracy),
    }


def states_probabilities(unit: Unit) -> bool:
    """Whether a run's table holds probabilities, and validation images to set a temperature by."""
    return unit.predictions.kind == "probability" and "val" in unit.predictions.splits


def _row(units: Sequence[Unit], target_accuracy: float) -> dict[str, float]:
    told = [calibration.advice(unit.predictions, targets=(target_accuracy,)) for unit in units]
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


def _scaled(unit: Unit) -> Predictions:
    return calibration.scaled(
        unit.predictions, calibration.useful_temperature(unit.predictions.split("val"))
    )


def _together(parts: Sequence[Predictions]) -> Predictions:
    return replace(parts[0], frame=pd.concat([part.frame for part in parts], ignore_index=True))
