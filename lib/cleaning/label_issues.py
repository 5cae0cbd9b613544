"""Probable label errors and outliers, from the features of a pretrained network.

Label errors by confident learning: confident predictions of a classifier that was not fitted to the
picture, against its label. Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating
Uncertainty in Dataset Labels, JAIR 70 (2021), section 3; written from the paper, since the authors'
library is AGPL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

Counting = Callable[[str], Callable[[int, int], None] | None]
"""Takes what is counted, such as "files read", and returns a function of (done, total)."""
FOLDS = 5
MIN_PICTURES = 20
"""Data sets of fewer pictures are not judged."""
NEIGHBOURS = 10
_BLOCK = 1024
_PRIOR = 20


@dataclass(frozen=True)
class EmbeddingConfig:
    """A pretrained network and how pictures are scaled for it, `image_side` in px.

    With the side and fit of a training, the caches of pixels and features are shared.
    """

    architecture: str = "efficientnet_lite0"
    image_side: int = 128
    fit: str = "stretch"


def find(
    dataset: Dataset,
    table: pd.DataFrame,
    embedding: EmbeddingConfig,
    *,
    outlier: float,
    counting: Counting | None = None,
) -> list[tuple[str, str, float, str]]:
    """Returns findings (path, reason, score, detail) of the reasons `wrong_label` and `outlier`
    among the rows of `table`.

    `table` holds `path`, `pixels`, `label` and `group` of the pictures that training would see. A
    distance more than `outlier` robust standard deviations above its class is an outlier. Classes
    of a single picture are not judged.
    """
    several = (table["label"].map(table["label"].value_counts()) >= 2).to_numpy(bool)
    judged = table[several].reset_index(drop=True)
    if len(judged) < MIN_PICTURES or judged["label"].nunique() < 2:
        return []
    rows = features(dataset, table, embedding, counting=counting)[several]
    groups = judged["group"].to_numpy()
    names, numbers = np.unique(judged["label"].to_numpy(str), return_inverse=True)
    probabilities = out_of_fold(rows, numbers, groups=groups)
    issues = []
    for at, row in confident(numbers, probabilities).query("wrong").iterrows():
        sure = 100 * probabilities[at, int(row["suggested"])]
        detail = (
            f"labelled {names[numbers[at]]} ({100 * row['score']:.0f} %), looks like "
            f"{names[int(row['suggested'])]} ({sure:.0f} %)"
        )
        issues.append((judged["path"][at], "wrong_label", float(row["score"]), detail))
    away = deviations(distances(rows, labels=numbers, groups=groups), labels=numbers)
    for at in np.flatnonzero(away > outlier):
        detail = f"its neighbours in the class are {away[at]:.1f} deviations farther than usual"
        issues.append((judged["path"][at], "outlier", float(outlier / away[at]), detail))
    return issues


def features(
    dataset: Dataset,
    table: pd.DataFrame,
    embedding: EmbeddingConfig,
    *,
    counting: Counting | None = None,
) -> np.ndarray:
    """Returns the pictures' features in the order of `table`, float32 (n, d).

    They come through `feature_cache`, from the layer before the head. Raises DarkroomError for an
    unknown network or one that has no pretrained weights.
    """
    if embedding.architecture == "custom":
        raise DarkroomError(
            "Only a pretrained network can judge pictures it was not trained on; 'custom' starts "
            "from nothing."
        )
    from lib import models
    from lib.models import feature_cache

    counting = counting or (lambda what: None)
    decoded = pixel_cache.cache(
        dataset,
        side=embedding.image_side,
        fit=embedding.fit,
        rows=table,
        progress=counting("pictures decoded for the network"),
    )
    names = sorted(map(str, table["label"].unique()))
    model = models.build(embedding.architecture, class_names=names, image_side=embedding.image_side)
    stored = feature_cache.ensure(
        model,
        decoded.array,
        images_key=decoded.key,
        folder=dataset.folder / "features",
        progress=counting("pictures seen by the network"),
    )
    return np.asarray(stored)[decoded.rows_of(table["path"])]


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, *, groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Returns for each picture the probabilities (n, classes) of a logistic regression that was
    fitted without its group.

    `features` is float (n, d), `labels` are class numbers from 0, `groups` the near-duplicate
    groups, since a copy has the same wrong label. Classes are weighted equally, so that a rare
    one is not ignored.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.asarray(features, np.float32)
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
    probabilities = np.full((len(rows), int(labels.max()) + 1), 1e-6)
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
        probabilities[np.ix_(rest, known)] = model.predict_proba(rows[rest])
    return probabilities / probabilities.sum(axis=1, keepdims=True)


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
    sums = np.bincount(labels, weights=own, minlength=len(counts))
    thresholds = sums / np.maximum(counts, 1)  # (classes,)
    # Balanced weights and rounding: a probability that equals its threshold reaches it.
    reached = np.where((probabilities >= thresholds - 1e-9) & (counts > 0), probabilities, -1.0)
    suggested = reached.argmax(axis=1)
    sure = reached.max(axis=1) >= 0
    wrong = sure & (suggested != labels)
    return pd.DataFrame(
        {"suggested": np.where(sure, suggested, labels), "wrong": wrong, "score": own}
    )


def distances(
    features: np.ndarray, *, labels: np.ndarray, groups: np.ndarray, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """Returns the mean distance of each picture to its nearest neighbours of the same label,
    float64 (n,).

    `features` is float32 (n, d) as a network gives them; they are compared by their direction.
    Members of a picture's own near-duplicate group do not count, since an outlier may be present
    twice. NaN if a label has no other picture. Neighbours of other labels do not count, because a
    drawing labelled as a photograph is close to the drawings. Exact, class by class and in blocks.
    """
    rows = np.asarray(features, np.float32)
    rows = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
    means = np.full(len(rows), np.nan)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            near = np.maximum(2 - 2 * (rows[block] @ rows[members].T), 0)  # squared distances
            near[groups[block, None] == groups[members]] = np.inf
            nearest = np.sqrt(np.sort(near, axis=1)[:, :neighbours])
            finite = np.isfinite(nearest)
            total = np.where(finite, nearest, 0).sum(axis=1)
            count = finite.sum(axis=1)
            means[block] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def deviations(far: np.ndarray, *, labels: np.ndarray) -> np.ndarray:
    """Returns how many robust standard deviations each distance is above the centre of its class; 0
    for NaN.

    Distances are compared on a log scale. The centre of a class is its median, shrunk towards the
    overall median by twenty pseudo-observations, for the sake of small classes. Source: Iglewicz
    and Hoaglin, How to Detect and Handle Outliers (1993): distance from the median over 1.4826 MAD.
    """
    known = ~np.isnan(far)
    away = np.zeros(len(far))
    if not known.any():
        return away
    logs = np.log(np.maximum(far, 1e-9))
    overall = np.median(logs[known])
    for label in np.unique(labels[known]):
        members = known & (labels == label)
        number, middle = members.sum(), np.median(logs[members])
        away[members] = logs[members] - (number * middle + _PRIOR * overall) / (number + _PRIOR)
    spread = 1.4826 * np.median(np.abs(away[known] - np.median(away[known])))
    return away / spread if spread > 0 else np.zeros(len(far))
