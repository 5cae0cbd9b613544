"""Probable label errors and outliers, from the features of a pretrained network.

Labels by confident learning: what a classifier that has not seen a picture is sure of, against its
label. Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset
Labels, JAIR 70 (2021), section 3; written from the paper, since the authors' library is AGPL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.cleaning import outliers
from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

FOLDS = 5
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
    probabilities = out_of_fold(rows, numbers, groups=groups)
    told = confident(numbers, probabilities)
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


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, *, groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Returns for each picture the probabilities (n, classes) of a logistic regression that was
    fitted without its group.

    `features` is float (n, d), `labels` are class numbers from 0, `groups` the near-duplicate
    groups: a twin with the same wrong label would vouch for it. Classes are weighted alike, so that
    a rare one is not argued away.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.asarray(features, np.float32)
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
    found = np.full((len(rows), int(labels.max()) + 1), 1e-6)
    folds = min(FOLDS, int(np.bincount(labels).min()), len(np.unique(groups)))
    if folds < 2:
        raise ValueError(
            "each class needs at least two pictures to be judged out of fold. Received: "
            f"{np.bincount(labels)}."
        )
    divided = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, rest in divided.split(rows, labels, groups):
        known = np.unique(labels[train])
        if len(known) < 2:
            continue
        # Features of length 1 need a weak penalty; its exact strength moves the ranking little.
        model = LogisticRegression(C=30.0, max_iter=200, tol=1e-3, class_weight="balanced").fit(
            rows[train], labels[train]
        )
        found[np.ix_(rest, known)] = model.predict_proba(rows[rest])
    return found / found.sum(axis=1, keepdims=True)


def confident(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Returns one row a picture: `suggested` (class number), `wrong` (whether it is counted as
    mislabelled) and `score`.

    A class's threshold is the mean probability that its own pictures have of it. A picture is
    confidently of the likeliest class whose threshold it reaches; it is wrong where that is another
    than its label: off the diagonal of the confident joint. `score` is the probability of its own
    label, 0 (worst) to 1.
    """
    own = probabilities[np.arange(len(labels)), labels]  # (n,)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    thresholds = np.bincount(labels, weights=own, minlength=len(counts)) / np.maximum(
        counts, 1
    )  # (classes,)
    # Balanced weights and rounding: a probability that equals its threshold reaches it.
    reached = np.where((probabilities >= thresholds - 1e-9) & (counts > 0), probabilities, -1.0)
    suggested = reached.argmax(axis=1)
    sure = reached.max(axis=1) >= 0
    return pd.DataFrame(
        {
            "suggested": np.where(sure, suggested, labels),
            "wrong": sure & (suggested != labels),
            "score": own,
        }
    )
