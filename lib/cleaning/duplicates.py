"""Groups of pictures that show the same: proposed by a hash, verified on pixels, each member against one representative."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from lib.cleaning import hamming, workers
from lib.cleaning.likeness import Comparer
from lib.cleaning.measure import THUMB

DISTANCE = 10
"""Bits in which the hashes of a proposed pair may differ."""

COPY_DISTANCE = 4
"""Bits up to which two pictures are taken for copies while it is learnt what a data set's pictures have in common."""

LIKENESS = 0.85
"""From which likeness on a proposed pair is one; see `likeness.Comparer`."""

SMALLEST_SIDE = 24
"""Pictures of fewer pixels tell too little of themselves; for them only the same pixels are the same picture."""

LEAST_CONTRAST = 0.04


def group(
    scanned: pd.DataFrame, *, distance: int = DISTANCE, likeness: float = LIKENESS, num_threads: int | None = None
) -> pd.DataFrame:
    """Returns the scan with `group` (int64, counted from 0 in the order of paths) and `likeness` (to its representative, 0..1).

    Files with the same pixels share a group, and with them what was verified as nearly the same. There is no chaining: every
    member has been compared with the group's representative itself. What does not decode has a group of its own.
    """
    same = scanned["pixels"].astype(object).where(scanned["pixels"].notna(), scanned["path"])
    ids, _ = pd.factorize(same)  # counted in the order of paths
    first = np.flatnonzero(~pd.Series(ids).duplicated().to_numpy())
    subjects = scanned.iloc[first]
    fit = (
        subjects["problem"].isna()
        & (subjects[["width", "height"]].min(axis=1).fillna(0) >= SMALLEST_SIDE)
        & (subjects["contrast"].fillna(0) >= LEAST_CONTRAST)
    ).to_numpy(bool)
    alike = _verified(subjects[fit], distance=distance, likeness=likeness, num_threads=workers.count(num_threads))
    leader, score = stars(len(subjects), np.flatnonzero(fit)[alike[:, :2].astype(np.int64)], alike[:, 2])
    numbered, _ = pd.factorize(leader[ids])
    return scanned.assign(group=numbered.astype("int64"), likeness=score[ids])


def stars(number: int, pairs: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each item's representative, shape (number,), and its likeness to it (1 for the representative itself).

    `pairs` (pairs, 2) and `scores` (pairs,) are what was verified. The item with most partners that are still free becomes
    the next representative and takes them; on a tie, the one with the likest partners, then the first.
    """
    leader, likeness = np.arange(number), np.ones(number)
    partners: dict[int, dict[int, float]] = {}
    for (one, other), score in zip(pairs.tolist(), scores.tolist(), strict=True):
        partners.setdefault(one, {})[other] = score
        partners.setdefault(other, {})[one] = score
    order = sorted(partners, key=lambda item: (-len(partners[item]), -sum(partners[item].values()), item))
    free = set(partners)
    for item in order:
        if item not in free:
            continue
        free.discard(item)
        for partner in sorted(free & partners[item].keys()):
            leader[partner], likeness[partner] = item, partners[item][partner]
            free.discard(partner)
    return leader, likeness


def _verified(subjects: pd.DataFrame, *, distance: int, likeness: float, num_threads: int) -> np.ndarray:
    """The pairs among `subjects` that show the same: rows of (first, second, likeness), shape (pairs, 3)."""
    if len(subjects) < 2:
        return np.empty((0, 3))
    hashes = np.frombuffer(b"".join(subjects["hashes"]), np.uint64).reshape(-1, 8)
    thumbs = np.frombuffer(b"".join(subjects["thumb"]), np.uint8).reshape(-1, THUMB, THUMB)
    proposed = hamming.pairs(hashes, distance=distance, workers=num_threads)
    if not len(proposed):
        return np.empty((0, 3))
    copies = np.unique(proposed[proposed[:, 3] <= COPY_DISTANCE, 1])
    comparer = Comparer(thumbs, distinct=np.setdiff1d(np.arange(len(thumbs)), copies))
    with ThreadPoolExecutor(num_threads) as threads:  # OpenCV lets go of the interpreter's lock
        chunks = np.array_split(proposed[:, :3], max(1, len(proposed) // 64))
        scores = np.concatenate(list(threads.map(lambda rows: [comparer.likeness(*row) for row in rows.tolist()], chunks)))
    table = pd.DataFrame({"first": proposed[:, 0], "second": proposed[:, 1], "score": scores})
    best = table[table["score"] >= likeness].groupby(["first", "second"], as_index=False)["score"].max()
    return best.to_numpy(np.float64)
