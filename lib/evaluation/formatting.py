"""Formatting of metrics: table rows, intervals, percentages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "exact_match")
"""Numbers shown in percent; kappa and Matthews are not shares of anything."""


def full_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Every column of one arm, from a row of `Comparison.table`."""
    main = _main(row)
    cells = {
        "arm": str(row["title"]),
        "seeds": _seeds(row),
        "test images": f"{row['num_test']:,}",
    }
    spread = "" if np.isnan(row[f"{main}_sd"]) else f" ± {100 * row[f'{main}_sd']:.1f}"
    cells[words(main)] = f"{100 * row[main]:.1f}{spread} %"
    cells["95 %"] = f"{100 * row[f'{main}_low']:.1f} to {100 * row[f'{main}_high']:.1f} %"
    cells["kappa"] = f"{row['kappa']:.3f}"
    cells["kappa 95 %"] = f"{row['kappa_low']:.3f} to {row['kappa_high']:.3f}"
    cells["agreement"] = str(row["kappa_band"])
    for name in _others(row):
        cells[words(name)] = (
            f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
        )
    cells |= {"train": percent(row[f"train_{main}"]), "validation": percent(row[f"val_{main}"])}
    cells["seconds"] = _or_dash(row["seconds"], "{:,.0f}")
    cells["parameters"] = _or_dash(row["num_parameters"], "{:,.0f}")
    cells["memory"] = _or_dash(row["peak_memory_bytes"] / 1e9, "{:.1f} GB")
    return cells


def brief_row(row: Mapping[str, Any]) -> dict[str, str]:
    """The main columns: arm, seeds, accuracy (macro F1 of several classes) and kappa with their
    intervals, seconds.
    """
    cells = {"arm": str(row["title"]), "seeds": _seeds(row)}
    others = [] if _main(row) == "macro_f1" else _others(row)
    for name in (*others, _main(row), "kappa"):
        cells[words(name)] = interval(name, row[name], row[f"{name}_low"], row[f"{name}_high"])
    cells["kappa"] += f" {row['kappa_band']}"
    cells["seconds"] = _or_dash(row["seconds"], "{:,.0f}")
    return cells


def interval(name: str, value: float, low: float, high: float) -> str:
    """A number with its interval: "84.5 % (83.0 to 86.0)" for a share, "0.69 (0.66 to 0.72)" for
    others.
    """
    if name in SHARES:
        return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def amount(name: str, value: float) -> str:
    """A metric as a number: "84.5 %" for a share, "0.693" for others."""
    return f"{100 * value:.1f} %" if name in SHARES else f"{value:.3f}"


def words(name: str) -> str:
    """The name of a metric as people read it."""
    return name.replace("_", " ")


def percent(share: float | None) -> str:
    """A share with one digit, "–" where there is none; also a filter of the pages."""
    return "–" if share is None or np.isnan(share) else f"{100 * share:.1f} %"


def _seeds(row: Mapping[str, Any]) -> str:
    return f"{row['seeds']} (tiny)" if row.get("tiny") else str(row["seeds"])


def _main(row: Mapping[str, Any]) -> str:
    return "macro_f1" if "test_macro_f1" in row else "accuracy"


def _others(row: Mapping[str, Any]) -> list[str]:
    names = [name.removesuffix("_sd") for name in row if name.endswith("_sd")]
    return [name for name in names if name not in (_main(row), "kappa")]


def _or_dash(value: float, form: str) -> str:
    return "–" if np.isnan(value) else form.format(value)
