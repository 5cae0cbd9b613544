"""The standing of arms: every seed, the mean and its interval, beside the figures of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from lib.evaluation.statistics import Estimate
from lib.reporting import style
from lib.reporting.style import Drawing


def arms(
    estimates: Mapping[str, Estimate],
    values: Mapping[str, Sequence[float]],
    *,
    published: Mapping[str, float] | None = None,
    title: str = "",
) -> Drawing:
    """One row an arm: every seed a circle, the mean a diamond, its 95 % interval a bar; best on
    top.

    `values` holds each arm's seeds. `published` are figures of others: own rows that say so, with a
    dashed line to compare with.
    """
    published = dict(published or {})
    names = sorted(estimates, key=lambda name: estimates[name].value)
    metric = next(iter(estimates.values())).name
    labels = [
        *(f"published: {style.label(name, most=36)}" for name in published),
        *map(style.label, names),
    ]
    drawing = Drawing(7.6, 0.56 * len(names) + 0.34 * len(published) + 1.3)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        places = [
            *(0.6 * np.arange(len(published))),
            *(0.6 * len(published) + 0.2 + np.arange(len(names))),
        ]
        for place, value in zip(places, published.values(), strict=False):
            _published(axes, place, _told(metric, value), value)
        for place, name in zip(places[len(published) :], names, strict=True):
            _arm(axes, place, estimates[name], values[name])
        axes.set_yticks(places, labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.5, places[-1] + 0.7)
        axes.margins(x=0.08)
        if metric in style.SHARES:
            style.show_percent(axes.xaxis)
        axes.grid(axis="x")
        axes.set_xlabel(f"{metric.replace('_', ' ')} on test (circle: a seed; bar: 95 % interval)")
        style.set_title(drawing, title or f"Arms by {metric.replace('_', ' ')}")
    told = "; ".join(
        f"{name} {_told(metric, estimates[name].value)} ({_told(metric, estimates[name].low)} to "
        f"{_told(metric, estimates[name].high)}, {estimates[name].num_seeds} seeds)"
        for name in reversed(names)
    )
    others = "".join(
        f" Published by others: {name} {_told(metric, value)}." for name, value in published.items()
    )
    drawing.alt = f"{metric.replace('_', ' ')} of the arms with 95 % intervals: {told}.{others}"
    return drawing


def _arm(axes: Axes, place: int, estimate: Estimate, seeds: Sequence[float]) -> None:
    colour = style.RIGHT
    axes.plot(
        [estimate.low, estimate.high],
        [place, place],
        color=colour,
        alpha=0.3,
        linewidth=9,
        solid_capstyle="butt",
    )
    lanes = np.arange(
        len(seeds)
    )  # below and above in turn, and ever farther: none lies behind the diamond
    offsets = np.where(lanes % 2, 1, -1) * (0.15 + 0.1 * (lanes // 2) / max(1, len(seeds) // 2))
    axes.plot(
        seeds,
        place + offsets,
        "o",
        color=style.INK,
        markersize=4.5,
        markerfacecolor="none",
        alpha=0.8,
    )
    axes.plot(
        [estimate.value], [place], "D", color=colour, markersize=7, markeredgecolor=style.PAPER
    )
    axes.annotate(
        _told(estimate.name, estimate.value),
        (estimate.value, place),
        (0, 11),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9,
        fontweight="bold",
        color=colour,
    )


def _published(axes: Axes, place: float, told: str, value: float) -> None:
    axes.axvline(value, color=style.WRONG, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.plot([value], [place], "D", color=style.WRONG, markersize=6.5, markerfacecolor=style.PAPER)
    axes.annotate(
        told,
        (value, place),
        (9, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=style.WRONG,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1},
    )


def _told(metric: str, value: float) -> str:
    return f"{100 * value:.1f} %" if metric in style.SHARES else f"{value:.3f}"
