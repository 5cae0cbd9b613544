"""Images on which the arms of a comparison disagree."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.evaluation import multilabel
from lib.evaluation.comparison import Comparison
from lib.evaluation.predictions import Predictions


def parts(comparison: Comparison) -> tuple[int, dict[str, Predictions]] | None:
    """The first seed that all arms have, and each arm's test predictions of it; None for one arm or
    no common seed.
    """
    common = set.intersection(*({run.seed for run in runs} for runs in comparison.arms.values()))
    if len(comparison.arms) < 2 or not common:
        return None
    seed = min(common)
    chosen = {
        arm: next(run for run in runs if run.seed == seed) for arm, runs in comparison.arms.items()
    }
    return seed, {arm: run.predictions.split("test") for arm, run in chosen.items()}


def sentence(comparison: Comparison) -> str:
    """On how many test images all arms are right, none is, or they differ; "" for one arm or
    without a common seed.
    """
    shared = parts(comparison)
    if shared is None:
        return ""
    seed, of_arm = shared
    right = np.stack([_is_right(part) for part in of_arm.values()]).sum(axis=0)
    num, num_all_wrong = len(right), int((right == 0).sum())
    num_all_right = int((right == len(of_arm)).sum())
    return (
        f"With seed {seed}, all arms are right on {num_all_right:,} of {num:,} test images, none "
        f"on {num_all_wrong:,}; on {num - num_all_right - num_all_wrong:,} they differ."
    )


def images(comparison: Comparison, num: int = 12) -> pd.DataFrame:
    """The test images on which two arms name different classes and both are surest of it: `path`,
    `label`, a column an arm.

    An arm's column holds the class it names. Empty for one arm or without a common seed.
    """
    shared = parts(comparison)
    if shared is None:
        return pd.DataFrame(columns=["path", "label", *comparison.arms])
    _, of_arm = shared
    tables = list(of_arm.values())
    if tables[0].kind == "multilabel":
        names, labels, strength = _of_labels(tables)
    else:
        names, labels, strength = _of_classes(tables)
    order = np.argsort(-strength, kind="stable")[:num]
    order = order[strength[order] > 0]
    table = pd.DataFrame(
        {"path": tables[0].frame["path"].to_numpy()[order], "label": labels[order]}
    )
    return table.assign(**{arm: names[order, column] for column, arm in enumerate(of_arm)})


def _is_right(part: Predictions) -> np.ndarray:
    if part.kind == "multilabel":
        return (part.present == part.truths).all(axis=1)
    return part.predicted == part.truth


def _of_classes(tables: list[Predictions]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The predicted classes (n, arms), the labels (n,) and how strongly arms contradict (n,)."""
    predicted = np.stack([part.predicted for part in tables], axis=1)
    sure = np.stack([part.confidence for part in tables], axis=1)
    first = sure.argmax(axis=1)  # the surest arm, and the surest of those that contradict it
    contradicts = predicted != np.take_along_axis(predicted, first[:, None], axis=1)
    strength = np.where(contradicts, sure, 0).max(axis=1)
    names = np.asarray(tables[0].class_names, dtype=object)
    return names[predicted], tables[0].frame["label"].to_numpy(), strength


def _of_labels(tables: list[Predictions]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_of_classes`; the strength is the widest gap in a label that one arm names."""
    class_names = tables[0].class_names
    predicted = np.stack([part.present for part in tables])  # (arms, n, k)
    gap = np.ptp(np.stack([part.probabilities for part in tables]), axis=0)
    strength = np.where(predicted.any(axis=0) & ~predicted.all(axis=0), gap, 0).max(axis=1)
    names = [multilabel.names_of(labels, class_names) for labels in predicted]
    labels = np.asarray(multilabel.names_of(tables[0].truths, class_names), dtype=object)
    return np.asarray(names, dtype=object).T, labels, strength
