"""Groups of copies: proposed by a hash, verified on thumbnails, then in full size, each member
against one representative.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from lib.cleaning import hamming, scan_workers
from lib.cleaning.copy_verifier import Prover
from lib.cleaning.similar_images import Comparer

VERSION = 4
"""Counts changes of how groups are found; groups of another version are found anew."""

GROUPINGS = ("copies", "look_alikes")
"""What shares a group: one photograph and its edits; or also other photographs that look the same,
such as neighbouring frames of a film, wafers of one ingot, reproductions of one painting.
"""

DISTANCE = 10
"""Bits in which the hashes of a proposed pair may differ."""

COPY_DISTANCE = 4
"""Bits up to which two pictures are taken for copies while it is learnt what a data set's pictures
have in common.
"""

LIKENESS = 0.85
"""From which likeness on a proposed pair is one; see `likeness.Comparer`."""

PROVABLE = 0.7
"""From which likeness on a pair is tried in full size, where the proof is strict; a turned or
cropped drawing loses so much.
"""

SMALLEST_SIDE = 24
"""Pictures of fewer pixels tell too little of themselves; for them only the same pixels are the
same picture.
"""

LEAST_CONTRAST = 0.04


def group(
    scanned: pd.DataFrame,
    thumbs: np.ndarray,
    *,
    read: Callable[[str], np.ndarray | None] | None = None,
    grouping: str = "copies",
    distance: int = DISTANCE,
    likeness: float = LIKENESS,
    num_threads: int | None = None,
) -> pd.DataFrame:
    """Returns the scan with `group` (int64, counted from 0 in the order of paths), `likeness` (to
    its representative, 0..1), `look_alike` (the path of a picture of another group that looks the
    same, or None) and `alikeness` (how much).

    Files with the same pixels share a group, and with them the verified copies; there is no
    chaining: every member has been compared with the group's representative itself. What does not
    decode has a group of its own. `thumbs` is uint8 grey (n, 64, 64), of which the scan's column
    `thumb` names rows. `read` gives the picture of a path as uint8 grey, for telling copies from
    look-alikes; without it, as with `grouping` look_alikes, what is alike at 64 px is a copy.
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
    threads = scan_workers.count(num_threads)
    proving = read is not None and grouping == "copies"
    least = min(PROVABLE, likeness) if proving else likeness
    alike = _alike(subjects[fit], thumbs, distance=distance, likeness=least, num_threads=threads)
    place = np.flatnonzero(fit)
    edges, scores = (
        place[alike[["first", "second"]].to_numpy(np.int64)].reshape(-1, 2),
        alike["score"].to_numpy(),
    )
    copies = np.ones(len(edges), bool)
    if proving:
        paths = subjects["path"].to_numpy()
        copies = _proven(
            edges, alike["turn"].to_numpy(), Prover(lambda at: read(paths[at])), num_threads=threads
        )
    leader, score = stars(len(subjects), edges[copies], scores[copies])
    near = copies | (scores >= likeness)
    alike_leader, alike_score = stars(len(subjects), edges[near], scores[near])
    numbered, _ = pd.factorize(leader[ids])
    other = np.where(
        leader[alike_leader] != leader, subjects["path"].to_numpy(object)[alike_leader], None
    )
    return scanned.assign(
        group=numbered.astype("int64"),
        likeness=score[ids],
        look_alike=other[ids],
        alikeness=alike_score[ids],
    )


def stars(number: int, pairs: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each item's representative, shape (number,), and its likeness to it (1 for the
    representative itself).

    `pairs` (pairs, 2) and `scores` (pairs,) are what was verified. The item with most partners that
    are still free becomes the next representative and takes them; on a tie, the one with the likest
    partners, then the first.
    """
    leader, likeness = np.arange(number), np.ones(number)
    partners: dict[int, dict[int, float]] = {}
    for (one, other), score in zip(pairs.tolist(), scores.tolist(), strict=True):
        partners.setdefault(one, {})[other] = score
        partners.setdefault(other, {})[one] = score
    order = sorted(
        partners, key=lambda item: (-len(partners[item]), -sum(partners[item].values()), item)
    )
    free = set(partners)
    for item in order:
        if item not in free:
            continue
        free.discard(item)
        for partner in sorted(free & partners[item].keys()):
            leader[partner], likeness[partner] = item, partners[item][partner]
            free.discard(partner)
    return leader, likeness


def _alike(
    subjects: pd.DataFrame, thumbs: np.ndarray, *, distance: int, likeness: float, num_threads: int
) -> pd.DataFrame:
    """The pairs among `subjects` that are alike at 64 px: `first`, `second`, `turn` (of the second)
    and `score`.
    """
    nothing = pd.DataFrame({"first": [], "second": [], "turn": [], "score": []})
    if len(subjects) < 2:
        return nothing
    hashes = np.frombuffer(b"".join(subjects["hashes"]), np.uint64).reshape(-1, 8)
    proposed = hamming.pairs(hashes, distance=distance, workers=num_threads)
    if not len(proposed):
        return nothing
    copies = np.unique(proposed[proposed[:, 3] <= COPY_DISTANCE, 1])
    rows = subjects["thumb"].to_numpy(np.int64)
    comparer = Comparer(thumbs, rows, distinct=np.setdiff1d(np.arange(len(rows)), copies))
    with ThreadPoolExecutor(num_threads) as threads:  # OpenCV lets go of the interpreter's lock
        chunks = np.array_split(proposed[:, :3], max(1, len(proposed) // 64))
        scores = np.concatenate(
            list(
                threads.map(lambda rows: [comparer.likeness(*row) for row in rows.tolist()], chunks)
            )
        )
    table = pd.DataFrame(
        {"first": proposed[:, 0], "second": proposed[:, 1], "turn": proposed[:, 2], "score": scores}
    )
    best = table[table["score"] >= likeness].sort_values(
        ["first", "second", "score"], kind="stable"
    )
    return best.drop_duplicates(["first", "second"], keep="last", ignore_index=True)


def _proven(
    edges: np.ndarray, turns: np.ndarray, prover: Prover, *, num_threads: int
) -> np.ndarray:
    asked = list(zip(*edges.T.tolist(), turns.tolist(), strict=True)) if len(edges) else []
    with ThreadPoolExecutor(num_threads) as threads:
        return np.array(list(threads.map(lambda pair: prover.are_copies(*pair), asked)), bool)
