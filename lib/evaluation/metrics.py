"""Metrics of a prediction table. Undefined ones are NaN in tables and absent from `summary`.

Classes without an image in the split have no recall, F1 or ROC-AUC (NaN) and stay outside the macro
averages; a class that has images and is never predicted has precision 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import calibration, multilabel
from lib.evaluation import confusion_metrics as matrices
from lib.evaluation.predictions import Predictions


def confusion(predictions: Predictions) -> np.ndarray:
    """int64 (classes, classes): rows truth, columns prediction, in the order of `class_names`."""
    return matrices.counts(predictions.truth, predictions.predicted, len(predictions.class_names))


def headline_names(kind: str) -> tuple[str, ...]:
    """The metrics that arms can be compared by, for tables of this kind; the default is first."""
    if kind == "multilabel":
        return (*multilabel.COMPARED, "accuracy")
    return tuple(matrices.HEADLINES)


def value(part: Predictions, name: str) -> float:
    """One headline metric of one split's table, NaN where it is undefined."""
    if part.kind == "multilabel":
        return multilabel.values(part)[name]
    return float(matrices.HEADLINES[name](confusion(part)))


def per_class(predictions: Predictions) -> pd.DataFrame:
    """One row a class: `precision recall f1 support predicted roc_auc average_precision`; the index
    is its name.
    """
    if predictions.kind == "multilabel":
        return multilabel.per_class(predictions)
    counted = confusion(predictions)
    ranked = calibration.areas(predictions)
    columns = {
        "precision": matrices.precision(counted),
        "recall": matrices.recall(counted),
        "f1": matrices.f1(counted),
        "support": counted.sum(axis=1),
        "predicted": counted.sum(axis=0),
        "roc_auc": ranked["roc_auc"].to_numpy(),
        "average_precision": ranked["average_precision"].to_numpy(),
    }
    return pd.DataFrame(columns, index=pd.Index(predictions.class_names, name="class"))


def by_class(predictions: Predictions) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 (None where undefined) and number of test images of every class."""
    table = per_class(predictions.split("test"))
    scores = table[["precision", "recall", "f1"]].astype(object)
    rows = scores.where(scores.notna(), None).assign(images=table["support"].astype(int))
    return {str(name): row for name, row in rows.to_dict("index").items()}


def averages(per_class: pd.DataFrame) -> pd.DataFrame:
    """Two rows, `macro` (each class counts alike) and `weighted` (by support), of the columns
    precision, recall, f1.
    """
    present = per_class[per_class["support"] > 0]
    values = present[["precision", "recall", "f1"]]
    weighted = values.mul(present["support"], axis=0).sum() / present["support"].sum()
    return pd.DataFrame({"macro": values.mean(), "weighted": weighted}).T


def summary(predictions: Predictions, split: str) -> dict[str, float]:
    """All numbers of one split, flat and finite, ready for `result.json` and HParams; `num_images`
    among them.

    Numbers that need probabilities are left out where the table holds scores; what is ill-defined
    is left out.
    """
    of_split = predictions.split(split)
    if predictions.kind == "multilabel":
        return multilabel.summary(of_split)
    counted = confusion(of_split)
    values: dict[str, float] = {"num_images": len(of_split)}
    values |= {name: float(function(counted)) for name, function in matrices.HEADLINES.items()}
    by_class = per_class(of_split)
    mean = averages(by_class)
    for average in ("macro", "weighted"):
        values |= {
            f"{average}_{name}": float(mean.loc[average, name])
            for name in ("precision", "recall", "f1")
        }
    values |= {
        f"macro_{name}": float(by_class[name].mean()) for name in ("roc_auc", "average_precision")
    }
    if len(predictions.class_names) > 5:
        values["top_5"] = calibration.top_k(of_split, 5)
    if predictions.kind == "probability":
        values["log_loss"] = calibration.log_loss(of_split)
        values["brier"] = calibration.brier(of_split)
        values["calibration_error"] = calibration.calibration_error(of_split)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def overview(predictions: Predictions) -> pd.DataFrame:
    """`summary` of every split that the table holds, to be read: one column a split, four digits
    after the point.
    """
    table = (
        pd.DataFrame({split: summary(predictions, split) for split in predictions.splits})
        .round(4)
        .astype(object)
    )
    table.loc["num_images"] = [int(number) for number in table.loc["num_images"]]
    return table


def weighted_kappa(
    predictions: Predictions, *, order: list[str], weights: str = "quadratic"
) -> float:
    """Kappa for classes in an order, each confusion costing its distance ("linear") or its square
    ("quadratic").

    `order` is every class name once, from the lowest to the highest: sorted names have no order
    that means anything.
    """
    return float(
        matrices.kappa(
            confusion(predictions)[..., *ordered(predictions.class_names, order)], weights=weights
        )
    )


def ordered(class_names: Sequence[str], order: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The index that puts a confusion matrix, or a stack of them, into the order of the classes:
    `confusion[..., *found]`.
    """
    if sorted(order) != sorted(class_names):
        raise DarkroomError(
            f"`order` must name every class once. Expected: {sorted(class_names)}. Received: "
            f"{list(order)}."
        )
    place = [list(class_names).index(name) for name in order]
    return np.ix_(place, place)
