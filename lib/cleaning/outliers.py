"""Pictures that lie far from their class in feature space: another subject, a scanned page among
photographs, a logo.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 10
_BLOCK = 1024
_PRIOR = 20


def distances(
    features: np.ndarray, *, labels: np.ndarray, groups: np.ndarray, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """Returns the mean distance of each picture to its nearest neighbours of the same label,
    float64 (n,).

    `features` is float32 (n, d) as a network gives them; they are compared by their direction.
    Members of a picture's own near-duplicate group do not count: an outlier that is there twice
    would keep itself company. NaN where a label has no other picture. Neighbours of any label would
    do for a set of one subject, but in a mixed one there is always somebody near: a drawing filed
    under photographs is close to the drawings. Exact, class by class and in blocks.
    """
    rows = np.asarray(features, np.float32)
    rows, found = (
        rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9),
        np.full(len(rows), np.nan),
    )
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            found[block] = _nearest(
                rows[block], rows[members], groups[block, None] == groups[members], neighbours
            )
    return found


def deviations(far: np.ndarray, *, labels: np.ndarray) -> np.ndarray:
    """Returns by how many robust standard deviations each distance lies above what is usual in its
    class; 0 for NaN.

    Distances are compared by their logarithms, since they spread by factors. What is usual in a
    class is its median, drawn towards the median of all as if twenty further pictures were there,
    so that a small class is not judged by itself alone. Source: Iglewicz and Hoaglin, How to Detect
    and Handle Outliers (1993): distance from the median over 1.4826 MAD.
    """
    known = ~np.isnan(far)
    away = np.zeros(len(far))
    if not known.any():
        return away
    logs = np.log(np.maximum(far, 1e-9))
    overall = np.median(logs[known])
    for label in np.unique(labels[known]):
        members = known & (labels == label)
        number = members.sum()
        away[members] = logs[members] - (number * np.median(logs[members]) + _PRIOR * overall) / (
            number + _PRIOR
        )
    spread = 1.4826 * np.median(np.abs(away[known] - np.median(away[known])))
    return away / spread if spread > 0 else np.zeros(len(far))


def _nearest(block: np.ndarray, rows: np.ndarray, kin: np.ndarray, neighbours: int) -> np.ndarray:
    """The mean distance of unit rows (b, d) to their nearest of (n, d), those of `kin` (b, n) left
    out; NaN without any.
    """
    near = 2 - 2 * (block @ rows.T)  # squared distances
    near[kin] = np.inf
    count = min(neighbours, len(rows))
    nearest = np.partition(near, count - 1, axis=1)[:, :count]
    finite = np.isfinite(nearest)
    total = np.sqrt(np.where(finite, np.maximum(nearest, 0), 0)).sum(axis=1)
    return np.where(finite.any(axis=1), total / np.maximum(finite.sum(axis=1), 1), np.nan)
