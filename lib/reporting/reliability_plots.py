"""Figures of how far stated probabilities can be trusted: reliability, and risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from lib.reporting import style
from lib.reporting.style import Drawing


def reliability(bins: pd.DataFrame, error: float, *, title: str = "") -> Drawing:
    """Accuracy against stated probability, one bar a bin, and how many images each bin holds.

    `bins` is `calibration.reliability`, `error` the expected calibration error (0 to 1).
    """
    filled = bins.dropna()
    gap = float(np.average(filled["accuracy"] - filled["confidence"], weights=filled["num"]))
    manner = "too modest" if gap > 0 else "too sure"
    drawing = Drawing(4.8, 5.0)
    with matplotlib.rc_context(style.settings()):
        upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        width, middle = bins["high"] - bins["low"], (bins["low"] + bins["high"]) / 2
        upper.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        upper.bar(middle, bins["accuracy"].fillna(0), width * 0.9, color=style.RIGHT, alpha=0.35)
        upper.plot(filled["confidence"], filled["accuracy"], "o", color=style.RIGHT, markersize=5)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that was right")
        lower.bar(middle, bins["num"], width * 0.9, color=style.MUTED, alpha=0.5)
        lower.set(ylabel="images", xlabel="probability the model stated")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for axis in (upper.yaxis, lower.xaxis):
            style.show_percent(axis)
        style.set_title(
            drawing, title or f"Calibration error {100 * error:.1f} %, on average {manner}"
        )
    drawing.alt = f"Reliability: expected calibration error {100 * error:.1f} %; on average {manner} by {100 * abs(gap):.1f} points."
    return drawing


def risk_coverage(
    curves: Mapping[str, pd.DataFrame], *, wished: float | None = None, title: str = ""
) -> Drawing:
    """How accuracy falls as ever less sure images are answered, one line a curve.

    `curves` maps a name (an arm, or a split) to `calibration.risk_coverage`; `wished` is an
    accuracy to mark.
    """
    drawing = Drawing(5.6, 3.9)
    lowest = min(
        float(curve.loc[curve["num"] >= _some(curve), "accuracy"].min())
        for curve in curves.values()
    )
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        for index, (name, curve) in enumerate(curves.items()):
            shown = curve[
                curve["num"] >= _some(curve)
            ]  # of the first few images a share says nothing
            shape = {
                "marker": "os^DvPX*"[index % 8],
                "markersize": 4.5,
                "markevery": max(1, len(shown) // 8),
            }
            axes.plot(
                shown["coverage"],
                shown["accuracy"],
                color=style.colour(index),
                label=style.label(name),
                **shape,
            )
        if wished is not None:
            axes.axhline(
                wished,
                color=style.MUTED,
                linewidth=1,
                linestyle=(0, (4, 3)),
                label=f"wished: {100 * wished:g} %",
            )
        axes.set(
            xlim=(0, 1),
            xlabel="share of images answered, the surest first",
            ylabel="share of answers that are right",
        )
        axes.set_ylim(min(lowest, wished or 1.0) - 0.02, 1.005)
        for axis in (axes.xaxis, axes.yaxis):
            style.show_percent(axis)
        axes.grid(axis="y")
        drawing.legend(loc="outside lower center", ncols=min(3, len(curves) + (wished is not None)))
        style.set_title(drawing, title or "Answering only when sure")
    drawing.alt = "Accuracy when only the surest images are answered: " + "; ".join(
        f"{name} {_at(curve, 0.5)} of the surest half, {_at(curve, 1.0)} of all"
        for name, curve in curves.items()
    )
    return drawing


def _some(curve: pd.DataFrame) -> int:
    return max(1, min(20, int(curve["num"].iloc[-1]) // 20))


def _at(curve: pd.DataFrame, coverage: float) -> str:
    row = curve[curve["coverage"] <= coverage].tail(1)
    row = curve.head(1) if row.empty else row
    return f"{100 * float(row['accuracy'].iloc[0]):.1f} %"
