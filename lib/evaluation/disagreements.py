"""Where the arms of a comparison disagree: how often, and on which images most strongly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.evaluation.comparison import Comparison
from lib.evaluation.predictions import Predictions


def parts(comparison: Comparison) -> tuple[int, dict[str, Predictions]] | None:
    """The first seed that all arms have, and each arm's test predictions of it; None for one arm or
    no common seed.
    """
    common = set.intersection(
        *({unit.seed for unit in units} for units in comparison.arms.values())
    )
    if len(comparison.arms) < 2 or not common:
        return None
    seed = min(common)
    chosen = {
        arm: next(unit for unit in units if unit.seed == seed)
        for arm, units in comparison.arms.items()
    }
    return seed, {arm: unit.predictions.split("test") for arm, unit in chosen.items()}


def sentence(comparison: Comparison) -> str:
    """On how many test images all arms are right, none is, or they differ; "" for one arm or
    without a common seed.
    """
    found = parts(comparison)
    if found is None:
        return ""
    seed, of_arm = found
    right = np.stack([part.predicted == part.truth for part in of_arm.values()]).sum(axis=0)
    num, everyone, nobody = len(right), int((right == len(of_arm)).sum()), int((right == 0).sum())
    return (
        f"With seed {seed}, all arms are right on {everyone:,} of {num:,} test images, none on "
        f"{nobody:,}; "
        f"on {num - everyone - nobody:,} they differ."
    )


def images(comparison: Comparison, num: int = 12) -> pd.DataFrame:
    """The test images on which two arms name different classes and both are surest of it: `path`,
    `label`, a column an arm.

    An arm's column holds the class it names. Empty for one arm or without a common seed.
    """
    found = parts(comparison)
    if found is None:
        return pd.DataFrame(columns=["path", "label", *comparison.arms])
    _, of_arm = found
    said = np.stack([part.predicted for part in of_arm.values()], axis=1)  # (n, arms)
    sure = np.stack([part.confidence for part in of_arm.values()], axis=1)
    first = sure.argmax(axis=1)  # the surest arm, and the surest of those that contradict it
    contradicts = said != np.take_along_axis(said, first[:, None], axis=1)
    strength = np.where(contradicts, sure, 0).max(axis=1)
    order = np.argsort(-strength, kind="stable")[:num]
    order = order[strength[order] > 0]
    frame, names = (
        next(iter(of_arm.values())).frame,
        np.asarray(comparison.class_names, dtype=object),
    )
    table = pd.DataFrame(
        {"path": frame["path"].to_numpy()[order], "label": frame["label"].to_numpy()[order]}
    )
    return table.assign(**{arm: names[said[order, column]] for column, arm in enumerate(of_arm)})
