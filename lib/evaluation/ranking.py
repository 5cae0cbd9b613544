"""Metrics of ranked probabilities: ROC-AUC, average precision, precision and recall, top-k."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation.predictions import Predictions, blocks


def areas(predictions: Predictions) -> pd.DataFrame:
    """`roc_auc` and `average_precision` of each class against the rest; NaN where all images or
    none are of it.

    scikit-learn's definitions (a test holds that they agree), computed from one sort a class: a
    positive's rank among all gives both, which is ten times faster at a million images and 200
    classes.
    """
    rows = []
    for index in range(len(predictions.class_names)):
        scores = np.ascontiguousarray(predictions.probabilities[:, index])
        rows.append(_of_one(scores, predictions.truths[:, index]))
    names = pd.Index(predictions.class_names, name="class")
    return pd.DataFrame(rows, columns=["roc_auc", "average_precision"], index=names)


def counts_at_thresholds(
    predictions: Predictions, index: int, thresholds: np.ndarray
) -> pd.DataFrame:
    """One row a threshold: how the class at `index` against the rest falls when probabilities at or
    above it say yes.

    Columns `threshold true_positives false_positives true_negatives false_negatives precision
    recall`; precision is 1 where nothing is said to be of the class.
    """
    scores, positive = predictions.probabilities[:, index], predictions.truths[:, index]
    predicted = [
        len(values) - np.searchsorted(np.sort(values), thresholds, "left")
        for values in (scores[positive], scores)
    ]
    hits, said_yes = (values.astype(np.float64) for values in predicted)
    num_positive = int(positive.sum())
    false = said_yes - hits
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "true_positives": hits,
            "false_positives": false,
            "true_negatives": len(scores) - num_positive - false,
            "false_negatives": num_positive - hits,
            "precision": np.divide(hits, said_yes, out=np.ones_like(hits), where=said_yes > 0),
            "recall": hits / max(1, num_positive),
        }
    )


def top_k(predictions: Predictions, k: int) -> float:
    """The share of images whose true class is among the `k` most probable; equal probabilities rank
    by class order.
    """
    if not 1 <= k <= len(predictions.class_names):
        raise DarkroomError(
            f"`k` must be 1 to {len(predictions.class_names)}, the number of classes. Received: "
            f"{k}."
        )
    return float((_places(predictions) < k).mean())


def _of_one(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    num, num_positive = len(scores), int(positive.sum())
    if num_positive == 0:
        return float("nan"), float("nan")
    ordered, mine = np.sort(scores), np.sort(scores[positive])
    below, not_above = (
        np.searchsorted(ordered, mine, "left"),
        np.searchsorted(ordered, mine, "right"),
    )
    mine_below, mine_not_above = (
        np.searchsorted(mine, mine, "left"),
        np.searchsorted(mine, mine, "right"),
    )
    precision = (num_positive - mine_below) / (
        num - below
    )  # (positives,) at the threshold of each positive
    if num_positive == num:
        return float("nan"), float(precision.mean())
    others_below = (below - mine_below) + (
        (not_above - below) - (mine_not_above - mine_below)
    ) / 2  # ties count half
    return float(others_below.mean() / (num - num_positive)), float(precision.mean())


def _places(predictions: Predictions) -> np.ndarray:
    places = []
    classes = np.arange(len(predictions.class_names))
    for start, block in blocks(predictions.probabilities):
        truth = predictions.truth[start : start + len(block), None]  # (rows, 1)
        of_truth = np.take_along_axis(block, truth, axis=1)
        before = (block > of_truth) | ((block == of_truth) & (classes < truth))
        places.append(before.sum(axis=1))
    return np.concatenate(places)
