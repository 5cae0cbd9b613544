"""Groups of copies: proposed by a hash of the whole picture or by local features, then verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np
import pandas as pd
from scipy import linalg

from lib import files, hashing
from lib.cleaning import edited_copies, measurements, perceptual_hash, scan
from lib.cleaning.measurements import THUMB
from lib.cleaning.perceptual_hash import orient
from lib.data.dataset import Dataset
from lib.data.decode import ImageError

COARSE = THUMB // 2
EDGE = 5 / 64
"""Share of a thumbnail's side that is ignored at each edge, which a cropped or turned copy lacks.
"""

COMMON_SAMPLE = 1_500
MOST_COMMON = 50
COMMON_SHARE = 3
"""Of n pictures at most n / 50 components are common, those with more than 3 / n of the energy:
three times what each picture has to itself. They hold 18 % of photographs of many things, but 84 %
of the 2,624 solar cells of `elpv`.
"""

LEAST_PARTICULAR = 0.1
"""Least share of a picture's energy outside the common components. With less it cannot be
distinguished from others of its kind, so only equal pixels make it a duplicate.
"""

GREATEST_SHIFT = 0.12
"""Largest move of a corner by registration, as a share of the side; beyond, the pictures differ."""


class Comparer:
    """Compares thumbnails of one data set. `thumbs` is uint8 grey of shape (n, 64, 64), of which
    `rows` are the pictures' (default: all); it may be mapped from disk, since only what is compared
    is read.

    `distinct` are positions of pictures that are no copies of each other (default: all): what is
    common components are estimated from those, since fifty copies of one picture share everything.
    """

    def __init__(
        self,
        thumbs: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        distinct: np.ndarray | None = None,
    ) -> None:
        self._thumbs, self._rows = thumbs, np.arange(len(thumbs)) if rows is None else rows
        chosen = np.arange(len(self._rows)) if distinct is None else distinct
        sample = np.sort(np.random.default_rng(0).permutation(chosen)[:COMMON_SAMPLE])
        fine = [self._picture(at) for at in sample]
        self._common = {
            THUMB: common(fine, side=THUMB),
            COARSE: common([_shrunk(thumb) for thumb in fine], side=COARSE),
        }
        self._particular = np.full(len(self._rows), np.nan)

    def likeness(self, first: int, second: int, turn: int) -> float:
        """Returns the likeness of picture `first` and picture `second`, turned: 1 if they are the
        same, below 0.8 if they differ.

        0 if one of them has too little outside the common components, or if they differ much at
        half size.
        """
        if min(self.particular(first), self.particular(second)) < LEAST_PARTICULAR:
            return 0.0
        warp = np.eye(2, 3, dtype=np.float32)
        score = 0.0
        a, b = self._picture(first), np.ascontiguousarray(orient(self._picture(second), turn))
        for coarse, blur, rounds, enough in ((True, 5, 20, 0.5), (False, 3, 30, 0.0)):
            one, other = (
                (_shrunk(thumb) if coarse else thumb).astype(np.float32) for thumb in (a, b)
            )
            as_they_are = self._correlation(one, other)
            if as_they_are > 0.97:
                return as_they_are
            warp = laid_over(one, other, warp, blur=blur, rounds=rounds)
            if _shift(warp, len(one)) > GREATEST_SHIFT:
                return max(0.0, as_they_are)
            score = max(as_they_are, self._correlation(one, warped(other, warp)))
            if score < enough:
                return 0.0
            warp = scaled(warp, 2)
        return score

    def particular(self, at: int) -> float:
        """Returns the share of picture `at`'s energy outside the common components, 0..1."""
        if np.isnan(self._particular[at]):
            vector = detail(self._picture(at))
            shared = self._common[THUMB].T @ vector
            self._particular[at] = 1 - shared @ shared / (vector @ vector + 1e-6)
        return float(self._particular[at])

    def _picture(self, at: int) -> np.ndarray:
        return np.asarray(self._thumbs[self._rows[at]])

    def _correlation(self, one: np.ndarray, other: np.ndarray) -> float:
        components = self._common[len(one)]
        a, b = detail(one), detail(other)
        whole = _cosine(a, b)
        if whole < 0.5 or not components.shape[1]:
            return whole
        own = (vector - components @ (components.T @ vector) for vector in (a, b))
        return min(whole, _cosine(*own))


def detail(thumb: np.ndarray) -> np.ndarray:
    """Returns the structure finer than a tenth of the thumbnail, without its edge, as a float32
    vector of mean 0.
    """
    picture = thumb.astype(np.float32)
    fine = picture - cv2.GaussianBlur(picture, (0, 0), len(thumb) * 3 / 64)
    edge = round(len(thumb) * EDGE)
    inner = fine[edge:-edge, edge:-edge]
    return (inner - inner.mean()).ravel()


def common(thumbs: Sequence[np.ndarray], *, side: int) -> np.ndarray:
    """Returns the orthonormal components, shape (pixels, number), that thumbnails of a side share;
    see `COMMON_SHARE`.
    """
    if len(thumbs) < 100:  # too few to separate common from particular components
        return np.empty((len(detail(np.zeros((side, side), np.uint8))), 0), np.float32)
    rows = np.stack([detail(thumb) for thumb in thumbs])  # (pictures, pixels)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6
    number, most = len(rows), len(rows) // MOST_COMMON
    energy, vectors = linalg.eigh(rows @ rows.T, subset_by_index=[number - most, number - 1])
    order = np.flatnonzero(energy > COMMON_SHARE / number * (rows * rows).sum())[::-1]
    return (rows.T @ vectors[:, order] / np.sqrt(energy[order])).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-6))


def _shrunk(thumb: np.ndarray) -> np.ndarray:
    return cv2.resize(thumb, (COARSE, COARSE), interpolation=cv2.INTER_AREA)


def laid_over(
    one: np.ndarray, other: np.ndarray, warp: np.ndarray, *, blur: int, rounds: int
) -> np.ndarray:
    """Returns the affine map that registers `other` to `one`, starting at `warp`; `warp` itself if
    the search does not converge.

    Source: Evangelidis and Psarakis, TPAMI 30 (2008), algorithm ECC.
    """
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, rounds, 1e-4)
    try:
        start, kind = warp.copy(), cv2.MOTION_AFFINE
        return cv2.findTransformECC(one, other, start, kind, until, None, blur)[1]
    except cv2.error:  # unrelated pictures do not converge and are compared as they are
        return warp


def warped(picture: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Returns the picture under the map, its edge continued."""
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(picture, warp, picture.shape[::-1], **how)


def _shift(warp: np.ndarray, side: int) -> float:
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], np.float64).T
    return float(np.abs(warp @ corners - corners[:2]).max()) / side


def scaled(warp: np.ndarray, factor: float) -> np.ndarray:
    """Returns the same map for pictures `factor` times as large; pixel centres lie at (i + 1/2)."""
    larger = warp.copy()
    half = np.array([0.5, 0.5], np.float32)
    larger[:, 2] = factor * (warp[:, 2] + half - warp[:, :2] @ half) - half + warp[:, :2] @ half
    return larger


GREATEST_SIDE = 320
"""Pictures are compared at the side of the smaller one, at most at this, px."""

FINEST = 0.74
"""Least shared finest structure, in the worst quarter of the picture, of one photograph. Measured:
the greatest among 254 pairs of neighbouring wafers of `elpv` is 0.72.
"""

FINE = 0.965
"""Least correlation of the fine structure of one photograph after strong compression, which removes
the finest. The greatest among those pairs is 0.958.
"""

FINE_PRINT = 0.945
"""The same of text and drawings smaller than `edited_copies.SIDE`, of which the finest structure
says nothing. Measured: five pairs of receipts of one shop reach 0.927.
"""

BLOCKS = 5
_KEPT = 64  # pictures that stay decoded, since a group compares the same few again and again


class CopyVerifier:
    """Separates copies from look-alikes. `read(index)` returns a picture as uint8 grey (height,
    width), or None if it was removed.
    """

    def __init__(self, read: Callable[[int], np.ndarray | None]) -> None:
        self._picture = lru_cache(maxsize=_KEPT)(read)
        self._is_print = lru_cache(maxsize=None)(
            lambda at: edited_copies.prepared(self._picture(at)).is_small_print
        )

    def compare(self, first: int, second: int, turn: int) -> tuple[bool, float]:
        """Returns whether picture `second`, turned into `turn` of `measurements.orient`, is the
        same photograph as `first`, and the finest structure that 60 % of the blocks share.

        The second is about 1 for an overlay on one photograph, and about 0 for another photograph
        of the same scene, whose noise is its own.
        """
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            return False, 0.0
        side = min(GREATEST_SIDE, *one.shape, *other.shape)
        turned = np.ascontiguousarray(orient(other, turn))
        a, b = (_square(picture, side) for picture in (one, turned))
        is_print = self._is_print(first) or self._is_print(second)
        same, shared = same_photograph(a, b, is_print=is_print)
        if same:  # many copies are only compressed again or brightened
            return True, shared
        warp = np.eye(2, 3, dtype=np.float32)
        for size, rounds in ((min(side, THUMB), 30), (side, 15)):
            warp = laid_over(
                _square(a, size), _square(b, size), scaled(warp, size), blur=3, rounds=rounds
            )
            warp = scaled(warp, 1 / size)
        same, shared_now = same_photograph(a, warped(b, scaled(warp, side)), is_print=is_print)
        return same, max(shared, shared_now)


def same_photograph(
    one: np.ndarray, other: np.ndarray, *, is_print: bool = False
) -> tuple[bool, float]:
    """Returns whether two float32 squares that lie over each other hold the same finest structure
    (see `FINEST`, `FINE` and, with `is_print`, `FINE_PRINT`), and the share of it that 60 % of the
    blocks have in common.
    """
    gain = np.std(_band(one, 2, len(one) / 20)) / (np.std(_band(other, 2, len(one) / 20)) + 1e-6)
    a, b = _band(one, 0, 1), gain * _band(other, 0, 1)
    energy = _blocks(a * a)
    # A compressed or resized copy has less of it, so the shared part is relative to the lesser one.
    shared = _blocks(a * b) / (np.minimum(energy, _blocks(b * b)) + 1e-3)
    by_block = np.sort(shared[energy >= 0.1 * energy.max()])  # flat parts hold no structure
    most = float(np.percentile(by_block, 40))
    if not is_print and by_block[: max(1, len(by_block) // 4)].mean() >= FINEST:
        return True, most
    a, b = _band(one, 0.6, 2), _band(other, 0.6, 2)
    fine = float((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean() + 1e-6))
    return fine >= (FINE_PRINT if is_print else FINE), most


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def _band(picture: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Structure between two sizes in px, without the edge, which a cropped or turned copy lacks."""
    upper = cv2.GaussianBlur(picture, (0, 0), fine) if fine else picture
    edge = round(len(picture) * EDGE)
    return (upper - cv2.GaussianBlur(picture, (0, 0), coarse))[edge:-edge, edge:-edge]


def _blocks(values: np.ndarray) -> np.ndarray:
    side = len(values) // BLOCKS
    inner = values[: side * BLOCKS, : side * BLOCKS]
    return inner.reshape(BLOCKS, side, BLOCKS, side).mean(axis=(1, 3)).ravel()


FILE = "groups.parquet"
VERSION = 8
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
"""Least likeness of a pair of similar pictures; see `Comparer`."""

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
    """Returns the scan with the columns of `group`, cached by pictures and way of grouping."""
    path = dataset.folder / "scan" / FILE
    pixels = scanned["pixels"].where(scanned["pixels"].notna(), "")
    key = hashing.digest(f"{VERSION} {grouping}", *scanned["path"], *pixels)
    cached = files.read_cache(path)
    if cached is None or cached[1].get("key") != key:
        computed = group(
            scanned,
            scan.thumbs(dataset.folder),
            read=lambda file: _grey(dataset, file),
            grouping=grouping,
            num_threads=num_threads,
        )
        cached = computed[_FOUND], {"key": key, "note": computed.attrs["note"]}
        files.write_parquet(path, cached[0], metadata=cached[1])
    grouped = scanned.assign(**{name: cached[0][name].to_numpy() for name in _FOUND})
    grouped.attrs["note"] = cached[1].get("note")
    return grouped


def group(
    scanned: pd.DataFrame,
    thumbs: np.ndarray,
    *,
    read: Callable[[str], np.ndarray | None] | None = None,
    grouping: str = "copies",
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
    least = PROVABLE if proving else LIKENESS
    alike = _alike(subjects[fit], thumbs, likeness=least, num_threads=threads)
    place = np.flatnonzero(fit)
    edges = place[alike[["first", "second"]].to_numpy(np.int64)].reshape(-1, 2)
    scores = alike["score"].to_numpy()
    copies, shared = np.ones(len(edges), bool), np.ones(len(edges))
    if proving:
        paths = subjects["path"].to_numpy()
        verifier = CopyVerifier(lambda at: read(paths[at]))
        with ThreadPoolExecutor(threads) as pool:
            compared = list(pool.map(verifier.compare, *edges.T.tolist(), alike["turn"].tolist()))
        copies = np.array([same for same, _ in compared], bool)
        shared = np.array([share for _, share in compared], float)
    edited = edited_copies.Found()
    if read is not None and fit.any():
        names, rows = subjects["path"].to_numpy()[fit], subjects["thumb"].to_numpy(object)[fit]
        within = np.searchsorted(place, edges)  # positions among the pictures that are fit
        refuted = within[~copies & (shared < OVERLAID)]
        edited = edited_copies.find(
            thumbs,
            rows.astype(np.int64),
            lambda at: read(names[at]),
            leaders=components(len(place), within[copies], scores[copies])[0] if proving else None,
            refuted={(min(pair), max(pair)) for pair in refuted.tolist()},
            num_threads=threads,
        )
    edges = np.concatenate([edges, place[edited.pairs].reshape(-1, 2)])
    scores = np.concatenate([scores, edited.scores])
    copies = np.concatenate([copies, np.ones(len(edited.pairs), bool)])
    leader, score = components(len(subjects), edges[copies], scores[copies])
    near = copies | (scores >= LIKENESS)
    alike_leader, alike_score = stars(len(subjects), edges[near], scores[near])
    numbered, _ = pd.factorize(leader[ids])
    alike_path = subjects["path"].to_numpy(object)[alike_leader]
    other = np.where(leader[alike_leader] != leader, alike_path, None)
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
    subjects: pd.DataFrame, thumbs: np.ndarray, *, likeness: float, num_threads: int
) -> pd.DataFrame:
    """The pairs among `subjects` that are alike at 64 px: `first`, `second`, `turn` (of the second)
    and `score`.
    """
    nothing = pd.DataFrame({"first": [], "second": [], "turn": [], "score": []})
    if len(subjects) < 2:
        return nothing
    hashes = np.frombuffer(b"".join(subjects["hashes"]), np.uint64).reshape(-1, 8)
    proposed = perceptual_hash.pairs(hashes, distance=DISTANCE, workers=num_threads)
    if not len(proposed):
        return nothing
    copies = np.unique(proposed[proposed[:, 3] <= COPY_DISTANCE, 1])
    rows = subjects["thumb"].to_numpy(np.int64)
    comparer = Comparer(thumbs, rows, distinct=np.setdiff1d(np.arange(len(rows)), copies))
    with ThreadPoolExecutor(num_threads) as threads:  # OpenCV lets go of the interpreter's lock
        scores = list(threads.map(comparer.likeness, *proposed[:, :3].T.tolist()))
    table = pd.DataFrame(proposed[:, :3], columns=["first", "second", "turn"]).assign(score=scores)
    near = table[table["score"] >= likeness]
    best = near.sort_values(["first", "second", "score"], kind="stable")
    return best.drop_duplicates(["first", "second"], keep="last", ignore_index=True)


def _grey(dataset: Dataset, path: str) -> np.ndarray | None:
    """The picture as grey; None if it was removed or changed since the scan."""
    try:
        return cv2.cvtColor(dataset.image(path).pixels, cv2.COLOR_RGB2GRAY)
    except (OSError, ImageError):
        return None
