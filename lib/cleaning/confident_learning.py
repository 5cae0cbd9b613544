"""Probably wrong labels by confident learning: what a classifier that has not seen a picture is
sure of, against its label.

Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
    JAIR 70 (2021), section 3; written from the paper, since the authors' library is AGPL.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

FOLDS = 5


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
