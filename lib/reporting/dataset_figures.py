"""Figures and tables of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from lib.data import augmentation, thumbnails
from lib.data.dataset import Dataset
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.evaluation import metrics
from lib.evaluation import slices as attributes_of
from lib.evaluation.predictions import Predictions
from lib.reporting import run_figures, style
from lib.reporting.style import Drawing

_MOST_CLASSES = 20  # beyond that a grid of samples is no longer looked at
_MOST_VALUES = 12
_MOST_BARS = 40
_POINTS = {"color": style.RIGHT, "alpha": 0.4, "linewidths": 0}
_GUIDE = {"color": style.MUTED, "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 0}
_TICK_CHARACTERS = 88  # that stand side by side below a panel


def baseline(split: Split) -> pd.DataFrame:
    """Returns what guessing reaches on the test split: always the largest class, and drawing by the
    classes' shares. Where images have several classes, one row a class: it is always named.
    """
    train, test = split.of("train")["label"], split.of("test")["label"]
    if split.is_multilabel:
        shares = test.explode().value_counts().reindex(split.class_names, fill_value=0) / len(test)
        table = pd.DataFrame({"share of test images": shares, "F1": 2 * shares / (1 + shares)})
        table.loc["mean"] = table.mean()
        return table.round(4).rename_axis("always named")
    shares = train.value_counts(normalize=True)
    right = {
        f"always {shares.index[0]!r}": (test == shares.index[0]).mean(),
        "drawing by the shares of train": test.map(shares).mean(),
    }
    table = pd.Series(right, name="test accuracy").round(4).rename_axis("guess").to_frame()
    return table.assign(kappa=0.0)


def class_table(split: Split) -> pd.DataFrame:
    """Returns one row a class, the largest first, then all images: their number, and the share of
    each class in each split. An image of several classes counts for each of them.
    """
    counts = split.counts()
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    sizes = split.frame["split"].value_counts().reindex(counts.columns, fill_value=0)
    shares = counts / sizes.clip(lower=1)
    table = pd.concat(
        [counts.sum(axis=1).rename("images"), counts, shares.add_suffix(" share")], axis=1
    )
    table.loc["all"] = [sizes.sum(), *sizes, *(sizes > 0)]
    named = dict.fromkeys(("images", *counts.columns), "int64")
    return table.astype(named).rename_axis("class")


def styled(table: pd.DataFrame) -> Any:
    """Returns a table as a notebook shows it: counts with separators, shares as percentages."""
    shares = [name for name in table.columns if str(name).endswith("share")]
    shown = table.style.format("{:,.0f}", subset=[name for name in table if name not in shares])
    return shown.format("{:.1%}", subset=shares)


def size_table(accepted: pd.DataFrame) -> pd.DataFrame:
    """Returns the quantiles of width, height, aspect (width / height), megapixels and file size;
    with boxes also of their area in megapixels and its share of the image.
    """
    width, height = accepted["width"].astype(float), accepted["height"].astype(float)
    measures = pd.DataFrame(
        {
            "width in pixels": width,
            "height in pixels": height,
            "width / height": width / height,
            "megapixels": width * height / 1e6,
            "file size in kB": accepted["bytes"] / 1000,
        }
    )
    tables = [measures]
    if attributes_of.has_boxes(accepted):
        boxed = attributes_of.box_shares(accepted)
        of_box = {"box in megapixels": boxed["box"] / 1e6, "share of the box": boxed["share"]}
        tables.append(pd.DataFrame(of_box))
    shares = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]
    quantiles = pd.concat([table.quantile(shares).T for table in tables])
    quantiles.columns = ["smallest", "5 %", "25 %", "median", "75 %", "95 %", "largest"]
    return quantiles.round(2)


@style.in_style
def sizes(accepted: pd.DataFrame) -> Drawing:
    """Returns width against height in pixels of every image, on logarithmic axes; a point's area
    tells how many lie there.
    """
    counted = accepted.groupby(["width", "height"]).size().reset_index(name="images")
    drawing = Drawing(5.6, 4.6, title="Sizes of the images")
    axes, area = drawing.subplots(), 10 + 300 * counted["images"] / counted["images"].sum()
    axes.scatter(counted["width"], counted["height"], s=area, **_POINTS)
    widths, heights = accepted["width"], accepted["height"]
    ends = (min(widths.min(), heights.min()) / 1.25, max(widths.max(), heights.max()) * 1.25)
    axes.plot(ends, ends, **_GUIDE)
    look = {"textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 8.5}
    axes.annotate("square", (ends[1], ends[1]), (-16, 0), **look)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.set(xlabel="width in pixels", ylabel="height in pixels")
    steps = [base * 10**power for power in range(6) for base in (1, 2, 3, 5)]
    shown = [step for step in steps if ends[0] <= step <= ends[1]]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(shown or [round((ends[0] * ends[1]) ** 0.5)]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    drawing.alt = (
        f"Sizes of {len(accepted):,} images: {len(counted)} different ones, width {widths.min()} "
        f"to {widths.max()} pixels (median {widths.median():.0f}), height {heights.min()} to "
        f"{heights.max()} (median {heights.median():.0f})."
    )
    return drawing


def samples(dataset: Dataset, split: Split, *, per_class: int = 6, seed: int = 0) -> Drawing:
    """Returns `per_class` images of each class, drawn at random from the train split, one row a
    class (at most 20).
    """
    rng = np.random.default_rng(seed)
    shown, captions = [], []
    train = split.of("train").explode("label")  # a row for each class of an image
    white = np.full((thumbnails.SIDE, thumbnails.SIDE, 3), 255, np.uint8)
    for label in split.class_names[:_MOST_CLASSES]:
        paths = train.loc[train["label"] == label, "path"].to_numpy()
        chosen = rng.choice(paths, size=min(per_class, len(paths)), replace=False)
        shown += [thumbnails.of(dataset, path) for path in chosen]
        shown += [white] * (per_class - len(chosen))
        captions += [label] + [""] * (per_class - 1)
    title = "Samples of each class, from train"
    return run_figures.pictures(shown, captions, title=title, num_columns=per_class)


def means(pixels: Pixels, split: Split) -> Drawing:
    """Returns the mean image of each class's train images."""
    shown, train = [], split.of("train").explode("label")
    for label in split.class_names[:_MOST_CLASSES]:
        rows = pixels.rows_of(train.loc[train["label"] == label, "path"])
        total = np.zeros(pixels.array.shape[1:])
        for row in rows:  # one at a time, since all together may not fit into memory
            total += pixels.array[row]
        shown.append((total / len(rows)).round().astype(np.uint8))
    names = split.class_names[:_MOST_CLASSES]
    return run_figures.pictures(shown, names, title="Mean image of each class")


def augmented(pixels: Pixels, split: Split, policy: str, *, num: int = 11) -> Drawing:
    """Returns one train image and what the policy makes of it in eleven epochs."""
    row = int(pixels.rows_of(split.of("train")["path"].head(1))[0])
    original = np.array(pixels.array[row])
    chosen = augmentation.policy(policy)
    if chosen is None:
        return run_figures.pictures([original], ["as it is"], title="Augmentation: none")
    drawn = augmentation.draws(num, seed=0, epoch=0)
    changed = augmentation.augment(np.repeat(original[None], num, axis=0), chosen, drawn)
    captions = ["as it is", *(f"epoch {number}" for number in range(1, num + 1))]
    return run_figures.pictures([original, *changed], captions, title=f"Augmentation: {policy}")


def attributes(accepted: pd.DataFrame) -> list[str]:
    """Returns the columns of other labels that have at least two values."""
    names = [name for name in accepted.columns if name.startswith("attr_")]
    return [name for name in names if accepted[name].nunique() >= 2]


@style.in_style
def against(accepted: pd.DataFrame, names: list[str]) -> Drawing:
    """Returns one panel a column of other labels: for each value, or range, how its images divide
    by class.

    The eight largest classes have a colour each; where there are more, the others are one grey
    share, and the legend says how many they are.
    """
    drawing = Drawing(7.4, 2.6 * len(names) + 0.6)
    by_class = accepted["label"].value_counts()
    classes = sorted(by_class.index[: len(style.COLOURS)])
    num_others = len(by_class) - len(classes)
    panels = drawing.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        counts = pd.crosstab(_few_values(accepted[name]), accepted["label"])
        totals = counts.sum(axis=1)  # over all classes, shown or not
        shares = counts.div(totals, axis=0).reindex(columns=classes, fill_value=0)
        if num_others:
            shares[f"{num_others} other classes"] = 1 - shares.sum(axis=1)
        bottom = shares.cumsum(axis=1) - shares
        for index, label in enumerate(shares):
            colour = style.colour(index) if index < len(classes) else style.AXIS
            look = {"color": colour, "label": style.label(label)}
            axes.bar(np.arange(len(shares)), shares[label], bottom=bottom[label], **look)
        ticks = [f"{style.label(str(value))}\n{total:,}" for value, total in totals.items()]
        is_crowded = sum(len(tick.split("\n")[0]) + 2 for tick in ticks) > _TICK_CHARACTERS
        turn = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
        axes.set_xticks(np.arange(len(shares)), ticks, **turn)
        axes.set_title(name.removeprefix("attr_"))
        style.show_percent(axes.yaxis)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = max(1, min(5, len(labels), _TICK_CHARACTERS // (max(map(len, labels)) + 8)))
    drawing.legend(handles, labels, loc="outside lower center", ncols=columns)
    columns = ", ".join(name.removeprefix("attr_") for name in names)
    others = f"; the {num_others} smallest classes are one share" if num_others else ""
    drawing.alt = (
        f"Shares of the classes for each value of {columns}; under each bar the value and its "
        f"number of images{others}."
    )
    return drawing


def _few_values(values: pd.Series) -> pd.Series:
    """Numbers with many values become four ranges; of many names the most frequent stay and the
    others are 'other'.
    """
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > _MOST_VALUES:
        quarter = pd.qcut(values, 4, duplicates="drop")
        ends = values.groupby(quarter, observed=True)
        return quarter.map(ends.agg(lambda part: f"{part.min():g} to {part.max():g}"))
    frequent = values.value_counts().index[:_MOST_VALUES]
    return values.where(values.isin(frequent) | values.isna(), "other")


@style.in_style
def value_counts(accepted: pd.DataFrame, names: Sequence[str]) -> Drawing:
    """One panel a column of `names` (attr_*): how many images each value has, years in their order,
    names by number.
    """
    tables = {name.removeprefix("attr_"): _values_counted(accepted[name]) for name in names}
    drawing = Drawing(7.0, sum(0.21 * len(table) + 0.9 for table in tables.values()) + 0.4)
    heights = [len(table) + 3 for table in tables.values()]
    panels = drawing.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        bars = axes.barh(range(len(table)), table, height=0.68, color=style.RIGHT, alpha=0.85)
        axes.bar_label(bars, [f"{num:,}" for num in table], padding=4, fontsize=8)
        style.name_bars(axes, [style.label(str(value)) for value in table.index], fontsize=8.5)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.1 * table.max()), title=name)
    panels[-1].set_xlabel("images")
    words = [f"{name}: most {table.idxmax()} ({table.max():,})" for name, table in tables.items()]
    drawing.alt = f"Images of each value; {', '.join(words)}."
    return drawing


@style.in_style
def boxes(accepted: pd.DataFrame) -> Drawing:
    """The area of each image's box against that of the image, on logarithmic axes, with lines of
    equal shares.
    """
    table = attributes_of.box_shares(accepted)
    drawing = Drawing(5.8, 4.8, title="How much of the image the object fills")
    axes = drawing.subplots()
    axes.scatter(table["image"], table["box"], s=12, **_POINTS)
    ends = np.array([table["image"].min() / 1.3, table["image"].max() * 1.3])
    for share in (1.0, 0.5, 0.25, 0.1):
        axes.plot(ends, share * ends, **_GUIDE)
        look = {"textcoords": "offset points", "fontsize": 8}
        axes.annotate(f"{100 * share:.0f} %", (ends[1], share * ends[1]), (3, -3), **look)
    axes.set(xscale="log", yscale="log", xlim=ends, xlabel="image, pixels", ylabel="box, pixels")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(
            lambda value, _: f"{value / 1000:g} k" if value >= 1000 else f"{value:g}"
        )
        axis.set_minor_formatter(NullFormatter())
    middle, low, high = 100 * table["share"].quantile([0.5, 0.05, 0.95])
    drawing.alt = (
        f"Boxes of {len(table):,} images fill {middle:.0f} % of the image in the median, "
        f"{low:.0f} % to {high:.0f} % in nine of ten."
    )
    return drawing


def _values_counted(values: pd.Series) -> pd.Series:
    values = values.dropna()
    counted = values.value_counts()
    if pd.api.types.is_numeric_dtype(values):
        if len(counted) <= _MOST_BARS:
            return counted.sort_index()
        counted = pd.cut(values.astype(float), 20).value_counts(sort=False)
        return counted.rename(lambda interval: f"{interval.left:g} to {interval.right:g}")
    if len(counted) > _MOST_BARS:
        rest = counted[_MOST_BARS - 1 :]
        others = pd.Series({f"{len(rest)} others": rest.sum()})
        counted = pd.concat([counted[: _MOST_BARS - 1], others])
    return counted


def coarse_confusion(tables: Mapping[str, Predictions], name: str) -> Drawing:
    """The confusion matrix on test of one of the tables of `attributes.coarse`."""
    test = tables[name].split("test")
    title = f"Confusion by {name.removeprefix('attr_')}"
    return run_figures.confusion_matrix(metrics.confusion(test), test.class_names, title=title)
