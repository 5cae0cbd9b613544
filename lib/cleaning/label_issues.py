"""Probably wrong labels and outliers: what a pretrained network's features tell, once for all
pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.cleaning import confident_learning, outliers
from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

FEWEST = 20
"""With fewer pictures nothing can be said about what is usual."""


@dataclass(frozen=True)
class Look:
    """Which pretrained network looks at the pictures, and at which side in px. The same side and
    fit as a training shares its cache of pixels and features.
    """

    architecture: str = "efficientnet_lite0"
    image_side: int = 128
    fit: str = "stretch"


def find(
    dataset: Dataset,
    table: pd.DataFrame,
    look: Look,
    *,
    outlier: float,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, str, float, str]]:
    """Returns findings (path, reason, score, detail) of the reasons `wrong_label` and `outlier`
    among the rows of `table`.

    `table` holds `path`, `pixels`, `label` and `group` of the pictures that training would see.
    `outlier` is how many robust standard deviations above the usual a distance is one. Classes of a
    single picture are not judged.
    """
    several = (table["label"].map(table["label"].value_counts()) >= 2).to_numpy(bool)
    judged = table[several].reset_index(drop=True)
    if len(judged) < FEWEST or judged["label"].nunique() < 2:
        return []
    rows = features(dataset, table, look, progress=progress)[several]
    groups = judged["group"].to_numpy()
    return [*_wrong(judged, rows, groups), *_far(judged, rows, groups, outlier)]


def features(
    dataset: Dataset,
    table: pd.DataFrame,
    look: Look,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Returns the pictures' features in the order of `table`, float32 (n, d).

    They come through `feature_cache`, from the layer before the head. Raises DarkroomError for an
    unknown network or one that has no pretrained weights.
    """
    if look.architecture == "custom":
        raise DarkroomError(
            "Only a pretrained network can judge pictures it has not learnt; 'custom' starts from "
            "nothing."
        )
    from lib import models
    from lib.models import feature_cache

    decoded = pixel_cache.cache(
        dataset, side=look.image_side, fit=look.fit, rows=table, progress=progress
    )
    names = sorted(map(str, table["label"].unique()))
    model = models.build(look.architecture, class_names=names, image_side=look.image_side)
    stored = feature_cache.ensure(
        model, decoded.array, images_key=decoded.key, folder=dataset.folder / "features"
    )
    return np.asarray(stored)[decoded.rows_of(table["path"])]


def _wrong(
    table: pd.DataFrame, rows: np.ndarray, groups: np.ndarray
) -> list[tuple[str, str, float, str]]:
    names, numbers = np.unique(table["label"].to_numpy(str), return_inverse=True)
    probabilities = confident_learning.out_of_fold(rows, numbers, groups=groups)
    told = confident_learning.confident(numbers, probabilities)
    return [
        (
            table["path"][at],
            "wrong_label",
            float(told["score"][at]),
            f"labelled {names[numbers[at]]} ({100 * told['score'][at]:.0f} %), looks like "
            f"{names[told['suggested'][at]]} "
            f"({100 * probabilities[at, told['suggested'][at]]:.0f} %)",
        )
        for at in np.flatnonzero(told["wrong"])
    ]


def _far(
    table: pd.DataFrame, rows: np.ndarray, groups: np.ndarray, limit: float
) -> list[tuple[str, str, float, str]]:
    classes = table["label"].to_numpy(str)
    deviations = outliers.deviations(
        outliers.distances(rows, labels=classes, groups=groups), labels=classes
    )
    return [
        (
            table["path"][at],
            "outlier",
            float(np.clip(limit / deviations[at], 0, 1)),
            f"the nearest of its class are {deviations[at]:.1f} deviations farther than usual",
        )
        for at in np.flatnonzero(deviations > limit)
    ]
