"""Test results by slice: by class, `attr_*` column, side and brightness; metrics on coarser
labels, and boxes.

Every number has a 95 % interval over images, by groups where images share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib.errors import DarkroomError, check_choice
from lib.evaluation import calibration, metrics, statistics
from lib.evaluation.predictions import Predictions, fold

if TYPE_CHECKING:
    from lib.data.dataset import Dataset

LEAST = 10
"""Slices with fewer images are left out."""
_MOST_VALUES = 40
_QUARTERS = 4
_COLUMNS = ["column", "value", "num", "accuracy", "low", "high", "is_worse"]
_MOST_IMAGES = 5_000  # more are not decoded for their brightness


def by_class(part: Predictions) -> pd.DataFrame:
    """`metrics.per_class` with `<name>_low` and `<name>_high` for every metric of every class, for
    one class an image and for several labels.
    """
    table = metrics.per_class(part)
    names = part.present if part.kind == "multilabel" else _one_hot(part.predicted, part)
    columns = zip(part.truths.T, names.T, part.probabilities.T, strict=True)
    rows = [_of_class(part, *column) for column in columns]
    for name in ("recall", "precision", "f1", "roc_auc", "average_precision"):
        table[[f"{name}_low", f"{name}_high"]] = np.array([row[name] for row in rows])
    return table


def scores(part: Predictions) -> pd.DataFrame:
    """`log_loss`, `brier` and `calibration_error` (debiased): `value`, `low`, `high`; no rows where
    the table holds scores instead of probabilities.

    Of several labels an image the log loss is the mean over labels, and the calibration error that
    of the whole set of them.
    """
    rows: dict[str, tuple[float, float, float]] = {}
    if part.kind == "score":
        return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("metric")
    of_truth = np.where(part.truths, part.probabilities, 1 - part.probabilities).astype(np.float64)
    losses = -np.log(np.clip(of_truth, np.finfo("f4").eps, 1))
    losses = losses.mean(axis=1) if part.kind == "multilabel" else losses[part.truths]
    squares = ((part.probabilities - part.truths) ** 2).sum(axis=1)
    limits = {"log_loss": (losses, np.inf), "brier": (squares, max(2.0, squares.max()))}
    for name, (values, highest) in limits.items():
        half = statistics.NORMAL * np.sqrt(_variance(part, (values - values.mean()) / len(values)))
        mean = float(values.mean())
        rows[name] = (mean, max(0.0, mean - half), min(highest, mean + half))
    square, slopes, rest = calibration.squared_calibration_error(part)
    half = statistics.NORMAL * np.sqrt(_variance(part, slopes) + rest)
    squares = np.array([square, square - half, square + half])
    rows["calibration_error"] = tuple(np.sqrt(np.clip(squares, 0, 1)))
    return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("metric")


def columns(dataset: Dataset, paths: Sequence[str]) -> pd.DataFrame:
    """Returns the columns to slice by, one row a path: `attr_*` columns, `side`, `brightness`."""
    from lib.data import thumbnails

    rows = dataset.accepted().set_index("path").loc[list(paths)]
    attributes = rows[[name for name in rows.columns if name.startswith("attr_")]].copy()
    attributes["side"] = rows[["width", "height"]].max(axis=1)
    if len(rows) <= _MOST_IMAGES:
        attributes["brightness"] = [float(thumbnails.of(dataset, path).mean()) for path in paths]
    return attributes


def by_column(part: Predictions, values: pd.DataFrame) -> pd.DataFrame:
    """One row a slice of at least ten images: `column`, `value`, `num`, `accuracy`, `low`, `high`.

    Numbers with many values are cut into quarters. `values` has one row a path of `part`. The
    intervals are corrected for the number of slices (Bonferroni), so that the worst one holds;
    `is_worse` says that a slice lies significantly below the others. Ordered by accuracy.
    """
    values = values.loc[part.frame["path"]]
    right = _right(part)
    slices = [
        (name, value, place)
        for name in values.columns
        for value, place in _groups(values[name])
        if place.sum() >= LEAST and (~place).sum() >= LEAST
    ]
    rows = [_slice(part, right, one, level=1 - 0.05 / len(slices)) for one in slices]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.sort_values("accuracy", kind="stable", ignore_index=True)


def sentence(table: pd.DataFrame, part: Predictions) -> str:
    """The worst slice with its interval, and whether it is significantly worse than the others."""
    if table.empty:
        return f"No column splits the test images into slices of {LEAST} or more."
    worst, overall = table.iloc[0], float(_right(part).mean())
    verdict = "significantly below" if worst["is_worse"] else "not significantly below"
    name = f"{worst['column'].removeprefix('attr_')} {_short(worst['value'])}"
    return (
        f"Worst of {len(table)} slices: {name}, "
        f"accuracy {100 * worst['accuracy']:.1f} % ({worst['num']:,} images; 95 % "
        f"{100 * worst['low']:.1f} to {100 * worst['high']:.1f} %, corrected for {len(table)} "
        f"slices), {verdict} the others; all images {100 * overall:.1f} %."
    )


def _short(value: str) -> str:
    """A value of a column; numbers with decimals have three digits."""
    try:
        return f"{float(value):.3g}" if "." in value else value
    except ValueError:
        return value


def _slice(
    part: Predictions, right: np.ndarray, one: tuple[str, str, np.ndarray], *, level: float
) -> dict[str, Any]:
    from scipy.special import ndtri

    name, value, place = one
    quantile = float(ndtri((1 + level) / 2))
    inside = np.where(place, (right - right[place].mean()) / place.sum(), 0.0)
    outside = np.where(~place, (right - right[~place].mean()) / (~place).sum(), 0.0)
    accuracy, half = float(right[place].mean()), quantile * np.sqrt(_variance(part, inside))
    num = int(np.unique(part.groups[place]).size)
    low, high = statistics.bounded_interval(accuracy, float(half), num=num)
    gap = float(right[~place].mean()) - accuracy
    is_worse = bool(gap > quantile * np.sqrt(_variance(part, inside - outside)) > 0)
    row = {"column": name, "value": value, "num": int(place.sum()), "accuracy": accuracy}
    return row | {"low": low, "high": high, "is_worse": is_worse}


def _groups(values: pd.Series) -> list[tuple[str, np.ndarray]]:
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > _QUARTERS:
        cut = pd.qcut(values.astype(float), _QUARTERS, duplicates="drop")
        spans = cut.map(lambda span: f"{span.left:.4g} to {span.right:.4g}", na_action="ignore")
        names = spans.astype(object)
    else:
        names = values.astype(object)
    counts = names.value_counts()
    return [(str(name), (names == name).to_numpy()) for name in counts.index[:_MOST_VALUES]]


def _right(part: Predictions) -> np.ndarray:
    if part.kind == "multilabel":
        return (part.present == part.truths).all(axis=1).astype(np.float64)
    return (part.predicted == part.truth).astype(np.float64)


def _variance(part: Predictions, slopes: np.ndarray) -> float:
    _, group = np.unique(part.groups, return_inverse=True)
    return float((np.bincount(group, slopes) ** 2).sum())


def _one_hot(classes: np.ndarray, part: Predictions) -> np.ndarray:
    return classes[:, None] == np.arange(len(part.class_names))


def _of_class(
    part: Predictions, truth: np.ndarray, predicted: np.ndarray, scores: np.ndarray
) -> dict[str, tuple[float, float]]:
    from scipy.special import stdtrit

    hit = truth & predicted
    weights = {"recall": truth, "precision": predicted, "f1": (truth.astype(float) + predicted) / 2}
    ends = dict.fromkeys((*weights, "roc_auc", "average_precision"), (np.nan, np.nan))
    if not truth.any():
        return ends

    def interval(
        value: float, slopes: np.ndarray, num: float, quantile: float = statistics.NORMAL
    ) -> tuple[float, float]:
        half = quantile * np.sqrt(_variance(part, slopes))
        return statistics.bounded_interval(value, float(half), num=max(1, int(num)))

    for name, weight in weights.items():
        if total := weight.sum():
            value = float(hit.sum() / total)
            ends[name] = interval(value, (hit - value * weight) / total, total)
    if not truth.all():
        # The variance is that of few images of the rarer side: Student's t, as for their mean.
        least = min(truth.sum(), (~truth).sum())
        few = stdtrit(max(least - 1, 1), 0.975) * np.sqrt(least / max(least - 1, 1))
        for name, (value, slopes) in ranking_influences(scores, truth).items():
            ends[name] = interval(value, slopes, truth.sum(), few)
    return ends


def ranking_influences(
    scores: np.ndarray, truth: np.ndarray
) -> dict[str, tuple[float, np.ndarray]]:
    """`roc_auc` and `average_precision` of one class against the rest, and the influence of each
    image on them, float64 (n,); equal scores count together.
    """
    mine, others, ordered = np.sort(scores[truth]), np.sort(scores[~truth]), np.sort(scores)
    # AUC: the share of the other side that an image is on the right side of, ties half.
    other = np.where(truth, _share_below(others, scores), 1 - _share_below(mine, scores))
    area = float(other[truth].mean())
    of_area = (other - area) / np.where(truth, len(mine), len(others))
    # Average precision: the mean over positives of the precision at their score, to which every
    # image of that score or above contributes.
    num_above = len(ordered) - np.searchsorted(ordered, mine, "left")
    precision = (len(mine) - np.searchsorted(mine, mine, "left")) / num_above
    average, below = float(precision.mean()), np.searchsorted(mine, scores, "right")
    hits, all_of_it = (
        np.append(0.0, np.cumsum(values / num_above))[below] for values in (1.0, precision)
    )
    own = len(mine) - np.searchsorted(mine, scores, "left")
    own = own / (len(ordered) - np.searchsorted(ordered, scores, "left"))
    of_average = (truth * (own - average + hits) - all_of_it) / len(mine)
    return {"roc_auc": (area, of_area), "average_precision": (average, of_average)}


def _share_below(ordered: np.ndarray, scores: np.ndarray) -> np.ndarray:
    sides = [np.searchsorted(ordered, scores, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / 2 / len(ordered)


UNNAMED = "other"
"""The group of classes whose attribute is not known."""

_BOX = ("box_left", "box_top", "box_right", "box_bottom")


def has_boxes(accepted: pd.DataFrame) -> bool:
    """Whether at least one image has a box."""
    return all(name in accepted for name in _BOX) and bool(
        accepted[list(_BOX)].notna().all(axis=1).any()
    )


def box_shares(accepted: pd.DataFrame) -> pd.DataFrame:
    """Returns `image` and `box` (pixels) and `share` of every image with a box, in the rows' order.

    Raises DarkroomError where no image has one.
    """
    if not has_boxes(accepted):
        raise DarkroomError(
            "No image of this data set has a box; boxes come with the source (box_left, box_top, "
            "…)."
        )
    rows = accepted[accepted[list(_BOX)].notna().all(axis=1)]
    left, top, right, bottom = (rows[name].astype(float) for name in _BOX)
    area, image = (right - left) * (bottom - top), rows["width"].astype(float) * rows["height"]
    return pd.DataFrame(
        {"path": rows["path"], "image": image, "box": area, "share": area / image}
    ).reset_index(drop=True)


def groups(accepted: pd.DataFrame, column: str, class_names: Sequence[str]) -> dict[str, str]:
    """Returns each class name's value of `column` as text, "other" where it has none.

    Raises DarkroomError for an unknown column, and where images of one class differ in it: then it
    is no coarser label.
    """
    known = [name for name in accepted.columns if name.startswith("attr_")]
    check_choice("column", column, known)
    coarse_of: dict[str, str] = {}
    for name in class_names:
        values = accepted.loc[accepted["label"] == name, column].dropna().unique()
        if len(values) > 1:
            raise DarkroomError(
                f"{column} is no coarser label: images of {name!r} have {len(values)} values of it."
            )
        coarse_of[name] = str(values[0]) if len(values) else UNNAMED
    return coarse_of


def coarse(
    predictions: Predictions, accepted: pd.DataFrame, columns: Sequence[str]
) -> dict[str, Predictions]:
    """Returns the predictions as they are under "label", and folded by each column."""
    coarser = {
        name: fold(predictions, groups(accepted, name, predictions.class_names)) for name in columns
    }
    return {"label": predictions, **coarser}


def judged(tables: dict[str, Predictions]) -> pd.DataFrame:
    """Returns one row a table of `coarse`: classes, accuracy, macro F1 and kappa on test, each with
    its 95 % interval.
    """
    rows = {}
    for name, part in tables.items():
        numbers, rows[name] = statistics.headline(part), {"classes": len(part.class_names)}
        for number in ("accuracy", "macro_f1", "kappa"):
            low, high = numbers[f"{number}_low"], numbers[f"{number}_high"]
            rows[name] |= {number: numbers[number], f"{number} 95 %": f"{low:.3f} to {high:.3f}"}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("judged by")
