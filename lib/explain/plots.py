"""Heat-maps over images: the image in grey, evidence in colour, measures below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from lib.explain.heat_maps import mean_map, scaled
from lib.reporting import style
from lib.reporting.style import Drawing

COLOURS = "inferno"
"""Perceptually uniform, readable by the colour-blind, and monotonic in print."""
_MOST = 24


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns uint8 (height, width, 3): the heat in colour over the grey image.

    More evidence is more opaque.
    """
    grey = np.repeat(image.astype(np.float64) @ [0.299, 0.587, 0.114] / 255, 3).reshape(image.shape)
    shares = scaled(heat)
    # Without the colour map's black, which would hide the picture.
    colours = matplotlib.colormaps[COLOURS](0.25 + 0.75 * shares)[..., :3]
    opacity = (0.85 * np.sqrt(shares))[..., None]
    drawn = (1 - opacity) * (0.35 + 0.65 * grey) + opacity * colours
    return np.round(255 * drawn).astype(np.uint8)


@style.in_style
def side_by_side(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    rows: pd.DataFrame,
    *,
    notes: Mapping[str, Sequence[str]],
    title: str,
) -> Drawing:
    """Draws one row an image and one column a method, the image itself first.

    Args:
        images: uint8 (n, height, width, 3).
        maps: from a method's title to its maps (n, height, width).
        rows: a table with `label`, `predicted`, `confidence` and `correct`.
        notes: a line for each map, written below it.
        title: of the figure.
    """
    num, columns = len(images), 1 + len(maps)
    larger = 1.35 if columns > 6 else 1.0  # so wide a figure is shown smaller
    drawing = Drawing(1.5 * columns + 0.4, (1.95 + 0.35 * (larger > 1)) * num + 1.0)
    grid = drawing.subplots(num, columns, squeeze=False)
    for place in range(num):
        row = rows.iloc[place]
        _show(grid[place, 0], images[place], right=bool(row["correct"]))
        grid[place, 0].set_xlabel(_caption(row), fontsize=7.5 * larger, color=style.INK)
        for column, (name, heats) in enumerate(maps.items(), start=1):
            _show(grid[place, column], overlay(images[place], heats[place]))
            if place == 0:
                heading = {"fontsize": 8.5 * larger, "fontweight": "bold", "pad": 5}
                grid[place, column].set_title(name.replace(" ", "\n"), loc="center", **heading)
            small = {"fontsize": 7 * larger, "color": style.MUTED}
            grid[place, column].set_xlabel(notes[name][place], **small)
    _scale(drawing, grid)
    style.set_title(drawing, title)
    right = int(rows["correct"].sum())
    drawing.alt = (
        f"{title}: {num} images, {right} predicted correctly, each with evidence for the predicted "
        f"class by {', '.join(maps)}."
    )
    return drawing


@style.in_style
def averages(maps: Mapping[str, np.ndarray], *, title: str) -> Drawing:
    """Draws the mean map of each group, at most 24 groups; each image counts the same."""
    shown = dict(list(maps.items())[:_MOST])
    columns = min(6, max(1, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    drawing = Drawing(max(4.4, 1.6 * columns + 0.5), 2.15 * lines + 0.9)
    grid = drawing.subplots(lines, columns, squeeze=False)
    for axes in grid.ravel()[len(shown) :]:
        axes.set_axis_off()
    if not shown:
        grid[0, 0].text(0, 0.5, "No images.", color=style.MUTED)
    for axes, (name, heats) in zip(grid.ravel(), shown.items(), strict=False):
        axes.imshow(mean_map(heats), cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
        _frame(axes)
        images = f"{len(heats)} image{'' if len(heats) == 1 else 's'}"
        look = {"fontsize": 8, "fontweight": "normal", "loc": "center"}
        axes.set_title(f"{style.label(name, most=20)}\n{images}", **look)
    _scale(drawing, grid)
    style.set_title(drawing, title)
    peaks = "; ".join(f"{name}: {_place(mean_map(heats))}" for name, heats in shown.items())
    drawing.alt = f"{title}. " + (f"Highest mean evidence: {peaks}." if peaks else "No images.")
    return drawing


@style.in_style
def faithfulness(
    table: pd.DataFrame, titles: Mapping[str, str], *, measure: str = "insertion"
) -> Drawing:
    """Draws each method's gain over random maps by one measure, with its 95 % interval."""
    shown = table.dropna(subset=[f"{measure}_gain"]).sort_values(f"{measure}_gain")
    drawing = Drawing(6.4, 0.34 * len(shown) + 1.4)
    axes = drawing.subplots()
    places = np.arange(len(shown))
    gains, low, high = (shown[f"{measure}_{part}"].to_numpy() for part in ("gain", "low", "high"))
    colours = [style.RIGHT if end > 0 else style.MUTED for end in low]
    axes.hlines(places, low, high, color=colours, linewidth=2)
    axes.scatter(gains, places, color=colours, s=28, zorder=3)
    axes.axvline(0, color=style.INK, linewidth=0.9)
    axes.set_yticks(places, [titles.get(name, name) for name in shown.index])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(-0.6, len(shown) - 0.4), xlabel="gain over a random map, 95 % interval")
    axes.grid(axis="x")
    name = measure.replace("mu_", "µ-").capitalize()
    style.set_title(drawing, f"{name}: gain over random maps")
    gains = [
        f"{titles.get(name, name)} {row[f'{measure}_gain']:+.3f}"
        for name, row in shown[::-1].iterrows()
    ]
    drawing.alt = f"Gain over random maps by {measure}: {', '.join(gains)}."
    return drawing


def _show(axes: Axes, image: np.ndarray, *, right: bool | None = None) -> None:
    axes.imshow(image, interpolation="nearest")
    _frame(axes, None if right is None else style.RIGHT if right else style.WRONG)


def _frame(axes: Axes, colour: str | None = None) -> None:
    axes.set(xticks=[], yticks=[], anchor="N")
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour or "#A7B0B8", linewidth=2.2 if colour else 0.8)


def _caption(row: pd.Series) -> str:
    label, predicted = (style.label(str(row[name]), most=22) for name in ("label", "predicted"))
    if row["correct"]:
        return f"✓ {label}\n{100 * row['confidence']:.0f} %"
    return f"✗ {label}\n→ {predicted}\n{100 * row['confidence']:.0f} %"


def _scale(drawing: Drawing, axes: np.ndarray) -> None:
    shape = {"fraction": 0.04, "pad": 0.03, "aspect": 60, "shrink": 0.6}
    scale = ScalarMappable(Normalize(0, 1), COLOURS)
    bar = drawing.colorbar(scale, ax=list(axes.ravel()), location="bottom", **shape)
    bar.set_ticks([0, 1], labels=["none", "most evidence"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)


def _place(heat: np.ndarray) -> str:
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    down = ("top", "middle", "bottom")[3 * row // heat.shape[0]]
    return f"{down} {('left', 'centre', 'right')[3 * column // heat.shape[1]]}"
