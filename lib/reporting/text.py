"""Numbers and sentences as text: rows of tables, intervals, percentages, wrapped paragraphs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lib.evaluation import analytic
from lib.evaluation import confusion as matrices
from lib.reporting.style import SHARES


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


def published_row(figures: Any, metric: str) -> dict[str, str]:
    """A figure of others in the columns of `full`, with Wilson's interval where it says its number
    of images, `n`.

    `figures` is a number of the comparison's metric, or a table; what has no column goes to
    `words`.
    """
    table = dict(figures) if isinstance(figures, Mapping) else {metric: figures}
    cells: dict[str, str] = {}
    num = table.pop("n", None) or table.pop("num_test", None)
    if isinstance(num, int) and num > 0:
        cells["test images"] = f"{num:,}"
    for name in ("accuracy", "kappa", metric):
        value = table.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            cells[name.replace("_", " ")] = percent(value) if name in SHARES else f"{value:.3f}"
            table.pop(name)
            if name == "accuracy" and "test images" in cells and 0 <= value <= 1:
                low, high = analytic.wilson(round(value * num), num)
                cells["95 %"] = f"{100 * low:.1f} to {100 * high:.1f} %"
    cells["words"] = "; ".join(
        str(value) if key == "source" else f"{key}: {value}" for key, value in table.items()
    )
    return cells


def _others(row: Mapping[str, Any]) -> list[str]:
    return [
        name for name in row if name in matrices.HEADLINES and name not in ("accuracy", "kappa")
    ]


def percent(share: float | None) -> str:
    """A share with one digit, "–" where there is none; also a filter of the pages."""
    return "–" if share is None or np.isnan(share) else f"{100 * share:.1f} %"


def _or_dash(value: float, form: str) -> str:
    return "–" if np.isnan(value) else form.format(value)


WIDTH = 88  # characters that a code cell's output shows on a screen of 1,300 pixels


def wrapped(sentences: str | Iterable[str], *, apart: str = "\n") -> str:
    """Returns the sentences one below the other, each broken between words and never between a
    number and its percent sign; lines that one of them has already are kept.
    """
    paragraphs = [sentences] if isinstance(sentences, str) else sentences
    lines = (
        line.replace(" %", "\u00a0%") for paragraph in paragraphs for line in paragraph.split("\n")
    )
    return apart.join(
        textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in lines
    )
