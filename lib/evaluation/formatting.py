"""Numbers as text: rows of the table of arms, intervals, percentages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lib.evaluation import confusion as matrices

SHARES = ("accuracy", "balanced_accuracy", "macro_f1")
"""Numbers shown in percent; kappa and Matthews are not shares of anything."""


def full_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Every column of one arm, from a row of `Comparison.table`."""
    cells = {
        "arm": str(row["arm"]),
        "seeds": str(row["seeds"]),
        "test images": f"{row['num_test']:,}",
    }
    spread = "" if np.isnan(row["accuracy_sd"]) else f" ± {100 * row['accuracy_sd']:.1f}"
    cells["accuracy"] = f"{100 * row['accuracy']:.1f}{spread} %"
    cells["95 %"] = f"{100 * row['accuracy_low']:.1f} to {100 * row['accuracy_high']:.1f} %"
    cells["kappa"] = f"{row['kappa']:.3f}"
    cells["kappa 95 %"] = f"{row['kappa_low']:.3f} to {row['kappa_high']:.3f}"
    cells["agreement"] = str(row["kappa_band"])
    for name in _others(row):
        cells[name.replace("_", " ")] = (
            f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
        )
    cells |= {"train": percent(row["train_accuracy"]), "validation": percent(row["val_accuracy"])}
    cells["seconds"] = _or_dash(row["seconds"], "{:,.0f}")
    cells["parameters"] = _or_dash(row["num_parameters"], "{:,.0f}")
    cells["memory"] = _or_dash(row["peak_memory_bytes"] / 1e9, "{:.1f} GB")
    return cells


def brief_row(row: Mapping[str, Any]) -> dict[str, str]:
    """What decides, in five or six columns: arm, seeds, accuracy and kappa with their intervals,
    seconds.
    """
    cells = {"arm": str(row["arm"]), "seeds": str(row["seeds"])}
    for name in _others(row):
        cells[name.replace("_", " ")] = interval(
            name, row[name], row[f"{name}_low"], row[f"{name}_high"]
        )
    cells["accuracy"] = interval(
        "accuracy", row["accuracy"], row["accuracy_low"], row["accuracy_high"]
    )
    cells["kappa"] = (
        f"{interval('kappa', row['kappa'], row['kappa_low'], row['kappa_high'])} "
        f"{row['kappa_band']}"
    )
    cells["seconds"] = _or_dash(row["seconds"], "{:,.0f}")
    return cells


def interval(name: str, value: float, low: float, high: float) -> str:
    """A number with its interval: "84.5 % (83.0 to 86.0)" for a share, "0.69 (0.66 to 0.72)" for
    others.
    """
    if name in SHARES:
        return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def percent(share: float | None) -> str:
    """A share with one digit, "–" where there is none; also a filter of the pages."""
    return "–" if share is None or np.isnan(share) else f"{100 * share:.1f} %"


def _others(row: Mapping[str, Any]) -> list[str]:
    return [
        name for name in row if name in matrices.HEADLINES and name not in ("accuracy", "kappa")
    ]


def _or_dash(value: float, form: str) -> str:
    return "–" if np.isnan(value) else form.format(value)
