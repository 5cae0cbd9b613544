"""Figures of runs and comparisons, as `style.Drawing` with alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from lib.evaluation import confusion as matrices
from lib.evaluation.formatting import SHARES
from lib.evaluation.statistics import Estimate
from lib.reporting import style, text
from lib.reporting.style import Drawing

MAX_CLASSES = 60
"""Beyond this a confusion matrix shows tints and its largest confusions, and names no class."""
_MAX_BARS = 60
"""Beyond this a figure of classes shows the first and the last ones alone."""


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
    num, shares = len(counts), np.nan_to_num(matrices.shares(counts))
    longest = max(len(style.label(name)) for name in class_names)
    if num > MAX_CLASSES:
        return _large_confusion(counts, shares, class_names, title)
    side = _side_of_cell(num, longest)
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
    drawing.alt = _describe_confusion(counts, class_names, title)
    return drawing


def _side_of_cell(num: int, longest: int) -> float:
    if num > 30:
        return 0.24
    if num > 12:
        return 0.42
    return 0.72 if num > 4 else float(np.clip(0.09 * longest, 0.8, 1.4))


def _large_confusion(
    counts: np.ndarray, shares: np.ndarray, class_names: Sequence[str], title: str
) -> Drawing:
    drawing = Drawing(11.0, 6.4)
    with matplotlib.rc_context(style.settings()):
        matrix, bars = drawing.subplots(1, 2, width_ratios=[1.15, 1])
        matrix.imshow(_tinted(shares), aspect="equal", interpolation="nearest")
        matrix.set(xlabel="predicted class, by number", ylabel="true class, by number")
        wrong = counts * ~np.eye(len(counts), dtype=bool)
        places = np.argsort(-wrong, axis=None, kind="stable")[:20]
        pairs = [np.unravel_index(place, wrong.shape) for place in places if wrong.flat[place]]
        names = [
            f"{style.label(class_names[row], most=22)} → "
            f"{style.label(class_names[column], most=22)}"
            for row, column in pairs
        ]
        values = [int(wrong[row, column]) for row, column in pairs]
        bars.barh(range(len(pairs)), values, height=0.66, color=style.WRONG, alpha=0.75)
        bars.set_yticks(range(len(pairs)), names, fontsize=8)
        bars.tick_params(axis="y", length=0)
        bars.invert_yaxis()
        bars.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        bars.set(title="Largest confusions", xlabel="images, truth → prediction")
        style.set_title(drawing, title)
    drawing.alt = _describe_confusion(counts, class_names, title)
    return drawing


def per_class(table: pd.DataFrame, *, title: str = "F1 of each class") -> Drawing:
    """One bar a class (F1), with precision and recall as marks; `table` is `metrics.per_class`,
    sorted here by F1. Of more than 60 classes the best and the worst are drawn.
    """
    whole = table.dropna(subset="f1").sort_values("f1")
    table, title = _ends_of(whole, title)
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
    worst, best = whole.iloc[0], whole.iloc[-1]
    drawing.alt = (
        f"{title}: from {text.percent(worst['f1'])} ({worst.name}) to "
        f"{text.percent(best['f1'])} ({best.name}) "
        f"over {len(whole)} classes; in brackets the number of images."
    )
    return drawing


def class_distribution(numbers: pd.DataFrame, *, title: str = "Images of each class") -> Drawing:
    """Stacked bars of how many images each class has; `numbers` has one row a class and one column
    a split (or one column). Of more than 60 classes the largest and the smallest are drawn.
    """
    whole = numbers.loc[numbers.sum(axis=1).sort_values(kind="stable").index]
    numbers, title = _ends_of(whole, title)
    totals = numbers.sum(axis=1)
    drawing = Drawing(6.8, max(2.0, 0.3 * len(numbers) + 1.3))
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        places, left = np.arange(len(numbers)), np.zeros(len(numbers))
        for index, column in enumerate(numbers.columns):
            colour = style.PART_COLOURS.get(str(column), style.colour(index))
            bars = axes.barh(
                places,
                numbers[column],
                left=left,
                height=0.66,
                color=colour,
                label=style.label(column),
                alpha=0.9,
            )
            left += numbers[column].to_numpy()
        axes.bar_label(bars, [f"{total:,}" for total in totals], padding=4, fontsize=8.5)
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
        f"{title}: {int(whole.to_numpy().sum()):,} images in {len(whole)} classes, from "
        f"{int(totals.iloc[0]):,} ({numbers.index[0]}) "
        f"to {int(totals.iloc[-1]):,} ({numbers.index[-1]}), "
        f"{totals.iloc[-1] / max(1, totals.iloc[0]):.1f} times as many."
    )
    return drawing


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
    row_height = 1.7 + 0.125 * max(2, lines)
    drawing = Drawing(1.55 * num_columns + 0.2, row_height * num_rows + (0.45 if title else 0.1))
    with matplotlib.rc_context(style.settings()):
        grid = np.atleast_1d(drawing.subplots(num_rows, num_columns, squeeze=False)).ravel()
        for place, axes in enumerate(grid):
            if place >= len(images) or images[place] is None:
                axes.set_axis_off()
                continue
            verdict = None if right is None else bool(right[place])
            _picture(axes, images[place], captions[place], verdict)
        style.set_title(drawing, title)
    words = "; ".join(caption.replace("\n", ", ") for caption in list(captions)[:6])
    verdict = "" if right is None else f" {sum(map(bool, right))} of {len(images)} are right."
    drawing.alt = f"{title or 'Pictures'}: {len(images)} images.{verdict} The first: {words}."
    return drawing


def _ends_of(table: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    if len(table) <= _MAX_BARS:
        return table, title
    half = _MAX_BARS // 2
    ends = pd.concat([table.head(half), table.tail(half)])
    return ends, f"{title}: the {half} last and the {half} first of {len(table)}"


def message(words: str) -> Drawing:
    """A sentence in a figure's place, where there is nothing to draw."""
    drawing = Drawing(6.8, 0.7, alt=words)
    with matplotlib.rc_context(style.settings()):
        drawing.text(0.012, 0.5, words, ha="left", va="center", color=style.MUTED)
    return drawing


def _tinted(shares: np.ndarray) -> np.ndarray:
    # float (classes, classes, 4): see-through where nothing is, so that any page shows through
    strength = np.where(
        np.eye(len(shares), dtype=bool), 0.12 + 0.8 * shares, np.sqrt(shares) * 0.92
    )
    tints = np.empty((*shares.shape, 4))
    tints[..., :3] = to_rgb(style.WRONG)
    tints[np.eye(len(shares), dtype=bool), :3] = to_rgb(style.RIGHT)
    tints[..., 3] = strength
    return tints


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, num: int) -> None:
    tints = _tinted(shares)
    size = 10 if num <= 12 else 7.5 if num <= 30 else 5
    for row, column in np.argwhere(counts > 0):
        share = shares[row, column]
        if num > 30 and share < 0.1:
            continue
        is_strong = tints[row, column, 3] > (0.55 if row == column else 0.62)
        colour = style.ON_DARK if is_strong else style.INK
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


def _describe_confusion(counts: np.ndarray, class_names: Sequence[str], title: str) -> str:
    total = int(counts.sum())
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    accuracy = text.percent(matrices.accuracy(counts))
    words = f"{title}: {int(np.trace(counts)):,} of {total:,} images right ({accuracy})"
    if not wrong.any():
        return words + "; no confusion."
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return words + (
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
    colour = style.AXIS if right is None else style.RIGHT if right else style.WRONG
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1 if right is None else 2.2)
    mark = "" if right is None else "✓ " if right else "✗ "
    lines = [style.label(line, most=24) for line in caption.split("\n")]
    axes.set_title(
        mark + "\n".join(lines), fontsize=7.5, fontweight="normal", pad=4, color=style.INK
    )


def _whole_percent(share: float) -> str:
    return "< 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def learning_curves(
    history: pd.DataFrame, *, kept_epoch: int | None = None, title: str = ""
) -> Drawing:
    """Loss and accuracy of train and validation over the epochs; the kept epoch is marked.

    `history` has the columns of `history.csv`: `epoch` (from 1), `loss`, `accuracy`, `val_loss`,
    `val_accuracy`.
    """
    drawing = Drawing(8.6, 3.4)
    with matplotlib.rc_context(style.settings()):
        panels = drawing.subplots(1, 2)
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            for split, column in (("train", name), ("validation", f"val_{name}")):
                colour = style.COLOURS[0] if split == "train" else style.COLOURS[1]
                shape = "-" if split == "train" else (0, (5, 1.5))
                dots = "o" if len(history) <= 20 else None
                axes.plot(
                    history["epoch"],
                    history[column],
                    color=colour,
                    linestyle=shape,
                    marker=dots,
                    markersize=3.5,
                    label=split,
                )
            _finish_curves(axes, name, kept_epoch)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3)
        style.set_title(drawing, title)
    drawing.alt = _describe_run(history, kept_epoch, title)
    return drawing


def learning_curves_of_arms(
    histories: Mapping[str, Sequence[pd.DataFrame]], *, title: str = ""
) -> Drawing:
    """Validation loss and accuracy, one line an arm: the mean over seeds, its band one standard
    deviation.

    Dotted where some seeds have stopped already: the mean is then over fewer of them.
    """
    drawing = Drawing(8.6, 3.7 + 0.12 * len(histories))
    with matplotlib.rc_context(style.settings()):
        panels = drawing.subplots(1, 2)
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            for index, (arm, runs) in enumerate(histories.items()):
                _draw_arm_curve(
                    axes,
                    [run.set_index("epoch")[f"val_{name}"] for run in runs],
                    index,
                    style.wrapped(arm),
                )
            _finish_curves(axes, f"validation {name}", None)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
        style.set_title(drawing, title)
    drawing.alt = "Validation accuracy over the epochs, mean over seeds: " + "; ".join(
        _describe_arm(arm, runs) for arm, runs in histories.items()
    )
    return drawing


def mean_over_seeds(runs: Sequence[pd.Series]) -> pd.DataFrame:
    """`mean`, `sd` (0 for one run) and `num` of series over their epochs; runs that have stopped
    drop out.
    """
    together = pd.concat(list(runs), axis=1).sort_index()
    return pd.DataFrame(
        {
            "mean": together.mean(axis=1),
            "sd": together.std(axis=1, ddof=1).fillna(0.0),
            "num": together.notna().sum(axis=1),
        }
    )


def _draw_arm_curve(axes: Axes, runs: Sequence[pd.Series], index: int, label: str) -> None:
    values, colour = mean_over_seeds(runs), style.colour(index)
    all_there = values[values["num"] == len(runs)]
    rest = values.loc[all_there.index.max() :] if len(all_there) else values
    shape = {
        "marker": "os^DvPX*"[index % 8],
        "markersize": 4.5,
        "markevery": max(1, len(values) // 8),
    }
    axes.fill_between(
        all_there.index,
        all_there["mean"] - all_there["sd"],
        all_there["mean"] + all_there["sd"],
        color=colour,
        alpha=0.16,
        linewidth=0,
    )
    axes.plot(all_there.index, all_there["mean"], color=colour, label=label, **shape)
    if len(rest) > 1:
        axes.plot(rest.index, rest["mean"], color=colour, linestyle=":", linewidth=1.2)


def _finish_curves(axes: Axes, name: str, kept_epoch: int | None) -> None:
    axes.set_title(name.capitalize(), fontsize=10.5)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    if name.endswith("accuracy"):
        style.show_percent(axes.yaxis)
    if kept_epoch is not None:
        label = f"kept: epoch {kept_epoch}"
        axes.axvline(
            kept_epoch,
            color=style.MUTED,
            linewidth=1.2,
            linestyle=(0, (1.5, 1.5)),
            zorder=0,
            label=label,
        )


def _describe_run(history: pd.DataFrame, kept_epoch: int | None, title: str) -> str:
    row = history[history["epoch"] == kept_epoch] if kept_epoch is not None else history.tail(1)
    row = history.tail(1) if row.empty else row
    epoch = int(row["epoch"].iloc[0])
    words = ", ".join(
        f"{split} {100 * float(row[column].iloc[0]):.1f} %"
        for split, column in (("training", "accuracy"), ("validation", "val_accuracy"))
        if np.isfinite(row[column].iloc[0])
    )
    which = "the kept epoch" if kept_epoch is not None else "the last epoch"
    begin = f"{title}: learning curves" if title else "Learning curves"
    return f"{begin} over {len(history)} epochs; accuracy at {which}, {epoch}: {words}."


def _describe_arm(arm: str, runs: Sequence[pd.DataFrame]) -> str:
    best = [float(run["val_accuracy"].max()) for run in runs]
    lengths = [len(run) for run in runs]
    epochs = (
        f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
    )
    return (
        f"{arm} reached {100 * np.mean(best):.1f} % at best in {epochs} epochs ({len(runs)} seeds)"
    )


def leaderboard(
    estimates: Mapping[str, Estimate],
    values: Mapping[str, Sequence[float]],
    *,
    published: Mapping[str, float] | None = None,
    letters: Mapping[str, str] | None = None,
    title: str = "",
) -> Drawing:
    """One row an arm in the given order: every seed a circle, the mean a diamond, its 95 % interval
    a bar; first on top.

    `values` holds each arm's seeds. `published` are figures of others: own rows that say so, with a
    dashed line to compare with. `letters` stand at the right: arms that share one do not differ
    significantly.
    """
    published = dict(published or {})
    names = list(estimates)[::-1]  # drawn from below; the first arm on top
    metric = next(iter(estimates.values())).name
    labels = [
        *(style.wrapped(f"published: {name}") for name in published),
        *map(style.wrapped, names),
    ]
    drawing = Drawing(7.6, 0.56 * len(names) + 0.34 * len(published) + 1.3)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        places = [
            *(0.6 * np.arange(len(published))),
            *(0.6 * len(published) + 0.2 + np.arange(len(names))),
        ]
        for place, value in zip(places, published.values(), strict=False):
            _draw_published(axes, place, _value_text(metric, value), value)
        for place, name in zip(places[len(published) :], names, strict=True):
            _draw_arm(axes, place, estimates[name], values[name])
        axes.set_yticks(places, labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.5, places[-1] + 0.7)
        if letters:
            _write_letters(axes, dict(zip(names, places[len(published) :], strict=True)), letters)
        axes.margins(x=0.08)
        if metric in SHARES:
            style.show_percent(axes.xaxis)
        axes.grid(axis="x")
        axes.set_xlabel(f"{metric.replace('_', ' ')} on test (circle: a seed; bar: 95 % interval)")
        style.set_title(drawing, title or f"Arms by {metric.replace('_', ' ')}")
    words = "; ".join(
        f"{name} {_value_text(metric, estimates[name].value)} "
        f"({_value_text(metric, estimates[name].low)} to "
        f"{_value_text(metric, estimates[name].high)}, {estimates[name].num_seeds} seeds)"
        for name in reversed(names)
    )
    others = "".join(
        f" Published by others: {name} {_value_text(metric, value)}."
        for name, value in published.items()
    )
    groups = "; ".join(f"{name} {letters[name]}" for name in reversed(names)) if letters else ""
    shared = f" Arms that share a letter do not differ significantly: {groups}." if letters else ""
    drawing.alt = (
        f"{metric.replace('_', ' ')} of the arms with 95 % intervals: {words}.{others}{shared}"
    )
    return drawing


def _write_letters(axes: Axes, places: Mapping[str, float], letters: Mapping[str, str]) -> None:
    # One column a letter, so that a group reads as a broken line from top to bottom.
    columns = sorted(set("".join(letters.values())))
    for name, place in places.items():
        for letter in letters[name]:
            axes.annotate(
                letter,
                (1, place),
                (8 + 11 * columns.index(letter), 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                ha="center",
                fontsize=9,
                color=style.INK,
            )
    axes.annotate(
        "same letter: no\nsignificant difference",
        (1, max(places.values()) + 0.5),
        (3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="bottom",
        fontsize=7,
        color=style.MUTED,
    )


def _draw_arm(axes: Axes, place: int, estimate: Estimate, seeds: Sequence[float]) -> None:
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
        _value_text(estimate.name, estimate.value),
        (estimate.value, place),
        (0, 11),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9,
        fontweight="bold",
        color=colour,
    )


def _draw_published(axes: Axes, place: float, words: str, value: float) -> None:
    axes.axvline(value, color=style.WRONG, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.plot([value], [place], "D", color=style.WRONG, markersize=6.5, markerfacecolor=style.PAPER)
    axes.annotate(
        words,
        (value, place),
        (9, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=style.WRONG,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1},
    )


def _value_text(metric: str, value: float) -> str:
    return f"{100 * value:.1f} %" if metric in SHARES else f"{value:.3f}"


def reliability(bins: pd.DataFrame, error: float, *, title: str = "") -> Drawing:
    """Accuracy against stated probability, one bar a bin, and how many images each bin holds.

    `bins` is `calibration.reliability`, `error` the expected calibration error (0 to 1).
    """
    filled = bins.dropna()
    gap = float(np.average(filled["accuracy"] - filled["confidence"], weights=filled["num"]))
    manner = "underconfident" if gap > 0 else "overconfident"
    drawing = Drawing(4.8, 5.0)
    with matplotlib.rc_context(style.settings()):
        upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        width, middle = bins["high"] - bins["low"], (bins["low"] + bins["high"]) / 2
        upper.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        upper.bar(middle, bins["accuracy"].fillna(0), width * 0.9, color=style.RIGHT, alpha=0.35)
        upper.plot(filled["confidence"], filled["accuracy"], "o", color=style.RIGHT, markersize=5)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        lower.bar(middle, bins["num"], width * 0.9, color=style.MUTED, alpha=0.5)
        lower.set(ylabel="images", xlabel="predicted probability")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for axis in (upper.yaxis, lower.xaxis):
            style.show_percent(axis)
        style.set_title(drawing, title or f"Reliability: on average {manner}")
    drawing.alt = (
        f"Reliability: expected calibration error {100 * error:.1f} %; on average {manner} by "
        f"{100 * abs(gap):.1f} points."
    )
    return drawing


def risk_coverage(
    curves: Mapping[str, pd.DataFrame], *, target: float | None = None, title: str = ""
) -> Drawing:
    """How accuracy falls as ever less sure images are answered, one line a curve.

    `curves` maps a name (an arm, or a split) to `calibration.risk_coverage`; `target` is an
    accuracy to mark.
    """
    drawing = Drawing(5.6, 3.9)
    lowest = min(
        float(curve.loc[curve["num"] >= _min_images(curve), "accuracy"].min())
        for curve in curves.values()
    )
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        for index, (name, curve) in enumerate(curves.items()):
            shown = curve[
                curve["num"] >= _min_images(curve)
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
                label=style.wrapped(name),
                **shape,
            )
        if target is not None:
            axes.axhline(
                target,
                color=style.MUTED,
                linewidth=1,
                linestyle=(0, (4, 3)),
                label=f"target: {100 * target:g} %",
            )
        axes.set(
            xlim=(0, 1),
            xlabel="coverage: share of images answered, most confident first",
            ylabel="accuracy of the answers",
        )
        axes.set_ylim(min(lowest, target or 1.0) - 0.02, 1.005)
        for axis in (axes.xaxis, axes.yaxis):
            style.show_percent(axis)
        axes.grid(axis="y")
        drawing.legend(loc="outside lower center", ncols=min(3, len(curves) + (target is not None)))
        style.set_title(drawing, title or "Accuracy and coverage")
    drawing.alt = "Accuracy when only the surest images are answered: " + "; ".join(
        f"{name} {_accuracy_at(curve, 0.5)} of the surest half, {_accuracy_at(curve, 1.0)} of all"
        for name, curve in curves.items()
    )
    return drawing


def _min_images(curve: pd.DataFrame) -> int:
    return max(1, min(20, int(curve["num"].iloc[-1]) // 20))


def _accuracy_at(curve: pd.DataFrame, coverage: float) -> str:
    row = curve[curve["coverage"] <= coverage].tail(1)
    row = curve.head(1) if row.empty else row
    return f"{100 * float(row['accuracy'].iloc[0]):.1f} %"
