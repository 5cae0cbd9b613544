"""Numbers and sentences as text: rows of tables, intervals, percentages, wrapped paragraphs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from lib.evaluation import analytic
from lib.evaluation.formatting import SHARES, brief_row, full_row, interval, percent


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


__all__ = ["brief_row", "full_row", "interval", "percent", "published_row", "wrapped"]

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
