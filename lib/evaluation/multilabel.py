"""Multi-label metrics, with thresholds from validation (`Predictions.label_thresholds`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import calibration
from lib.evaluation.predictions import Predictions

HEADLINES = ("accuracy", "exact_match", "micro_f1", "macro_f1", "kappa")
"""The numbers that get an interval: the share of image-class pairs that are right, of images with
every class right, F1, and the mean over classes of Cohen's kappa.
"""

COMPARED = ("macro_f1", "micro_f1", "exact_match", "kappa")
"""The numbers of the table of a comparison."""


def is_of(result: Mapping[str, Any]) -> bool:
    """Whether a run's result is of a model that gives an image several classes."""
    return "exact_match" in result.get("metrics", {})


def values(predictions: Predictions) -> dict[str, float]:
    """The headline numbers of one split's table, NaN where undefined."""
    return {name: value_and_influence(predictions, name)[0] for name in HEADLINES}


def value_and_influence(part: Predictions, name: str) -> tuple[float, np.ndarray]:
    """One headline number and the influence of each image on it, float64 (n,); see
    `metrics.influence`.
    """
    truths, predicted = part.truths, part.present
    hits, sums = (truths & predicted), truths.astype(np.float64) + predicted
    if name in ("accuracy", "exact_match"):
        right = (truths == predicted).mean(axis=1)
        right = right if name == "accuracy" else np.floor(right)
        return float(right.mean()), (right - right.mean()) / len(right)
    if name == "kappa":
        return _kappa_and_influence(truths, predicted)
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


def _kappa_and_influence(truths: np.ndarray, predicted: np.ndarray) -> tuple[float, np.ndarray]:
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


def names_of(labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """The classes of each row of `labels`, bool (n, classes), in words: "action + noir", "none"."""
    return [
        " + ".join(name for name, there in zip(class_names, row, strict=True) if there) or "none"
        for row in labels
    ]


def _kappa(truths: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Cohen's kappa of each class, NaN if truth and prediction are constant. Source: Cohen 1960."""
    agree = (truths == present).mean(axis=0)
    p, q = truths.mean(axis=0), present.mean(axis=0)
    chance = p * q + (1 - p) * (1 - q)
    return _ratio(agree - chance, 1 - chance)


def per_class(predictions: Predictions) -> pd.DataFrame:
    """One row a class: `precision recall f1 kappa support predicted roc_auc average_precision`; the
    index is its name.

    A class that no image bears has NaN for recall, F1 and ROC-AUC; one that is borne and never said
    has precision 0.
    """
    truths, present = predictions.truths, predictions.present
    hits, support, predicted = (
        values.sum(axis=0) for values in (truths & present, truths, present)
    )
    ranked = calibration.areas(predictions)
    columns = {
        "precision": _ratio(hits, predicted, where_none=np.where(support > 0, 0.0, np.nan)),
        "recall": _ratio(hits, support),
        "f1": np.where(support > 0, _ratio(2 * hits, support + predicted), np.nan),
        "kappa": _kappa(truths, present),
        "support": support,
        "predicted": predicted,
        "roc_auc": ranked["roc_auc"].to_numpy(),
        "average_precision": ranked["average_precision"].to_numpy(),
    }
    return pd.DataFrame(columns, index=pd.Index(predictions.class_names, name="class"))


def summary(predictions: Predictions) -> dict[str, float]:
    """All numbers of one split's table, flat and finite: `num_images`, the headlines, micro and
    macro averages.
    """
    truths, present = predictions.truths, predictions.present
    by_class = per_class(predictions)
    hits = float((truths & present).sum())
    numbers = values(predictions) | {
        "hamming_loss": float((truths != present).mean()),
        "micro_precision": float(_ratio(hits, present.sum())),
        "micro_recall": float(_ratio(hits, truths.sum())),
    }
    columns = ("precision", "recall", "roc_auc", "average_precision")
    numbers |= {f"macro_{name}": float(by_class[name].mean()) for name in columns}
    finite = {name: value for name, value in numbers.items() if np.isfinite(value)}
    return {"num_images": len(predictions), **finite}


def _ratio(
    above: np.ndarray, below: np.ndarray, *, where_none: np.ndarray | float = np.nan
) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(
        above,
        below,
        out=np.broadcast_to(where_none, above.shape).astype(np.float64),
        where=below > 0,
    )
