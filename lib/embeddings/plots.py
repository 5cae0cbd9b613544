"""Figures of a feature space: maps, their faithfulness, probes; and the projector of
TensorBoard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from lib.data.dataset import Dataset
from lib.embeddings import label_columns, reduction
from lib.embeddings.map_record import TITLES
from lib.embeddings.reduction import MEASURES, Quality
from lib.reporting import style, tensorboard
from lib.reporting.style import Drawing
from lib.runs import Run

if TYPE_CHECKING:
    from lib.embeddings.feature_spaces import (  # loads Keras, which the site does not need
        Origin,
        Space,
    )
    from lib.embeddings.reduction import Reduction

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#56B4E9",
    "#E69F00",
    "#CC79A7",
    "#5F4B8B",
    "#8C564B",
    "#7A8B00",
    "#B5172F",
)
"""One colour for each of the most frequent classes, safe for the colour-blind.

After Okabe and Ito, Color Universal Design (2008), and three more; their pink comes late, because
without red or green receptors it looks like their green.
"""

REST = "#C3CAD1"
"""All other classes."""

SEQUENCE = tuple(map(to_hex, matplotlib.colormaps["viridis"](np.linspace(0, 1, 11))))
"""For numbers, dark to light: viridis."""


_MARKS = "osD^vP"


@style.in_style
def maps(
    places: Mapping[str, np.ndarray], table: pd.DataFrame, *, column: str, title: str = ""
) -> Drawing:
    """Draws one panel a method, points coloured by the classes of a column.

    `places` maps a method to positions (n, 2).
    """
    is_label = column in label_columns.names(table)
    labels = label_columns.classes(table[column]) if is_label else table[column].astype("string")
    classes_shown = list(labels.value_counts().index[: len(PALETTE)])
    across = 2 if len(places) == 4 else min(len(places), 3)  # four stand two by two
    down = -(-len(places) // across)
    drawing = Drawing(3.3 * across, 3.2 * down + 0.9)
    panels = drawing.subplots(down, across, squeeze=False).ravel()
    for axes, (method, places_) in zip(panels, places.items(), strict=False):
        _scatter(axes, places_, labels, classes_shown)
        known = reduction.METHODS.get(method)
        axes.set_title(known.title if known else method, loc="left", fontsize=10)
    for axes in panels[len(places) :]:
        axes.set_axis_off()
    handles, names = panels[0].get_legend_handles_labels()
    entry_width = 0.06 * max(map(len, names)) + 0.45  # inches
    columns = int(np.clip(3.3 * across // entry_width, 1, 5))
    below = {"loc": "outside lower center", "ncols": columns, "handletextpad": 0.2}
    legend = drawing.legend(handles, names, **below)
    for handle in legend.legend_handles:  # copies: the points themselves keep their size
        handle.set_sizes([28])
        handle.set_alpha(1)
    style.set_title(drawing, title or f"Coloured by {label_columns.title(column)}")
    grey = " and others in grey" if labels.nunique() > len(classes_shown) else ""
    drawing.alt = (
        f"{title or 'Maps'}: {len(table):,} images as points on {len(places)} maps "
        f"({', '.join(places)}), coloured by {label_columns.title(column)}: "
        f"{', '.join(map(str, classes_shown))}{grey}."
    )
    return drawing


@style.in_style
def faithfulness(qualities: Mapping[str, Quality]) -> Drawing:
    """Draws the mean measures of each method; 1 is a perfect map."""
    drawing = Drawing(8.6, 0.42 * len(qualities) + 1.5)
    names = [reduction.METHODS[name].title for name in qualities]
    places = np.arange(len(qualities))[::-1]
    panels = drawing.subplots(1, len(MEASURES), sharey=True)
    for axes, measure in zip(panels, MEASURES, strict=True):
        means = [quality.means()[measure] for quality in qualities.values()]
        axes.hlines(places, 0, means, color=style.FAINT, linewidth=3)
        axes.plot(means, places, "o", color=style.RIGHT, markersize=8)
        above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
        for place, mean in zip(places, means, strict=True):
            axes.annotate(f"{mean:.2f}", (mean, place), fontsize=8, **above)
        axes.set(xlim=(0, 1.08), ylim=(-0.6, len(places) - 0.3))
        axes.set_yticks(places, names)
        axes.set_title(measure, loc="left", fontsize=10)
        axes.tick_params(axis="y", length=0)
    style.set_title(drawing, "How faithful the maps are")
    words = []
    for name, quality in zip(names, qualities.values(), strict=True):
        means = [f"{measure} {value:.2f}" for measure, value in quality.means().items()]
        words.append(f"{name} {', '.join(means)}")
    drawing.alt = f"How faithful the maps are: {'; '.join(words)}."
    return drawing


@style.in_style
def probe_bars(probed: pd.DataFrame) -> Drawing:
    """Draws each probe with its interval, the majority, permuted labels and the network before."""
    drawing = Drawing(7.4, 0.5 * len(probed) + 1.7)
    places = np.arange(len(probed))[::-1]
    accuracy = probed["accuracy"]
    axes = drawing.subplots()
    reach = np.maximum([accuracy - probed["low"], probed["high"] - accuracy], 0)
    point = {"fmt": "o", "color": style.RIGHT, "markersize": 8, "capsize": 3}
    axes.errorbar(accuracy, places, xerr=reach, label="linear probe, 95 %", **point)
    bar = {"markersize": 14, "markeredgewidth": 2, "color": style.INK}
    axes.plot(probed["majority"], places, "|", label="the most frequent class", **bar)
    cross = {"markersize": 7, "color": style.MUTED}
    axes.plot(probed["permuted"], places, "x", label="permuted labels", **cross)
    if "before" in probed and probed["before"].notna().any():
        name = TITLES[probed["before_name"].dropna().iloc[0]]
        diamond = {"markersize": 6, "color": style.WRONG}
        axes.plot(probed["before"], places, "D", label=f"{name} network", **diamond)
    axes.set_yticks(places, [_row_label(row) for row in probed.to_dict("records")])
    axes.set(xlim=(0, 1.02), ylim=(-0.6, len(places) - 0.4))
    axes.set(xlabel="accuracy on held-out images")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    style.show_percent(axes.xaxis)
    drawing.legend(loc="outside lower center", ncols=4)
    style.set_title(drawing, "What the space separates")
    words = "; ".join(
        f"{label_columns.title(row['column'])} {100 * row['accuracy']:.1f} % (majority "
        f"{100 * row['majority']:.1f} %)"
        for row in probed.to_dict("records")
    )
    drawing.alt = (
        f"What the space separates, accuracy of a linear probe on held-out images: {words}."
    )
    return drawing


def _row_label(row: Mapping[str, object]) -> str:
    mark = " ← trained on" if row["trained_on"] else ""
    return f"{style.label(label_columns.title(str(row['column'])))} ({row['num_classes']}){mark}"


def _scatter(
    axes: Axes, places: np.ndarray, labels: pd.Series, classes_shown: Sequence[str]
) -> None:
    size = float(np.clip(6_000 / len(places), 1.5, 16))
    look = {"linewidths": 0, "rasterized": True}
    rest = ~labels.isin(classes_shown).fillna(False).to_numpy(bool)
    if rest.any():
        axes.scatter(*places[rest].T, s=size * 0.7, color=REST, label="others", **look)
    for index, name in enumerate(classes_shown):
        mine = (labels == name).fillna(False).to_numpy(bool)
        look |= {"color": PALETTE[index], "marker": _MARKS[index % len(_MARKS)], "alpha": 0.8}
        axes.scatter(*places[mine].T, s=size, label=style.label(name), **look)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_facecolor("#F7F9FA")


def reduced(space: Space, methods: Sequence[str], *, seed: int, run: Run) -> dict[str, Reduction]:
    """Returns the maps of a space by method; `darkroom status` shows the progress."""
    maps_by_method = {}
    for method in dict.fromkeys(methods):
        run.progress(note=f"{reduction.METHODS[method].title} of the {space.name} space")
        maps_by_method[method] = reduction.reduce(
            space.features, method, seed=seed, folder=space.maps
        )
    return maps_by_method


def side_by_side(maps: Mapping[str, Mapping[str, Reduction]], method: str) -> dict[str, np.ndarray]:
    """Returns one method's map of each space by title, the network before training first."""
    return {
        f"{TITLES[name]}, {reduction.METHODS[method].title}": by_method[method].places
        for name, by_method in reversed(maps.items())
    }


def second_column(origin: Origin) -> str:
    """Returns the second column to colour by: another label, the verdict, or the split."""
    others = [name for name in label_columns.names(origin.table) if name != origin.target]
    return [*others, *(name for name in ("verdict", "split") if name in origin.table)][0]


def project(space: Space, origin: Origin, dataset: Dataset, *, run: Run) -> None:
    """Writes features, labels and images of at most 1,000 images for TensorBoard's projector."""
    table = origin.table
    rows = np.linspace(0, len(table) - 1, min(tensorboard.MOST, len(table))).astype(int)
    others = [name for name in ("split", "predicted", "verdict") if name in table]
    kept = [*label_columns.names(table), *others, "path"]
    columns = {name: table[name].iloc[rows].astype("string").fillna("") for name in kept}
    features = np.asarray(space.features[rows], np.float32)
    tensorboard.write_projector(run.folder, features, columns, np.asarray(origin.images[rows]))


def metrics(probed: pd.DataFrame, qualities: Mapping[str, Quality]) -> dict[str, Any]:
    """Returns the run's numbers by name, such as `probe_attr_artist` and `trustworthiness_umap`."""
    values: dict[str, Any] = {}
    for row in probed.to_dict("records"):
        values[f"probe_{row['column']}"] = row["accuracy"]
        for name in ("low", "high", "majority", "permuted", "p"):
            values[f"probe_{row['column']}_{name}"] = row[name]
    for method, quality in qualities.items():
        values |= {f"{measure}_{method}": value for measure, value in quality.means().items()}
    return {name: round(value, 6) for name, value in values.items()}
