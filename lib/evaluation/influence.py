"""Influence of every image on a metric: the first-order change of the value per unit of weight.

The sum of the products of two runs' influences, over images or over groups of images, estimates the
covariance of their values under resampling of images. It replaces a bootstrap at the cost of one
pass.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 22 (the infinitesimal
jackknife).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import confusion_metrics as matrices
from lib.evaluation.predictions import Predictions

Function = Callable[[np.ndarray], np.ndarray]


def of_confusion(confusion: np.ndarray, function: Function) -> np.ndarray:
    """float64 (classes, classes): the derivative of `function` with respect to each count of one
    confusion matrix.

    In closed form for the headline metrics; for any other function a central difference at the
    cells that hold images.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    exact = _DERIVATIVES.get(function)
    return _numeric(confusion, function) if exact is None else exact(confusion)


def of_images(part: Predictions, function: Function) -> np.ndarray:
    """float64 (n,): the influence of each image of one split on `function` of its confusion matrix;
    they sum to 0.
    """
    counted = matrices.counts(part.truth, part.predicted, len(part.class_names))
    return of_confusion(counted, function)[part.truth, part.predicted]


def of_labels(part: Predictions, name: str) -> tuple[float, np.ndarray]:
    """A multi-label headline metric and the influence of each image on it, float64 (n,)."""
    truths, predicted = part.truths, part.present
    hits, sums = (truths & predicted), truths.astype(np.float64) + predicted
    if name in ("accuracy", "exact_match"):
        right = (truths == predicted).mean(axis=1)
        right = right if name == "accuracy" else np.floor(right)
        return float(right.mean()), (right - right.mean()) / len(right)
    if name == "kappa":
        return _kappa_of_labels(truths, predicted)
    if name == "micro_f1":
        total = sums.sum()
        value = 2 * hits.sum() / total if total else np.nan
        return float(value), (2 * hits.sum(axis=1) - value * sums.sum(axis=1)) / total
    if name != "macro_f1":
        raise DarkroomError(f"Several labels an image have no {name!r}.")
    totals = sums.sum(axis=0)  # (classes,)
    there = totals > 0
    values = 2 * hits.sum(axis=0)[there] / totals[there]
    slopes = (2 * hits[:, there] - values * sums[:, there]) / totals[there]  # (n, classes there)
    return float(values.mean()), slopes.mean(axis=1)


def _kappa_of_labels(truths: np.ndarray, predicted: np.ndarray) -> tuple[float, np.ndarray]:
    wrong = (truths != predicted).astype(np.float64)  # (n, classes)
    p, q, error = truths.mean(axis=0), predicted.mean(axis=0), wrong.mean(axis=0)
    chance = p + q - 2 * p * q  # how often two independent raters disagree
    there = chance > 0
    if not there.any():
        return float("nan"), np.zeros(len(truths))
    p, q, error, chance = p[there], q[there], error[there], chance[there]
    moved = (truths[:, there] - p) * (1 - 2 * q) + (predicted[:, there] - q) * (1 - 2 * p)
    slopes = error / chance**2 * moved - (wrong[:, there] - error) / chance
    return float((1 - error / chance).mean()), slopes.mean(axis=1) / len(truths)


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
    matrices.accuracy: _accuracy,
    matrices.balanced_accuracy: _balanced_accuracy,
    matrices.macro_f1: _macro_f1,
    matrices.kappa: _kappa,
    matrices.matthews: _matthews,
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
