"""Pictures that lie far from all others in feature space: another subject, a scanned page among photographs, a logo."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 10
_BLOCK = 1024


def distances(features: np.ndarray, *, groups: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Returns the mean distance of each picture to its nearest neighbours, float64 (n,).

    `features` is float32 (n, d) as a network gives them; they are compared by their direction. Members of a picture's own
    near-duplicate group do not count: an outlier that is there twice would keep itself company. Exact, in blocks: n * n * d
    multiplications and no n * n array.
    """
    rows = np.asarray(features, np.float32)
    rows, found = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9), np.zeros(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        near = 2 - 2 * (block @ rows.T)  # (block, n), squared distances
        near[groups[start : start + _BLOCK, None] == groups[None]] = np.inf
        count = min(neighbours, len(rows) - 1)
        nearest = np.partition(near, count - 1, axis=1)[:, :count] if count else np.zeros((len(block), 1))
        finite = np.isfinite(nearest)
        total = np.sqrt(np.where(finite, np.maximum(nearest, 0), 0)).sum(axis=1)
        found[start : start + _BLOCK] = total / np.maximum(finite.sum(axis=1), 1)
    return found


def deviations(far: np.ndarray) -> np.ndarray:
    """Returns by how many robust standard deviations each distance lies above the usual one; 0 where they are all alike.

    Distances are compared by their logarithms, since they spread by factors.
    Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): distance from the median over 1.4826 MAD.
    """
    logs = np.log(np.maximum(far, 1e-9))
    away = logs - np.median(logs)
    spread = 1.4826 * np.median(np.abs(away))
    return away / spread if spread > 0 else np.zeros_like(away)
