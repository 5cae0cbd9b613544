"""The figures of one run: each a `style.Drawing` with its alt text, neither shown nor saved here."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from lib.evaluation import confusion as matrices
from lib.reporting import formatting, style
from lib.reporting.style import Drawing

_TINTS = {
    colour: LinearSegmentedColormap.from_list(colour, [style.PAPER, colour])
    for colour in (style.RIGHT, style.WRONG)
}


def confusion_matrix(
    counts: np.ndarray, class_names: Sequence[str], *, title: str = "Confusion matrix"
) -> Drawing:
    """Rows truth, columns prediction; a cell's tint is its share of the row, blue where right and
    orange where wrong.

    `counts` is (classes, classes). Up to 12 classes a cell holds count and share, up to 30 the
    count, beyond that the tint alone and the counts of the larger confusions.
    """
    counts = np.asarray(counts)
    num, shares = len(counts), np.nan_to_num(matrices.shares(counts))
    longest = max(len(style.label(name)) for name in class_names)
    side = (
        0.24
        if num > 30
        else 0.42
        if num > 12
        else 0.72
        if num > 4
        else float(np.clip(0.09 * longest, 0.8, 1.4))
    )
    steep = 0.085 * longest > side
    drawing = Drawing(
        max(3.4, num * side + 0.085 * longest + 0.9),
        max(2.6, num * side + 0.06 * longest * steep + 1.0),
    )
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        axes.imshow(_tinted(shares), aspect="equal", interpolation="nearest")
        _write_cells(axes, counts, shares, num)
        _name_both_axes(axes, class_names, steep)
        style.set_title(drawing, title)
    drawing.alt = _told_confusion(counts, class_names, title)
    return drawing


def per_class(table: pd.DataFrame, *, title: str = "F1 of each class") -> Drawing:
    """One bar a class (F1), with precision and recall as marks; `table` is `metrics.per_class`,
    sorted here by F1.
    """
    table = table.dropna(subset="f1").sort_values("f1")
    drawing = Drawing(6.8, max(2.2, 0.3 * len(table) + 1.3))
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        places = np.arange(len(table))
        axes.barh(places, table["f1"], height=0.62, color=style.RIGHT, alpha=0.28, label="F1")
        marks = {"precision": ("D", style.COLOURS[1]), "recall": ("o", style.COLOURS[0])}
        for name, (marker, colour) in marks.items():
            axes.plot(
                table[name],
                places,
                marker,
                color=colour,
                markersize=5.5,
                label=name,
                linestyle="none",
            )
        names = [
            f"{style.label(name)}  ({num:,})"
            for name, num in zip(table.index, table["support"], strict=True)
        ]
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        style.show_percent(axes.xaxis)
        axes.set(xlim=(0, 1.01), ylim=(-0.6, len(table) - 0.4))
        axes.grid(axis="x")
        style.set_title(drawing, title)
        drawing.legend(loc="outside lower center", ncols=3)
    worst, best = table.iloc[0], table.iloc[-1]
    drawing.alt = (
        f"{title}: from {formatting.percent(worst['f1'])} ({worst.name}) to "
        f"{formatting.percent(best['f1'])} ({best.name}) "
        f"over {len(table)} classes; in brackets the number of images."
    )
    return drawing


def class_distribution(numbers: pd.DataFrame, *, title: str = "Images of each class") -> Drawing:
    """Stacked bars of how many images each class has; `numbers` has one row a class and one column
    a split (or one column).
    """
    numbers = numbers.loc[numbers.sum(axis=1).sort_values(kind="stable").index]
    totals = numbers.sum(axis=1)
    drawing = Drawing(6.8, max(2.0, 0.3 * len(numbers) + 1.3))
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        places, left = np.arange(len(numbers)), np.zeros(len(numbers))
        for index, column in enumerate(numbers.columns):
            colour = style.SPLIT_COLOURS.get(str(column), style.colour(index))
            axes.barh(
                places,
                numbers[column],
                left=left,
                height=0.66,
                color=colour,
                label=style.label(column),
                alpha=0.9,
            )
            left += numbers[column].to_numpy()
        for place, total in zip(places, totals, strict=True):
            axes.annotate(
                f"{total:,}",
                (total, place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        axes.set_yticks(places, [style.label(name) for name in numbers.index])
        axes.tick_params(axis="y", length=0)
        axes.set(
            xlim=(0, max(1, totals.max()) * 1.1), ylim=(-0.6, len(numbers) - 0.4), xlabel="images"
        )
        axes.grid(axis="x")
        style.set_title(drawing, title)
        if len(numbers.columns) > 1:
            drawing.legend(loc="outside lower center", ncols=len(numbers.columns))
    drawing.alt = (
        f"{title}: {int(totals.sum()):,} images in {len(numbers)} classes, from "
        f"{int(totals.iloc[0]):,} ({numbers.index[0]}) "
        f"to {int(totals.iloc[-1]):,} ({numbers.index[-1]}), "
        f"{totals.iloc[-1] / max(1, totals.iloc[0]):.1f} times as many."
    )
    return drawing


def pictures(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    right: Sequence[bool] | None = None,
    title: str = "",
    num_columns: int = 6,
) -> Drawing:
    """A grid of uint8 images (height, width, 3) or (height, width), each with a caption of one or
    two lines.

    Where `right` is given, right and wrong ones are told apart by frame and by a mark, not by
    colour alone.
    """
    num_columns = max(1, min(num_columns, len(images)))
    num_rows = -(-len(images) // num_columns)
    drawing = Drawing(1.55 * num_columns + 0.2, 1.95 * num_rows + (0.45 if title else 0.1))
    with matplotlib.rc_context(style.settings()):
        grid = np.atleast_1d(drawing.subplots(num_rows, num_columns, squeeze=False)).ravel()
        for place, axes in enumerate(grid):
            axes.set_axis_off() if place >= len(images) else _picture(
                axes, images[place], captions[place], None if right is None else bool(right[place])
            )
        style.set_title(drawing, title)
    told = "; ".join(caption.replace("\n", ", ") for caption in list(captions)[:6])
    verdict = "" if right is None else f" {sum(map(bool, right))} of {len(images)} are right."
    drawing.alt = f"{title or 'Pictures'}: {len(images)} images.{verdict} The first: {told}."
    return drawing


def said(words: str) -> Drawing:
    """A sentence in a figure's place, where there is nothing to draw."""
    drawing = Drawing(6.8, 0.7, alt=words)
    with matplotlib.rc_context(style.settings()):
        drawing.text(0.012, 0.5, words, ha="left", va="center", color=style.MUTED)
    return drawing


def _tinted(shares: np.ndarray) -> np.ndarray:
    wrong = _TINTS[style.WRONG](np.sqrt(shares) * 0.92)[
        ..., :3
    ]  # the root lets rare confusions be seen
    right = _TINTS[style.RIGHT](0.12 + 0.8 * shares)[..., :3]
    return np.where(np.eye(len(shares), dtype=bool)[..., None], right, wrong)


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, num: int) -> None:
    tints = _tinted(shares)
    size = 10 if num <= 12 else 7.5 if num <= 30 else 5
    for row, column in np.argwhere(counts > 0):
        share = shares[row, column]
        if num > 30 and share < 0.1:
            continue
        dark = float(np.dot(tints[row, column], [0.299, 0.587, 0.114])) < 0.58
        colour = style.PAPER if dark else style.INK
        if num <= 12:
            axes.text(
                column,
                row - 0.1,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                color=colour,
                fontsize=size,
            )
            axes.text(
                column,
                row + 0.22,
                _whole_percent(share),
                ha="center",
                va="center",
                color=colour,
                fontsize=7.5,
            )
        else:
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                color=colour,
                fontsize=size,
            )


def _name_both_axes(axes: Axes, class_names: Sequence[str], steep: bool) -> None:
    labels, num = [style.label(name) for name in class_names], len(class_names)
    size = 9 if num <= 30 else 7
    axes.set_xticks(
        range(num),
        labels,
        rotation=45 if steep and num <= 30 else 90 if steep else 0,
        ha="right" if steep and num <= 30 else "center",
        rotation_mode="anchor" if num <= 30 else "default",
        fontsize=size,
    )
    axes.set_yticks(range(num), labels, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(num + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num + 1) - 0.5, minor=True)
    axes.grid(
        which="minor",
        color=style.PAPER if num <= 30 else style.FAINT,
        linewidth=1.5 if num <= 30 else 0.4,
    )
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _told_confusion(counts: np.ndarray, class_names: Sequence[str], title: str) -> str:
    total = int(counts.sum())
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    told = f"{title}: {int(np.trace(counts)):,} of {total:,} images right ({formatting.percent(matrices.accuracy(counts))})"
    if not wrong.any():
        return told + "; no confusion."
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return told + (
        f"; the largest confusion: {int(wrong[row, column]):,} of {int(counts[row].sum()):,} "
        "images of "
        f"{class_names[row]} were taken for {class_names[column]}."
    )


def _picture(axes: Axes, image: np.ndarray, caption: str, right: bool | None) -> None:
    axes.imshow(image, cmap="gray" if np.ndim(image) == 2 else None, vmin=0, vmax=255)
    height, width = np.shape(image)[:2]
    side = max(height, width) / 2
    axes.set(
        xticks=[], yticks=[], facecolor=style.FAINT
    )  # every picture whole, in a square of the same size
    axes.set(
        xlim=(width / 2 - side - 0.5, width / 2 + side - 0.5),
        ylim=(height / 2 + side - 0.5, height / 2 - side - 0.5),
    )
    colour = "#A7B0B8" if right is None else style.RIGHT if right else style.WRONG
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1 if right is None else 2.2)
    mark = "" if right is None else "✓ " if right else "✗ "
    lines = [style.label(line, most=24) for line in caption.split("\n")]
    axes.set_title(
        mark + "\n".join(lines), fontsize=7.5, fontweight="normal", pad=4, color=style.INK
    )


def _whole_percent(share: float) -> str:
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"
