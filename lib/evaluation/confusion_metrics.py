"""Confusion matrices, and metrics that are functions of them alone.

Rows are truth, columns prediction. Every function takes one matrix (classes, classes) or a stack
(..., classes, classes) of counts and returns one number a matrix, so that a thousand bootstrap
draws are one call.
"""

from __future__ import annotations

import numpy as np

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
