"""Figures of baselines: thumbnails, weights as pictures, and scores against parameters."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes

from lib.baselines import search
from lib.baselines.data import Size, ThumbnailData
from lib.baselines.model import Model
from lib.reporting import run_figures, style
from lib.reporting.style import Drawing

_MAX_PICTURES, _MAX_ROWS = 24, 20
_DISPLAY_SIDE = 160  # thumbnails are enlarged to whole multiples, so that their pixels stay squares


def thumbnails(data: ThumbnailData, size: Size, *, num: int = 12) -> Drawing:
    """Draws train images as the models see them, spread over the classes."""
    rows = data.split.of("train")
    order = (
        rows.groupby(rows["label"].map(_names)).cumcount().sort_values(kind="stable").index[:num]
    )
    images = data.images("train", size)[order]
    title = f"Train images at {size[0]} × {size[1]} pixels: {3 * size[0] * size[1]:,} numbers each"
    captions = [_names(names) for names in data.labels_by_path.loc[rows["path"].iloc[order]]]
    return run_figures.pictures([_enlarge(image) for image in images], captions, title=title)


def weights(model: Model) -> np.ndarray | None:
    """Returns float64 (pictures, height, width, 3): the weights of the pixels for each class.

    For a network they are those of its hidden units; None for a model without pixel weights.
    """
    values = _weights(model.pipeline[-1])
    if values is None:
        return None
    if len(values) == 1 and len(model.class_names) == 2 and not model.multilabel:
        values = np.concatenate([-values, values])  # two classes share one row, with signs
    return values.reshape(len(values), *model.size, 3)


def weights_drawing(model: Model) -> Drawing | None:
    """Draws the weights, a picture a class or hidden unit; grey is 0, colours favour the class."""
    values = weights(model)
    if values is None:
        return None
    values = values[:_MAX_PICTURES]
    scale = np.quantile(np.abs(values), 0.99, axis=(1, 2, 3), keepdims=True)
    pictures = np.clip(127.5 + 127.5 * values / np.maximum(scale, 1e-12), 0, 255).astype(np.uint8)
    of_classes = len(values) == len(model.class_names) and model.kind != "mlp"
    captions = (
        list(model.class_names)
        if of_classes
        else [f"unit {number}" for number in range(len(values))]
    )
    title = "Weights of each class" if of_classes else "Weights of the first hidden units"
    height, width = model.size
    title = f"{title}, {height} × {width} pixels"
    return run_figures.pictures(
        [_enlarge(part) for part in pictures], captions, title=title, num_columns=8
    )


@style.in_style
def scores(
    table: pandas.DataFrame,
    *,
    title: str = "Score by size and parameters",
    measure: str = "accuracy",
) -> Drawing:
    """Draws the results: against the numeric parameter with most values, otherwise row by row."""
    values = pandas.DataFrame([json.loads(text) for text in table["parameters"]])
    numbers = {
        name: values[name].nunique()
        for name in values
        if pandas.api.types.is_numeric_dtype(values[name])
    }
    name = max(numbers, key=numbers.__getitem__) if numbers else None
    if name is None or numbers[name] < 3:
        return _rows(table, title, measure)
    sizes = table[["height", "width"]].drop_duplicates().sort_values(["height", "width"])
    drawing = Drawing(7.6, 4.0)
    axes = drawing.subplots()
    for index, size in enumerate(sizes.itertuples(index=False)):
        is_size = (table["height"] == size.height) & (table["width"] == size.width)
        _line(
            axes,
            table[is_size],
            values.loc[is_size, name],
            index,
            f"{size.height} × {size.width}",
        )
    positive = values[name][values[name] > 0]
    if len(positive) == len(values) and positive.max() / positive.min() >= 20:
        style.logarithmic(axes.xaxis)
    axes.set(xlabel=name, ylabel=measure)
    axes.grid(axis="y")
    style.show_percent(axes.yaxis)
    style.set_title(drawing, title)
    drawing.legend(
        loc="outside lower center", ncols=2 if len(sizes) == 1 else min(4, len(sizes))
    )  # train under validation
    best = table.iloc[0]
    at = json.loads(best["parameters"])[name]
    where = f"{name} {at}, {best['height']} × {best['width']}"
    drawing.alt = (
        f"{title}: best on validation, {measure} {100 * best['val_accuracy']:.1f} % at {where}."
    )
    return drawing


def _line(
    axes: Axes, part: pandas.DataFrame, numbers: pandas.Series, index: int, size: str
) -> None:
    """The best model of each value on validation, with its interval, and the same on train."""
    best = (
        part.assign(at=numbers).sort_values("val_accuracy").groupby("at").tail(1).sort_values("at")
    )
    colour = style.colour(index)
    at = best["at"]
    axes.fill_between(at, best["val_low"], best["val_high"], color=colour, alpha=0.13, linewidth=0)
    label = f"{size}, validation"
    axes.plot(at, best["val_accuracy"], "o-", color=colour, markersize=4, label=label)
    axes.plot(at, best["train_accuracy"], "--", color=colour, label=f"{size}, train")


@style.in_style
def _rows(table: pandas.DataFrame, title: str, measure: str) -> Drawing:
    rows = table.head(_MAX_ROWS)[::-1]
    values = search.varied_parameters(table).loc[rows.index].to_dict("records")
    labels = [
        _row_label(row, own) for row, own in zip(rows.to_dict("records"), values, strict=True)
    ]
    drawing = Drawing(7.6, 0.34 * len(rows) + 1.5)
    axes = drawing.subplots()
    places = np.arange(len(rows))
    blue, orange = style.COLOURS[:2]
    axes.hlines(places, rows["val_low"], rows["val_high"], color=blue, alpha=0.35, linewidth=5)
    axes.plot(rows["val_accuracy"], places, "o", color=blue, label="validation, 95 %")
    axes.plot(rows["train_accuracy"], places, "D", color=orange, markersize=4, label="train")
    axes.set_yticks(places, labels)
    axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel=measure)
    axes.grid(axis="x")
    style.show_percent(axes.xaxis)
    style.set_title(drawing, title)
    drawing.legend(loc="outside lower center", ncols=2)
    best = f"{labels[-1]}, has {measure} {100 * table.iloc[0]['val_accuracy']:.1f} %"
    drawing.alt = f"{title}: the best of {len(table)}, {best}."
    return drawing


def _row_label(row: dict[str, Any], values: dict[str, Any]) -> str:
    short = ", ".join(f"{name} {value}" for name, value in values.items())
    return style.label(f"{row['height']} × {row['width']}  {short}".rstrip(), most=60)


def _names(names: Any) -> str:
    return names if isinstance(names, str) else ", ".join(names) or "none"


def _enlarge(image: np.ndarray) -> np.ndarray:
    times = max(1, _DISPLAY_SIDE // max(image.shape[:2]))
    return np.repeat(np.repeat(image, times, axis=0), times, axis=1)


def _weights(estimator: Any) -> np.ndarray | None:
    if hasattr(estimator, "coefs_"):
        return np.asarray(estimator.coefs_[0].T, np.float64)
    parts = [_weights(part) for part in getattr(estimator, "estimators_", [])]
    if parts and hasattr(estimator, "multilabel_"):
        whole = [part for part in parts if part is not None and len(part) == 1]
        return np.concatenate(whole) if len(whole) == len(parts) else None
    coefficients = getattr(estimator, "coef_", None)
    return None if coefficients is None else np.atleast_2d(np.asarray(coefficients, np.float64))
