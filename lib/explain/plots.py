"""Heat-maps over images: the image in grey, evidence in colour, measures below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from lib.explain.heatmap import mean_map, scaled
from lib.reporting import style
from lib.reporting.style import Drawing

COLOURS = "inferno"
"""Perceptually uniform, readable by the colour-blind, and monotonic in print."""


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns uint8 (height, width, 3): the heat in colour over the grey image.

    More evidence is more opaque.
    """
    grey = np.repeat(image.astype(np.float64) @ [0.299, 0.587, 0.114] / 255, 3).reshape(image.shape)
    shares = scaled(heat)
    colours = matplotlib.colormaps[COLOURS](0.25 + 0.75 * shares)[
        ..., :3
    ]  # its black would hide the picture
    opacity = (0.85 * np.sqrt(shares))[..., None]
    return np.round(255 * ((1 - opacity) * (0.35 + 0.65 * grey) + opacity * colours)).astype(
        np.uint8
    )


def side_by_side(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    rows: pd.DataFrame,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
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
    with matplotlib.rc_context(style.settings()):
        grid = drawing.subplots(num, columns, squeeze=False)
        for place in range(num):
            row = rows.iloc[place]
            _show(grid[place, 0], images[place], right=bool(row["correct"]))
            grid[place, 0].set_xlabel(_caption(row), fontsize=7.5 * larger, color=style.INK)
            for column, (name, heats) in enumerate(maps.items(), start=1):
                _show(grid[place, column], overlay(images[place], heats[place]))
                if place == 0:
                    heading = {
                        "fontsize": 8.5 * larger,
                        "fontweight": "bold",
                        "loc": "center",
                        "pad": 5,
                    }
                    grid[place, column].set_title(name.replace(" ", "\n"), **heading)
                if notes and name in notes:
                    grid[place, column].set_xlabel(
                        notes[name][place], fontsize=7 * larger, color=style.MUTED
                    )
        _scale(drawing, grid)
        style.set_title(drawing, title)
    right = int(rows["correct"].sum())
    drawing.alt = (
        f"{title or 'Heat-maps'}: {num} images, {right} predicted correctly, each with evidence "
        "for "
        f"the predicted class by {', '.join(maps)}."
    )
    return drawing


def averages(
    maps: Mapping[str, np.ndarray],
    *,
    title: str = "Mean maps",
    most: int = 24,
) -> Drawing:
    """Draws the mean map of each group, at most `most` groups; each image counts the same."""
    shown = dict(list(maps.items())[:most])
    columns = min(6, max(1, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    drawing = Drawing(max(4.4, 1.6 * columns + 0.5), 2.15 * lines + 0.9)
    with matplotlib.rc_context(style.settings()):
        grid = drawing.subplots(lines, columns, squeeze=False)
        for axes in grid.ravel()[len(shown) :]:
            axes.set_axis_off()
        if not shown:
            grid[0, 0].text(0, 0.5, "No images.", color=style.MUTED)
        for axes, (name, heats) in zip(grid.ravel(), shown.items(), strict=False):
            axes.imshow(mean_map(heats), cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
            _frame(axes)
            images = f"{len(heats)} image{'' if len(heats) == 1 else 's'}"
            axes.set_title(
                f"{style.label(name, most=20)}\n{images}",
                fontsize=8,
                fontweight="normal",
                loc="center",
            )
        _scale(drawing, grid)
        style.set_title(drawing, title)
    peaks = [f"{name}: {_place(mean_map(heats))}" for name, heats in list(shown.items())[:8]]
    where = "; ".join(peaks)
    drawing.alt = f"{title}. " + (f"Highest mean evidence: {where}." if peaks else "No images.")
    return drawing


def faithfulness(
    table: pd.DataFrame, titles: Mapping[str, str], *, measure: str = "insertion"
) -> Drawing:
    """Draws each method's gain over random maps by one measure, with its 95 % interval."""
    shown = table.dropna(subset=[f"{measure}_gain"]).sort_values(f"{measure}_gain")
    drawing = Drawing(6.4, 0.34 * len(shown) + 1.4)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        places = np.arange(len(shown))
        gains, low, high = (
            shown[f"{measure}_{part}"].to_numpy() for part in ("gain", "low", "high")
        )
        colours = [style.RIGHT if end > 0 else style.MUTED for end in low]
        axes.hlines(places, low, high, color=colours, linewidth=2)
        axes.scatter(gains, places, color=colours, s=28, zorder=3)
        axes.axvline(0, color=style.INK, linewidth=0.9)
        axes.set_yticks(places, [titles.get(name, name) for name in shown.index])
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(-0.6, len(shown) - 0.4), xlabel="gain over a random map, 95 % interval")
        axes.grid(axis="x")
        style.set_title(
            drawing,
            f"{measure.replace('mu_', 'µ-').capitalize()}: gain over random maps",
        )
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
    label, predicted = (
        style.label(str(row["label"]), most=22),
        style.label(str(row["predicted"]), most=22),
    )
    if row["correct"]:
        return f"✓ {label}\n{100 * row['confidence']:.0f} %"
    return f"✗ {label}\n→ {predicted}\n{100 * row['confidence']:.0f} %"


def _scale(drawing: Drawing, axes: np.ndarray) -> None:
    bar = drawing.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS),
        ax=list(axes.ravel()),
        location="bottom",
        fraction=0.04,
        pad=0.03,
        aspect=60,
        shrink=0.6,
    )
    bar.set_ticks([0, 1], labels=["none", "most evidence"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)


def _place(heat: np.ndarray) -> str:
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    side = len(heat) - 1
    down = ("top", "middle", "bottom")[min(2, int(3 * row / max(1, side)))]
    across = ("left", "centre", "right")[min(2, int(3 * column / max(1, side)))]
    return f"{down} {across}"
