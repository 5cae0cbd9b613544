"""Multi-label metrics, with thresholds from validation (`Predictions.label_thresholds`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation import calibration, influence
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
    return {name: influence.of_labels(predictions, name)[0] for name in HEADLINES}


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
