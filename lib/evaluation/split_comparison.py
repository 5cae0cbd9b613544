"""What runs were measured on: the same images or others, with near-duplicates or without, and how
many were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.evaluation.predictions import Predictions


def same_images(parts: Sequence[Predictions]) -> bool:
    """Whether all parts hold the same images in the same order."""
    first = parts[0].frame["path"].to_numpy()
    return all(np.array_equal(first, part.frame["path"].to_numpy()) for part in parts[1:])


def by_images(parts: Sequence[Predictions]) -> list[list[int]]:
    """The places of the parts, those that hold the same images together, in order of first
    appearance.
    """
    sets: list[list[int]] = []
    for place, part in enumerate(parts):
        same = next((places for places in sets if same_images([parts[places[0]], part])), None)
        sets.append([place]) if same is None else same.append(place)
    return sets


def has_groups(part: Predictions) -> bool:
    """Whether any two images of the part are near-duplicates of each other."""
    return bool(part.frame["group"].duplicated().any())


def test_train_ratio(runs: Sequence[Predictions], split: str = "test") -> float:
    """Images of `split` per training image, the mean over runs; 1 (cautious) where a run has no
    training rows.
    """
    ratios = []
    for run in runs:
        num = run.frame["split"].value_counts()
        ratios.append(num[split] / num["train"] if "train" in num else 1.0)
    return float(np.mean(ratios))
