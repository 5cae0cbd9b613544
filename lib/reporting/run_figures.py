"""Figures of runs, as `style.Drawing` with alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from lib.evaluation import metrics
from lib.evaluation.formatting import percent
from lib.reporting import style
from lib.reporting.style import Drawing

MAX_CLASSES = 60
"""Beyond this a confusion matrix shows tints and its largest confusions, and names no class."""
_MAX_BARS = 60
"""Beyond this a figure of classes shows the first and the last ones alone."""


@style.in_style
def confusion_matrix(
    counts: np.ndarray, class_names: Sequence[str], *, title: str = "Confusion matrix"
) -> Drawing:
    """Rows truth, columns prediction; a cell's tint is its share of the row, blue where right and
    orange where wrong.

    `counts` is (classes, classes). Up to 12 classes a cell holds count and share, up to 30 the
    count, up to 60 the tint and the larger counts; beyond that the matrix has a fixed size and the
    largest confusions are listed next to it.
    """
    counts = np.asarray(counts)
    alt = _describe_confusion(counts, class_names, title)
    if len(counts) > MAX_CLASSES:
        return _large_confusion(counts, class_names, Drawing(11.0, 6.4, title=title, alt=alt))
    num, longest = len(counts), max(len(style.label(name)) for name in class_names)
    if num > 12:
        side = 0.42 if num <= 30 else 0.24
    else:
        side = 0.72 if num > 4 else float(np.clip(0.09 * longest, 0.8, 1.4))
    steep = 0.085 * longest > side
    width = max(3.4, num * side + 0.085 * longest + 0.9)
    height = max(2.6, num * side + 0.06 * longest * steep + 1.0)
    drawing = Drawing(width, height, title=title, alt=alt)
    axes, tints = drawing.subplots(), _tints(counts)
    axes.imshow(tints, aspect="equal", interpolation="nearest")
    _write_cells(axes, counts, tints)
    _name_both_axes(axes, class_names, steep)
    return drawing


def _large_confusion(counts: np.ndarray, class_names: Sequence[str], drawing: Drawing) -> Drawing:
    matrix, bars = drawing.subplots(1, 2, width_ratios=[1.15, 1])
    matrix.imshow(_tints(counts), aspect="equal", interpolation="nearest")
    matrix.set(xlabel="predicted class, by number", ylabel="true class, by number")
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    places = np.argsort(-wrong, axis=None, kind="stable")[:20]
    pairs = [np.unravel_index(place, wrong.shape) for place in places if wrong.flat[place]]
    names = [
        " → ".join(style.label(class_names[place], most=22) for place in pair) for pair in pairs
    ]
    values = [int(wrong[pair]) for pair in pairs]
    bars.barh(range(len(pairs)), values, height=0.66, color=style.WRONG, alpha=0.75)
    style.name_bars(bars, names, fontsize=8)
    bars.invert_yaxis()
    bars.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    bars.set(title="Largest confusions", xlabel="images, truth → prediction")
    return drawing


@style.in_style
def per_class(table: pd.DataFrame, *, title: str = "F1 of each class") -> Drawing:
    """One bar a class (F1), with precision and recall as marks; `table` is `metrics.per_class`,
    sorted here by F1. Of more than 60 classes the best and the worst are drawn.
    """
    whole = table.dropna(subset="f1").sort_values("f1")
    table, heading = _ends_of(whole, title)
    drawing = Drawing(6.8, max(2.2, 0.3 * len(table) + 1.3), title=heading)
    axes, places = drawing.subplots(), np.arange(len(table))
    axes.barh(places, table["f1"], height=0.62, color=style.RIGHT, alpha=0.28, label="F1")
    for name, marker, colour in (("precision", "D", 1), ("recall", "o", 0)):
        mark = {"color": style.colour(colour), "markersize": 5.5, "linestyle": "none"}
        axes.plot(table[name], places, marker, label=name, **mark)
    numbers = zip(table.index, table["support"], strict=True)
    style.name_bars(axes, [f"{style.label(name)}  ({num:,})" for name, num in numbers])
    style.show_percent(axes.xaxis)
    axes.set(xlim=(0, 1.01))
    drawing.legend(loc="outside lower center", ncols=3)
    worst, best = whole.iloc[0], whole.iloc[-1]
    drawing.alt = (
        f"{heading}: from {percent(worst['f1'])} ({worst.name}) to {percent(best['f1'])} "
        f"({best.name}) over {len(whole)} classes; in brackets the number of images."
    )
    return drawing


@style.in_style
def class_distribution(numbers: pd.DataFrame, *, title: str = "Images of each class") -> Drawing:
    """Stacked bars of how many images each class has; `numbers` has one row a class and one column
    a split (or one column). Of more than 60 classes the largest and the smallest are drawn.
    """
    whole = numbers.loc[numbers.sum(axis=1).sort_values(kind="stable").index]
    numbers, heading = _ends_of(whole, title)
    totals, left = numbers.sum(axis=1), np.zeros(len(numbers))
    drawing = Drawing(6.8, max(2.0, 0.3 * len(numbers) + 1.3), title=heading)
    axes = drawing.subplots()
    for index, column in enumerate(numbers.columns):
        colour = style.PART_COLOURS.get(str(column), style.colour(index))
        look = {"height": 0.66, "color": colour, "label": style.label(column), "alpha": 0.9}
        bars = axes.barh(np.arange(len(numbers)), numbers[column], left=left, **look)
        left += numbers[column].to_numpy()
    axes.bar_label(bars, [f"{total:,}" for total in totals], padding=4, fontsize=8.5)
    style.name_bars(axes, [style.label(name) for name in numbers.index])
    axes.set(xlim=(0, max(1, totals.max()) * 1.1), xlabel="images")
    if len(numbers.columns) > 1:
        drawing.legend(loc="outside lower center", ncols=len(numbers.columns))
    fewest, most = totals.iloc[0], totals.iloc[-1]
    drawing.alt = (
        f"{heading}: {int(whole.to_numpy().sum()):,} images in {len(whole)} classes, from "
        f"{int(fewest):,} ({numbers.index[0]}) to {int(most):,} ({numbers.index[-1]}), "
        f"{most / max(1, fewest):.1f} times as many."
    )
    return drawing


@style.in_style
def pictures(
    images: Sequence[np.ndarray | None],
    captions: Sequence[str],
    *,
    right: Sequence[bool] | None = None,
    title: str = "",
    num_columns: int = 6,
) -> Drawing:
    """A grid of uint8 images (height, width, 3) or (height, width), each with a caption; None
    leaves a place empty.

    Where `right` is given, right and wrong ones differ by frame and by a mark, not by
    colour alone.
    """
    num_columns = max(1, min(num_columns, len(images)))
    num_rows = -(-len(images) // num_columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = (1.7 + 0.125 * max(2, lines)) * num_rows + (0.45 if title else 0.1)
    drawing = Drawing(1.55 * num_columns + 0.2, height, title=title)
    panels = drawing.subplots(num_rows, num_columns, squeeze=False).ravel()
    marks = [None] * len(images) if right is None else right
    for axes in panels:
        axes.set_axis_off()
    for axes, image, caption, mark in zip(panels, images, captions, marks, strict=False):
        if image is not None:
            _picture(axes, image, caption, mark)
    first = "; ".join(caption.replace("\n", ", ") for caption in list(captions)[:6])
    verdict = "" if right is None else f" {sum(map(bool, right))} of {len(images)} are right."
    drawing.alt = f"{title or 'Pictures'}: {len(images)} images.{verdict} The first: {first}."
    return drawing


def _ends_of(table: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    if len(table) <= _MAX_BARS:
        return table, title
    half = _MAX_BARS // 2
    ends = pd.concat([table.head(half), table.tail(half)])
    return ends, f"{title}: the {half} last and the {half} first of {len(table)}"


@style.in_style
def message(sentence: str) -> Drawing:
    """A sentence in a figure's place, where there is nothing to draw."""
    drawing = Drawing(6.8, 0.7, alt=sentence)
    drawing.text(0.012, 0.5, sentence, ha="left", va="center", color=style.MUTED)
    return drawing


def _tints(counts: np.ndarray) -> np.ndarray:
    # float (classes, classes, 4): see-through where nothing is, so that any page shows through
    shares, diagonal = np.nan_to_num(metrics.shares(counts)), np.eye(len(counts), dtype=bool)
    tints = np.empty((*shares.shape, 4))
    tints[..., :3] = np.where(diagonal[..., None], to_rgb(style.RIGHT), to_rgb(style.WRONG))
    tints[..., 3] = np.where(diagonal, 0.12 + 0.8 * shares, np.sqrt(shares) * 0.92)
    return tints


def _write_cells(axes: Axes, counts: np.ndarray, tints: np.ndarray) -> None:
    num, shares = len(counts), np.nan_to_num(metrics.shares(counts))
    for row, column in np.argwhere(counts > 0):
        share = shares[row, column]
        if num > 30 and share < 0.1:
            continue
        is_strong = tints[row, column, 3] > (0.55 if row == column else 0.62)
        look = {"ha": "center", "va": "center", "color": style.ON_DARK if is_strong else style.INK}
        if num <= 12:
            axes.text(column, row - 0.1, f"{counts[row, column]:,}", fontsize=10, **look)
            words_of_share = "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"
            axes.text(column, row + 0.22, words_of_share, fontsize=7.5, **look)
        else:
            size = 7.5 if num <= 30 else 5
            axes.text(column, row, f"{counts[row, column]}", fontsize=size, **look)


def _name_both_axes(axes: Axes, class_names: Sequence[str], steep: bool) -> None:
    labels, num = [style.label(name) for name in class_names], len(class_names)
    size = 9 if num <= 30 else 7
    turn = {"rotation": 90 if steep else 0, "ha": "center"}
    if steep and num <= 30:
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(num), labels, fontsize=size, **turn)
    axes.set_yticks(range(num), labels, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(np.arange(num + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num + 1) - 0.5, minor=True)
    colour, width = (style.PAPER, 1.5) if num <= 30 else (style.FAINT, 0.4)
    axes.grid(which="minor", color=colour, linewidth=width)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _describe_confusion(counts: np.ndarray, class_names: Sequence[str], title: str) -> str:
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    accuracy = percent(metrics.accuracy(counts))
    right, total = int(np.trace(counts)), int(counts.sum())
    sentence = f"{title}: {right:,} of {total:,} images right ({accuracy})"
    if not wrong.any():
        return sentence + "; no confusion."
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return sentence + (
        f"; the largest confusion: {int(wrong[row, column]):,} of {int(counts[row].sum()):,} "
        f"images of {class_names[row]} were taken for {class_names[column]}."
    )


def _picture(axes: Axes, image: np.ndarray, caption: str, right: bool | None) -> None:
    axes.set_axis_on()
    axes.imshow(image, cmap="gray" if np.ndim(image) == 2 else None, vmin=0, vmax=255)
    height, width = np.shape(image)[:2]
    side = max(height, width) / 2  # every picture whole, in a square of the same size
    axes.set(xticks=[], yticks=[], facecolor=style.FAINT)
    axes.set(xlim=(width / 2 - side - 0.5, width / 2 + side - 0.5))
    axes.set(ylim=(height / 2 + side - 0.5, height / 2 - side - 0.5))
    colour = style.AXIS if right is None else style.RIGHT if right else style.WRONG
    axes.spines[:].set(visible=True, color=colour, linewidth=1 if right is None else 2.2)
    mark = "" if right is None else "✓ " if right else "✗ "
    lines = [style.label(line, most=24) for line in caption.split("\n")]
    look = {"fontsize": 7.5, "fontweight": "normal", "pad": 4, "color": style.INK}
    axes.set_title(mark + "\n".join(lines), **look)


@style.in_style
def learning_curves(
    history: pd.DataFrame, *, kept_epoch: int | None = None, title: str = ""
) -> Drawing:
    """Loss and accuracy of train and validation over the epochs; the kept epoch is marked.

    `history` has the columns of `history.csv`: `epoch` (from 1), `loss`, `accuracy`, `val_loss`,
    `val_accuracy`.
    """
    drawing = Drawing(8.6, 3.4, title=title, alt=_describe_run(history, kept_epoch, title))
    panels = drawing.subplots(1, 2)
    dots = {"marker": "o" if len(history) <= 20 else None, "markersize": 3.5}
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        axes.plot(history["epoch"], history[name], "-", color=style.RIGHT, label="train", **dots)
        dashed = {"color": style.WRONG, "linestyle": (0, (5, 1.5)), "label": "validation"}
        axes.plot(history["epoch"], history[f"val_{name}"], **dashed, **dots)
        if kept_epoch is not None:
            look = {"color": style.MUTED, "linewidth": 1.2, "linestyle": (0, (1.5, 1.5))}
            axes.axvline(kept_epoch, zorder=0, label=f"kept: epoch {kept_epoch}", **look)
        _finish_curves(axes, name)
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=3)
    return drawing


@style.in_style
def learning_curves_of_arms(
    histories: Mapping[str, Sequence[pd.DataFrame]], *, is_narrow: bool = False
) -> Drawing:
    """Validation loss and accuracy, one line an arm: the mean over seeds, its band one standard
    deviation.

    Dotted where some seeds have stopped already: the mean is then over fewer of them. `is_narrow`
    puts one below the other, for phones.
    """
    rows, width = (2, 4.2) if is_narrow else (1, 8.6)
    drawing = Drawing(width, 3.0 * rows + 0.7 + 0.12 * len(histories))
    panels = drawing.subplots(rows, 3 - rows)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for index, (arm, runs) in enumerate(histories.items()):
            curves = [run.set_index("epoch")[f"val_{name}"] for run in runs]
            _draw_arm_curve(axes, curves, index, style.wrapped(arm))
        _finish_curves(axes, f"validation {name}")
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(1 if is_narrow else 4, len(labels))
    drawing.legend(handles, labels, loc="outside lower center", ncols=columns)
    drawing.alt = "Validation accuracy over the epochs, mean over seeds: " + "; ".join(
        _describe_arm(arm, runs) for arm, runs in histories.items()
    )
    return drawing


def mean_over_seeds(runs: Sequence[pd.Series]) -> pd.DataFrame:
    """`mean`, `sd` (0 for one run) and `num` of series over their epochs; runs that have stopped
    drop out.
    """
    together = pd.concat(list(runs), axis=1).sort_index()
    mean, sd = together.mean(axis=1), together.std(axis=1, ddof=1).fillna(0.0)
    return pd.DataFrame({"mean": mean, "sd": sd, "num": together.notna().sum(axis=1)})


def _draw_arm_curve(axes: Axes, runs: Sequence[pd.Series], index: int, label: str) -> None:
    values, colour = mean_over_seeds(runs), style.colour(index)
    whole = values[values["num"] == len(runs)]
    rest = values.loc[whole.index.max() :] if len(whole) else values
    low, high = whole["mean"] - whole["sd"], whole["mean"] + whole["sd"]
    axes.fill_between(whole.index, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(whole.index, whole["mean"], label=label, **style.line(index, len(values)))
    if len(rest) > 1:
        axes.plot(rest.index, rest["mean"], color=colour, linestyle=":", linewidth=1.2)


def _finish_curves(axes: Axes, name: str) -> None:
    axes.set_title(name.capitalize(), fontsize=10.5)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    if name.endswith("accuracy"):
        style.show_percent(axes.yaxis)


def _describe_run(history: pd.DataFrame, kept_epoch: int | None, title: str) -> str:
    row = history[history["epoch"] == kept_epoch]
    row = (history if row.empty else row).iloc[-1]
    numbers = ", ".join(
        f"{split} {percent(row[column])}"
        for split, column in (("training", "accuracy"), ("validation", "val_accuracy"))
        if np.isfinite(row[column])
    )
    which = "the kept epoch" if kept_epoch is not None else "the last epoch"
    begin = f"{title}: learning curves" if title else "Learning curves"
    return (
        f"{begin} over {len(history)} epochs; accuracy at {which}, {int(row['epoch'])}: {numbers}."
    )


def _describe_arm(arm: str, runs: Sequence[pd.DataFrame]) -> str:
    best = np.mean([run["val_accuracy"].max() for run in runs])
    epochs = " to ".join(f"{num}" for num in sorted({min(map(len, runs)), max(map(len, runs))}))
    return f"{arm} reached {percent(best)} at best in {epochs} epochs ({len(runs)} seeds)"


@style.in_style
def reliability(bins: pd.DataFrame, *, title: str = "") -> Drawing:
    """Accuracy against stated probability, one bar a bin, and how many images each bin holds.

    `bins` is `calibration.reliability`.
    """
    filled = bins.dropna()
    gap = float(np.average(filled["accuracy"] - filled["confidence"], weights=filled["num"]))
    manner = "underconfident" if gap > 0 else "overconfident"
    drawing = Drawing(4.8, 5.0, title=title or f"Reliability: on average {manner}")
    upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    width, middle = 0.9 * (bins["high"] - bins["low"]), (bins["low"] + bins["high"]) / 2
    upper.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    upper.bar(middle, bins["accuracy"].fillna(0), width, color=style.RIGHT, alpha=0.35)
    upper.plot(filled["confidence"], filled["accuracy"], "o", color=style.RIGHT, markersize=5)
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    lower.bar(middle, bins["num"], width, color=style.MUTED, alpha=0.5)
    lower.set(ylabel="images", xlabel="predicted probability")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    style.show_percent(upper.yaxis, lower.xaxis)
    drawing.alt = f"Reliability: on average {manner} by {100 * abs(gap):.1f} points."
    return drawing


@style.in_style
def risk_coverage(
    curves: Mapping[str, pd.DataFrame], *, target: float | None = None, title: str = ""
) -> Drawing:
    """How accuracy falls as ever less sure images are answered, one line a curve.

    `curves` maps a name (an arm, or a split) to `calibration.risk_coverage`; `target` is an
    accuracy to mark.
    """
    drawing = Drawing(5.6, 3.9, title=title or "Accuracy and coverage")
    axes, lowest = drawing.subplots(), target or 1.0
    for index, (name, curve) in enumerate(curves.items()):
        least = max(1, min(20, int(curve["num"].iloc[-1]) // 20))
        shown = curve[curve["num"] >= least]  # of the first few images a share says nothing
        look = style.line(index, len(shown)) | {"label": style.wrapped(name)}
        axes.plot(shown["coverage"], shown["accuracy"], **look)
        lowest = min(lowest, float(shown["accuracy"].min()))
    if target is not None:
        look = {"color": style.MUTED, "linewidth": 1, "linestyle": (0, (4, 3))}
        axes.axhline(target, label=f"target: {100 * target:g} %", **look)
    axes.set(xlim=(0, 1), ylim=(lowest - 0.02, 1.005), ylabel="accuracy of the answers")
    axes.set_xlabel("coverage: share of images answered, most confident first")
    style.show_percent(axes.xaxis, axes.yaxis)
    axes.grid(axis="y")
    drawing.legend(loc="outside lower center", ncols=min(3, len(curves) + (target is not None)))
    drawing.alt = "Accuracy when only the surest images are answered: " + "; ".join(
        f"{name} {_accuracy_at(curve, 0.5)} of the surest half, {_accuracy_at(curve, 1.0)} of all"
        for name, curve in curves.items()
    )
    return drawing


def _accuracy_at(curve: pd.DataFrame, coverage: float) -> str:
    row = curve[curve["coverage"] <= coverage]
    return percent((curve.head(1) if row.empty else row)["accuracy"].iloc[-1])
