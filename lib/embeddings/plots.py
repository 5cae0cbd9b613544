"""Figures of a feature space: its maps side by side, how faithful they are, and what it separates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.embeddings import label_columns
from lib.embeddings.methods import METHODS
from lib.embeddings.palette import PALETTE, REST
from lib.embeddings.quality import MEASURES, Quality
from lib.embeddings.record import TITLES
from lib.reporting import style
from lib.reporting.style import Drawing

_MARKS = "osD^vP"


def maps(
    places: Mapping[str, np.ndarray], table: pd.DataFrame, *, column: str, title: str = ""
) -> Drawing:
    """One panel a method, points coloured by the classes of a column; `places` is method to (n, 2)."""
    labels = (
        label_columns.classes(table[column])
        if column in label_columns.names(table)
        else table[column].astype("string")
    )
    shown = list(labels.value_counts().index[: len(PALETTE)])
    across = 2 if len(places) == 4 else min(len(places), 3)  # four stand two by two
    down = -(-len(places) // across)
    drawing = Drawing(3.3 * across, 3.2 * down + 0.9)
    with matplotlib.rc_context(style.settings()):
        panels = drawing.subplots(down, across, squeeze=False).ravel()
        for axes, (method, found) in zip(panels, places.items(), strict=False):
            _scatter(axes, found, labels, shown)
            axes.set_title(
                METHODS[method].title if method in METHODS else method, loc="left", fontsize=10
            )
        for axes in panels[len(places) :]:
            axes.set_axis_off()
        handles, names = panels[0].get_legend_handles_labels()
        legend = drawing.legend(
            handles, names, loc="outside lower center", ncols=min(len(names), 5), handletextpad=0.2
        )
        for handle in legend.legend_handles:  # copies: the points themselves keep their size
            handle.set_sizes([28])
            handle.set_alpha(1)
        style.set_title(drawing, title or f"Coloured by {label_columns.title(column)}")
    grey = " and others in grey" if labels.nunique() > len(shown) else ""
    drawing.alt = (
        f"{title or 'Maps'}: {len(table):,} images as points on {len(places)} maps "
        f"({', '.join(places)}), coloured by "
        f"{label_columns.title(column)}: {', '.join(map(str, shown))}{grey}."
    )
    return drawing


def faithfulness(
    qualities: Mapping[str, Quality], *, title: str = "How faithful the maps are"
) -> Drawing:
    """One row a method, one panel a measure; the mark is the mean over images, 1 is a perfect map."""
    drawing = Drawing(8.6, 0.42 * len(qualities) + 1.5)
    names, places = [METHODS[name].title for name in qualities], np.arange(len(qualities))[::-1]
    with matplotlib.rc_context(style.settings()):
        for axes, measure in zip(
            drawing.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True
        ):
            means = [each.means()[measure] for each in qualities.values()]
            axes.hlines(places, 0, means, color=style.FAINT, linewidth=3)
            axes.plot(means, places, "o", color=style.RIGHT, markersize=8)
            for place, mean in zip(places, means, strict=True):
                axes.annotate(
                    f"{mean:.2f}",
                    (mean, place),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
            axes.set(xlim=(0, 1.08), ylim=(-0.6, len(places) - 0.3), yticks=places)
            axes.set_yticklabels(names)
            axes.set_title(measure, loc="left", fontsize=10)
            axes.tick_params(axis="y", length=0)
        style.set_title(drawing, title)
    told = "; ".join(
        f"{METHODS[name].title} "
        f"{', '.join(f'{measure} {value:.2f}' for measure, value in each.means().items())}"
        for name, each in qualities.items()
    )
    drawing.alt = f"{title}: {told}."
    return drawing


def separated(asked: pd.DataFrame, *, title: str = "What the space separates") -> Drawing:
    """One row a column: the probe's accuracy with its interval, the majority, shuffled labels, the
    network before.
    """
    drawing = Drawing(7.4, 0.5 * len(asked) + 1.7)
    places = np.arange(len(asked))[::-1]
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        reach = [asked["accuracy"] - asked["low"], asked["high"] - asked["accuracy"]]
        axes.errorbar(
            asked["accuracy"],
            places,
            xerr=np.maximum(reach, 0),
            fmt="o",
            color=style.RIGHT,
            markersize=8,
            capsize=3,
            label="linear probe, 95 %",
        )
        bar = {"markersize": 14, "markeredgewidth": 2, "color": style.INK}
        axes.plot(asked["majority"], places, "|", label="the most frequent class", **bar)
        axes.plot(
            asked["shuffled"], places, "x", color=style.MUTED, markersize=7, label="shuffled labels"
        )
        if "before" in asked and asked["before"].notna().any():
            name = str(asked["before_name"].dropna().iloc[0])
            name = TITLES.get(name, name)
            axes.plot(
                asked["before"],
                places,
                "D",
                color=style.WRONG,
                markersize=6,
                label=f"{name} network",
            )
        axes.set_yticks(places, [_asked(row) for row in asked.to_dict("records")])
        axes.set(
            xlim=(0, 1.02), ylim=(-0.6, len(places) - 0.4), xlabel="accuracy on held-out images"
        )
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        style.show_percent(axes.xaxis)
        drawing.legend(loc="outside lower center", ncols=4)
        style.set_title(drawing, title)
    told = "; ".join(
        f"{label_columns.title(row['column'])} {100 * row['accuracy']:.1f} % (majority "
        f"{100 * row['majority']:.1f} %)"
        for row in asked.to_dict("records")
    )
    drawing.alt = f"{title}, accuracy of a linear probe on held-out images: {told}."
    return drawing


def _asked(row: Mapping[str, object]) -> str:
    mark = " ← trained on" if row["trained_on"] else ""
    return f"{style.label(label_columns.title(str(row['column'])))} ({row['num_classes']}){mark}"


def _scatter(axes: Axes, places: np.ndarray, labels: pd.Series, shown: Sequence[str]) -> None:
    size = float(np.clip(6_000 / len(places), 1.5, 16))
    rest = ~labels.isin(shown).fillna(False).to_numpy(bool)
    if rest.any():
        axes.scatter(
            *places[rest].T, s=size * 0.7, color=REST, linewidths=0, label="others", rasterized=True
        )
    for index, name in enumerate(shown):
        mine = (labels == name).fillna(False).to_numpy(bool)
        axes.scatter(
            *places[mine].T,
            s=size,
            color=PALETTE[index],
            marker=_MARKS[index % len(_MARKS)],
            alpha=0.8,
            linewidths=0,
            label=style.label(name),
            rasterized=True,
        )
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_facecolor("#F7F9FA")
