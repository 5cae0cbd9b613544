"""Groups of copies: proposed by a hash of the whole picture or by local features, then verified."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib import files, hashing
from lib.cleaning import edited_copies, measurements, perceptual_hash, scan
from lib.cleaning.copies import Comparer, CopyVerifier
from lib.data.dataset import Dataset
from lib.data.decode import ImageError

FILE = "groups.parquet"
VERSION = 5
"""Raised when grouping changes; groups of another version are computed again."""

GROUPINGS = ("copies", "look_alikes")
"""What shares a group: one photograph and its edits; or also other photographs that look the same,
such as neighbouring frames of a film, wafers of one ingot, reproductions of one painting.
"""

DISTANCE = 10
"""Bits in which the hashes of a proposed pair may differ."""

COPY_DISTANCE = 4
"""Bits up to which two pictures count as copies while the common components are estimated."""

LIKENESS = 0.85
"""Least likeness of a pair of similar pictures; see `copies.Comparer`."""

PROVABLE = 0.7
"""Least likeness of a pair that is verified at full size; a turned or cropped drawing may lose this
much.
"""

OVERLAID = 0.8
"""Least share of the finest structure in 60 % of the blocks for a photograph with an overlay."""

SMALLEST_SIDE = 24
"""Pictures with a shorter side are duplicates only if their pixels are equal."""

LEAST_CONTRAST = 0.04
_FOUND = ["group", "likeness", "look_alike", "alikeness"]


def group_dataset(
    dataset: Dataset,
    scanned: pd.DataFrame,
    *,
    grouping: str = "copies",
    num_threads: int | None = None,
) -> pd.DataFrame:
    """Returns the scan with the columns of `group`, cached by
    pictures and way of grouping.
    """
    path = dataset.folder / "scan" / FILE
    pixels = scanned["pixels"].where(scanned["pixels"].notna(), "")
    key = hashing.digest(f"{VERSION} {grouping}", *scanned["path"], *pixels)
    columns = _stored(path, key, rows=len(scanned))
    if columns is None:
        computed = group(
            scanned,
            scan.thumbs(dataset.folder),
            read=lambda file: _grey(dataset, file),
            grouping=grouping,
            num_threads=num_threads,
        )
        columns = computed[_FOUND]
        columns.attrs["note"] = computed.attrs["note"]
        files.write_parquet(path, columns, metadata={"key": key, "note": columns.attrs["note"]})
    grouped = scanned.assign(**{name: columns[name].to_numpy() for name in _FOUND})
    grouped.attrs["note"] = columns.attrs["note"]
    return grouped


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

    Files with the same pixels share a group, and with them all that verified copies join: no
    verified pair lies in two groups. What does not decode has a group of its own. `thumbs` is uint8
    grey (n, 64, 64), of which the scan's column `thumb` names rows. `read` gives the picture of a
    path as uint8 grey, for telling copies from look-alikes and for finding edited copies; without
    it what is alike at 64 px is a copy. `attrs["note"]` says why edited copies were not looked for,
    where that is so.
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
    threads = measurements.num_workers(num_threads)
    proving = read is not None and grouping == "copies"
    least = min(PROVABLE, likeness) if proving else likeness
    alike = _alike(subjects[fit], thumbs, distance=distance, likeness=least, num_threads=threads)
    place = np.flatnonzero(fit)
    edges, scores = (
        place[alike[["first", "second"]].to_numpy(np.int64)].reshape(-1, 2),
        alike["score"].to_numpy(),
    )
    copies, shared = np.ones(len(edges), bool), np.ones(len(edges))
    if proving:
        paths = subjects["path"].to_numpy()
        verifier = CopyVerifier(lambda at: read(paths[at]))
        copies, shared = _proven(
            edges,
            alike["turn"].to_numpy(),
            verifier,
            num_threads=threads,
        )
    edited = edited_copies.nothing()
    if read is not None and fit.any():
        names, rows = subjects["path"].to_numpy()[fit], subjects["thumb"].to_numpy(object)[fit]
        refuted = np.searchsorted(place, edges[~copies & (shared < OVERLAID)])
        edited = edited_copies.find(
            thumbs,
            rows.astype(np.int64),
            lambda at: read(names[at]),
            refuted={(min(pair), max(pair)) for pair in refuted.tolist()},
            num_threads=threads,
        )
    edges = np.concatenate([edges, place[edited.pairs].reshape(-1, 2)])
    scores = np.concatenate([scores, edited.scores])
    copies = np.concatenate([copies, np.ones(len(edited.pairs), bool)])
    leader, score = components(len(subjects), edges[copies], scores[copies])
    near = copies | (scores >= likeness)
    alike_leader, alike_score = stars(len(subjects), edges[near], scores[near])
    numbered, _ = pd.factorize(leader[ids])
    other = np.where(
        leader[alike_leader] != leader, subjects["path"].to_numpy(object)[alike_leader], None
    )
    grouped = scanned.assign(
        group=numbered.astype("int64"),
        likeness=score[ids],
        look_alike=other[ids],
        alikeness=alike_score[ids],
    )
    grouped.attrs["note"] = edited.note
    return grouped


def components(number: int, pairs: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each item's representative, the first that pairs join it with, and its best score.

    Shapes (number,); `pairs` (pairs, 2) and `scores` (pairs,) are what was verified. An item
    without a partner represents itself, with score 1.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(number, number))
    _, component = connected_components(graph, directed=False)
    first = np.full(component.max(initial=-1) + 1, number)
    np.minimum.at(first, component, np.arange(number))
    best = np.zeros(number)
    for side in (0, 1):
        np.maximum.at(best, pairs[:, side], scores)
    leader = first[component]
    return leader, np.where(leader == np.arange(number), 1.0, best)


def stars(number: int, pairs: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each item's representative, shape (number,), and its likeness to it (1 for the
    representative itself).

    `pairs` (pairs, 2) and `scores` (pairs,) are what was verified. The item with most partners that
    are still free becomes the next representative and takes them; on a tie, the one with the most
    similar partners, then the first.
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
    proposed = perceptual_hash.pairs(hashes, distance=distance, workers=num_threads)
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
    edges: np.ndarray, turns: np.ndarray, verifier: CopyVerifier, *, num_threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each pair is a copy, bool (pairs,), and the finest structure that it shares,
    (pairs,).
    """
    pairs = zip(*edges.T.tolist(), turns.tolist(), strict=True) if len(edges) else []
    with ThreadPoolExecutor(num_threads) as threads:
        compared = list(threads.map(lambda pair: verifier.compare(*pair), pairs))
    return (
        np.array([same for same, _ in compared], bool),
        np.array([shared for _, shared in compared], float),
    )


def _stored(path: Path, key: str, *, rows: int) -> pd.DataFrame | None:
    """The cached groups of the same pictures, or None."""
    cached = files.read_cache(path)
    if cached is None or cached[1].get("key") != key:
        return None
    table, about = cached
    if len(table) != rows or not set(_FOUND) <= set(table.columns):
        return None
    table.attrs["note"] = about.get("note")
    return table


def _grey(dataset: Dataset, path: str) -> np.ndarray | None:
    """The picture as grey; None if it was removed or changed since the scan."""
    try:
        return cv2.cvtColor(dataset.image(path).pixels, cv2.COLOR_RGB2GRAY)
    except (OSError, ImageError):
        return None
