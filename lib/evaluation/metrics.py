"""The numbers of one prediction table. What is ill-defined is NaN in tables, left out of `summary`, never a warning.

Classes without an image in the split have no recall, F1 or ROC-AUC (NaN) and stay outside the macro averages; a class
that has images and is never predicted has precision 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import calibration
from lib.evaluation import confusion as matrices
from lib.evaluation.checks import blocks
from lib.evaluation.predictions import Predictions


def confusion(predictions: Predictions) -> np.ndarray:
    """int64 (classes, classes): rows truth, columns prediction, both in the order of `class_names`."""
    return matrices.counts(predictions.truth, predictions.predicted, len(predictions.class_names))


def per_class(predictions: Predictions) -> pd.DataFrame:
    """One row a class: `precision recall f1 support predicted roc_auc average_precision`; the index is its name."""
    counted = confusion(predictions)
    ranked = ranking(predictions)
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


def averages(per_class: pd.DataFrame) -> pd.DataFrame:
    """Two rows, `macro` (each class counts alike) and `weighted` (by support), of the columns precision, recall, f1."""
    present = per_class[per_class["support"] > 0]
    values = present[["precision", "recall", "f1"]]
    weighted = values.mul(present["support"], axis=0).sum() / present["support"].sum()
    return pd.DataFrame({"macro": values.mean(), "weighted": weighted}).T


def ranking(predictions: Predictions) -> pd.DataFrame:
    """`roc_auc` and `average_precision` of each class against the rest; NaN where all images or none are of it.

    scikit-learn's definitions (a test holds that they agree), computed from one sort a class: a positive's rank among
    all gives both, which is ten times faster at a million images and 200 classes.
    """
    rows = []
    for index in range(len(predictions.class_names)):
        scores = np.ascontiguousarray(predictions.probabilities[:, index])
        rows.append(_ranking_of_one(scores, predictions.truth == index))
    names = pd.Index(predictions.class_names, name="class")
    return pd.DataFrame(rows, columns=["roc_auc", "average_precision"], index=names)


def top_k(predictions: Predictions, k: int) -> float:
    """The share of images whose true class is among the `k` most probable; equal probabilities rank by class order."""
    if not 1 <= k <= len(predictions.class_names):
        raise DarkroomError(f"`k` must be 1 to {len(predictions.class_names)}, the number of classes. Received: {k}.")
    return float((_places(predictions) < k).mean())


def summary(predictions: Predictions, split: str) -> dict[str, float]:
    """All numbers of one split, flat and finite, ready for `result.json` and HParams; `num_images` among them.

    Numbers that need probabilities are left out where the table holds scores; what is ill-defined is left out.
    """
    of_split = predictions.split(split)
    counted = confusion(of_split)
    values: dict[str, float] = {"num_images": len(of_split)}
    values |= {name: float(function(counted)) for name, function in matrices.HEADLINES.items()}
    by_class = per_class(of_split)
    mean = averages(by_class)
    for average in ("macro", "weighted"):
        values |= {f"{average}_{name}": float(mean.loc[average, name]) for name in ("precision", "recall", "f1")}
    values |= {f"macro_{name}": float(by_class[name].mean()) for name in ("roc_auc", "average_precision")}
    if len(predictions.class_names) > 5:
        values["top_5"] = top_k(of_split, 5)
    if predictions.kind == "probability":
        values["log_loss"] = calibration.log_loss(of_split)
        values["brier"] = calibration.brier(of_split)
        values["calibration_error"] = calibration.calibration_error(of_split)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def overview(predictions: Predictions) -> pd.DataFrame:
    """`summary` of every split that the table holds, one row a split: train, val, test side by side."""
    return pd.DataFrame({split: summary(predictions, split) for split in predictions.splits}).T.rename_axis("split")


def weighted_kappa(predictions: Predictions, *, order: list[str], weights: str = "quadratic") -> float:
    """Kappa for classes in an order, each confusion costing its distance ("linear") or its square ("quadratic").

    `order` is every class name once, from the lowest to the highest: sorted names have no order that means anything.
    """
    if sorted(order) != sorted(predictions.class_names):
        raise DarkroomError(
            f"`order` must name every class once. Expected: {sorted(predictions.class_names)}. Received: {order}."
        )
    place = [predictions.class_names.index(name) for name in order]
    return float(matrices.kappa(confusion(predictions)[np.ix_(place, place)], weights=weights))


def hardest(predictions: Predictions, num: int = 24) -> pd.DataFrame:
    """The `num` images whose true class got the least probability: `path label predicted of_truth confidence`."""
    of_truth = predictions.probabilities[np.arange(len(predictions)), predictions.truth]
    worst = np.argsort(of_truth, kind="stable")[:num]
    names = np.asarray(predictions.class_names, dtype=object)
    return pd.DataFrame(
        {
            "path": predictions.frame["path"].to_numpy()[worst],
            "label": names[predictions.truth[worst]],
            "predicted": names[predictions.predicted[worst]],
            "of_truth": of_truth[worst],
            "confidence": predictions.confidence[worst],
        }
    )


def _ranking_of_one(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    num, num_positive = len(scores), int(positive.sum())
    if num_positive == 0:
        return float("nan"), float("nan")
    ordered, mine = np.sort(scores), np.sort(scores[positive])
    below, not_above = np.searchsorted(ordered, mine, "left"), np.searchsorted(ordered, mine, "right")
    mine_below, mine_not_above = np.searchsorted(mine, mine, "left"), np.searchsorted(mine, mine, "right")
    precision = (num_positive - mine_below) / (num - below)  # (positives,) at the threshold of each positive
    if num_positive == num:
        return float("nan"), float(precision.mean())
    others_below = (below - mine_below) + ((not_above - below) - (mine_not_above - mine_below)) / 2  # ties count half
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
