"""Metrics: of a confusion matrix, of a prediction table, and the influence of every image on them.

Rows of a confusion matrix are truth, columns prediction. Functions of matrices take one (classes,
classes) or a stack (..., classes, classes) of counts and return one number a matrix, so that a
thousand bootstrap draws are one call.

Of a table, undefined metrics are NaN in tables and absent from `summary`. Classes without an image
in the split have no recall, F1 or ROC-AUC (NaN) and stay outside the macro averages; a class that
has images and is never predicted has precision 0.

The influence of an image is the first-order change of a metric per unit of its weight. The sum of
the products of two runs' influences, over images or over groups of images, estimates the covariance
of their values under resampling of images. It replaces a bootstrap at the cost of one pass. Source:
Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 22 (the infinitesimal
jackknife).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from lib.evaluation import calibration, multilabel
from lib.evaluation.predictions import Predictions

LANDIS_KOCH = (
    (0.0, "slight"),
    (0.2, "fair"),
    (0.4, "moderate"),
    (0.6, "substantial"),
    (0.8, "almost perfect"),
)
"""Lower bounds of the bands; below 0 the agreement is "poor". Source: Landis and Koch, Biometrics
33 (1977), p. 165.
"""


def counts(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (classes, classes): how many images of each true class (row) were given each class
    (column).
    """
    cells = np.asarray(truth, dtype=np.int64) * num_classes + predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def shares(confusion: np.ndarray) -> np.ndarray:
    """float64, same shape: each row divided by its sum; NaN for a class without images."""
    confusion = np.asarray(confusion, dtype=np.float64)
    return _ratio(confusion, confusion.sum(axis=-1, keepdims=True))


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """The share of images on the diagonal, 0 to 1."""
    confusion = np.asarray(confusion, dtype=np.float64)
    return _ratio(_diagonal(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def recall(confusion: np.ndarray) -> np.ndarray:
    """(..., classes): the share of each true class predicted as it; NaN for one without images."""
    confusion = np.asarray(confusion, dtype=np.float64)
    return _ratio(_diagonal(confusion), confusion.sum(axis=-1))


def precision(confusion: np.ndarray) -> np.ndarray:
    """(..., classes): the share of each predicted class that was right.

    0 for a class that has images and was never predicted; NaN for a class that has neither.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    predicted = confusion.sum(axis=-2)
    value = _ratio(_diagonal(confusion), predicted)
    return np.where((predicted == 0) & (confusion.sum(axis=-1) > 0), 0.0, value)


def f1(confusion: np.ndarray) -> np.ndarray:
    """(..., classes): the harmonic mean of precision and recall; NaN for a class without images."""
    confusion = np.asarray(confusion, dtype=np.float64)
    support = confusion.sum(axis=-1)
    value = _ratio(2 * _diagonal(confusion), support + confusion.sum(axis=-2))
    return np.where(support == 0, np.nan, value)


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """The mean recall over the classes that have images."""
    return _mean_of_present(recall(confusion))


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """The mean F1 over the classes that have images."""
    return _mean_of_present(f1(confusion))


def kappa(confusion: np.ndarray, *, weights: str | None = None) -> np.ndarray:
    """Cohen's kappa, agreement beyond what the margins alone would give; -1 to 1.

    `weights` is None, "linear" or "quadratic" (for classes in an order, which is then that of the
    matrix). 0 where the margins leave no disagreement to expect (one class in truth and
    prediction).

    Source: Cohen, Educational and Psychological Measurement 20 (1960); weighted: Psychological
        Bulletin 70 (1968).
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    total = confusion.sum(axis=(-2, -1))
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)  # (..., classes)
    if weights is None:  # the general way without ever making (..., classes, classes) a second time
        disagreement = total - _diagonal(confusion).sum(axis=-1)
        expected = total - _ratio((truth * predicted).sum(axis=-1), total)
    else:
        steps = np.arange(confusion.shape[-1])
        cost = np.abs(np.subtract.outer(steps, steps)) ** {"linear": 1.0, "quadratic": 2.0}[weights]
        disagreement = (confusion * cost).sum(axis=(-2, -1))
        expected = _ratio(np.einsum("...i,ij,...j->...", truth, cost, predicted), total)
    return np.where(expected == 0, 0.0, 1 - _ratio(disagreement, expected))


def chance(confusion: np.ndarray) -> np.ndarray:
    """The agreement that the margins alone would give, 0 to 1."""
    confusion = np.asarray(confusion, dtype=np.float64)
    margins = confusion.sum(axis=-1) * confusion.sum(axis=-2)
    return _ratio(margins.sum(axis=-1), confusion.sum(axis=(-2, -1)) ** 2)


def matthews(confusion: np.ndarray) -> np.ndarray:
    """Matthews' correlation, -1 to 1; 0 where truth or prediction has one class only.

    Source: Gorodkin, Computational Biology and Chemistry 28 (2004), equation 8.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    total = confusion.sum(axis=(-2, -1))
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    covariance = total * _diagonal(confusion).sum(axis=-1) - (truth * predicted).sum(axis=-1)
    spread = np.sqrt(total**2 - (truth**2).sum(axis=-1)) * np.sqrt(
        total**2 - (predicted**2).sum(axis=-1)
    )
    return np.where(spread == 0, 0.0, _ratio(covariance, spread))


def landis_koch(value: float) -> str:
    """The band that a kappa lies in: poor, slight, fair, moderate, substantial or almost perfect.

    The bands are closed above (0.20 is still slight), as in the paper's table.
    """
    name = "poor"
    for bound, above in LANDIS_KOCH:
        if value > bound or (bound == 0.0 and value >= 0.0):
            name = above
    return name


def landis_koch_scale() -> str:
    """The bands in words: "below 0 poor, 0 to 0.2 slight, …"."""
    ends = [*(bound for bound, _ in LANDIS_KOCH[1:]), 1.0]
    bands = [
        f"{low:g} to {high:g} {name}" for (low, name), high in zip(LANDIS_KOCH, ends, strict=True)
    ]
    return ", ".join(["below 0 poor", *bands])


HEADLINES = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "kappa": kappa,
    "matthews": matthews,
}
"""The numbers that a run is judged by; each gets an interval."""


def _diagonal(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0.0).sum(axis=-1), present.sum(axis=-1))


def confusion(predictions: Predictions) -> np.ndarray:
    """int64 (classes, classes): rows truth, columns prediction, in the order of `class_names`."""
    return counts(predictions.truth, predictions.predicted, len(predictions.class_names))


def headline_names(kind: str) -> tuple[str, ...]:
    """The metrics that arms can be compared by, for tables of this kind; the default is first."""
    if kind == "multilabel":
        return (*multilabel.COMPARED, "accuracy")
    return tuple(HEADLINES)


def value(part: Predictions, name: str) -> float:
    """One headline metric of one split's table, NaN where it is undefined."""
    if part.kind == "multilabel":
        return multilabel.values(part)[name]
    return float(HEADLINES[name](confusion(part)))


def per_class(predictions: Predictions) -> pd.DataFrame:
    """One row a class: `precision recall f1 support predicted roc_auc average_precision`; the index
    is its name.
    """
    if predictions.kind == "multilabel":
        return multilabel.per_class(predictions)
    counted = confusion(predictions)
    ranked = calibration.areas(predictions)
    columns = {
        "precision": precision(counted),
        "recall": recall(counted),
        "f1": f1(counted),
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
    values |= {name: float(function(counted)) for name, function in HEADLINES.items()}
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


Function = Callable[[np.ndarray], np.ndarray]


def derivative(confusion: np.ndarray, function: Function) -> np.ndarray:
    """float64 (classes, classes): the derivative of `function` with respect to each count of one
    confusion matrix.

    In closed form for the headline metrics; for any other function a central difference at the
    cells that hold images.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    exact = _DERIVATIVES.get(function)
    return _numeric(confusion, function) if exact is None else exact(confusion)


def influence(part: Predictions, function: Function) -> np.ndarray:
    """float64 (n,): the influence of each image of one split on `function` of its confusion matrix;
    they sum to 0.
    """
    counted = counts(part.truth, part.predicted, len(part.class_names))
    return derivative(counted, function)[part.truth, part.predicted]


def _by_margins(diagonal: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    # The derivatives by the diagonal, the row sums and the column sums, as those by the counts.
    return np.diag(diagonal) + truth[:, None] + predicted[None, :]


def _inverse(values: np.ndarray) -> np.ndarray:
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def _accuracy(confusion: np.ndarray) -> np.ndarray:
    total = confusion.sum()
    return (np.eye(len(confusion)) - np.trace(confusion) / total) / total


def _balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    support = confusion.sum(axis=1)
    weight = _inverse(support) / (support > 0).sum()
    recall = np.diagonal(confusion) * _inverse(support)
    return _by_margins(weight, -weight * recall, np.zeros(len(confusion)))


def _macro_f1(confusion: np.ndarray) -> np.ndarray:
    support = confusion.sum(axis=1)
    there, scale = support > 0, _inverse(support + confusion.sum(axis=0))
    weight = 2 * there * scale / there.sum()
    shared = -weight * np.diagonal(confusion) * scale
    return _by_margins(weight, shared, shared)


def _kappa(confusion: np.ndarray) -> np.ndarray:
    total, support, predicted = confusion.sum(), confusion.sum(axis=1), confusion.sum(axis=0)
    disagreement = total - np.trace(confusion)
    chance = (support * predicted).sum() / total
    expected = total - chance
    if expected == 0:
        return np.zeros_like(confusion)
    of_expected = 1.0 + chance / total - (predicted[:, None] + support[None, :]) / total
    return (np.eye(len(confusion)) - 1 + disagreement / expected * of_expected) / expected


def _matthews(confusion: np.ndarray) -> np.ndarray:
    total, support, predicted = confusion.sum(), confusion.sum(axis=1), confusion.sum(axis=0)
    hits, ones = np.trace(confusion), np.ones(len(confusion))
    covariance = total * hits - (support * predicted).sum()
    of_truth, of_prediction = total**2 - (support**2).sum(), total**2 - (predicted**2).sum()
    if of_truth == 0 or of_prediction == 0:
        return np.zeros_like(confusion)
    change = hits + _by_margins(total * ones, -predicted, -support)
    shrink = _by_margins(
        0 * ones, (total - support) / of_truth, (total - predicted) / of_prediction
    )
    return (change - covariance * shrink) / np.sqrt(of_truth * of_prediction)


_DERIVATIVES: dict[Function, Callable[[np.ndarray], np.ndarray]] = {
    accuracy: _accuracy,
    balanced_accuracy: _balanced_accuracy,
    macro_f1: _macro_f1,
    kappa: _kappa,
    matthews: _matthews,
}


def _numeric(confusion: np.ndarray, function: Function) -> np.ndarray:
    step, gradient = 1e-4 * max(1.0, confusion.sum() / 1e3), np.zeros_like(confusion)
    for row, column in zip(*np.nonzero(confusion), strict=True):
        moved = np.stack([confusion, confusion])
        moved[0, row, column] += step
        moved[1, row, column] -= step
        above, below = function(moved)
        gradient[row, column] = (above - below) / (2 * step)
    return gradient
