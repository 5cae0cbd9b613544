"""Finds copies that were cropped, rotated, framed, overlaid or photographed at an angle.

Three steps, each for fewer pairs than the one before: pictures are proposed whose thumbnails share
rare local features; an affine map must carry many of the features of one thumbnail onto the
other's; and in larger pictures, laid over each other by a homography, most blocks must hold the
same fine structure, so that two photographs of one kind of thing do not pass.

Sources: Rublee et al., ORB, ICCV 2011; Indyk and Motwani, Approximate Nearest Neighbors, STOC 1998
    (bit sampling); Evangelidis and Psarakis, TPAMI 30 (2008), algorithm ECC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.cleaning.measurements import THUMB

MAX_FEATURES = 120
MAX_TOTAL_FEATURES = 12_000_000
"""Features of all thumbnails together; of a larger data set each picture has fewer of them."""

TABLES, KEY_BITS, MAX_BUCKET = 6, 24, 16
MIN_VOTES = (3.25, 6.5)
"""Rare features, in units of one that no third picture has, which a proposed pair shares: of two
upright pictures, and of an upright and a mirrored one. With 6.5 for both, the search alone finds
91.4 instead of 94.3 % of the edited copies of cars.
"""

PROPOSED_PER_PICTURE = 3
MIN_THUMB_INLIERS = 11
"""Distinct places of a thumbnail that one affine map carries over. Measured on pairs of different
photographs of four data sets (wikiart, cars, simpsons, triage): the 99th percentile is 6 to 7, the
greatest of 2,400 pairs 11.
"""

SIDE = 224
"""Longer side in px at which two pictures are laid over each other."""

SAME_STRUCTURE = 0.84
"""From which correlation of the fine structure, reached by 60 % of the blocks, two pictures are one
photograph. Two press photographs of one car reach 0.68, edits stronger than a blur of 2 px stay
above 0.85.
"""

SURELY_SAME = 0.93
REFINABLE = 0.5
"""Structure below which exact alignment is not tried. Measured on 243 edited copies of cars, triage
and wikiart before it: at least 0.64; on 29 refused pairs: all but two below 0.42.
"""

LIKE_STRUCTURE = 0.3
MAX_ALIKE = 0.05
"""Share of random pairs with that much structure in common, as they stand, beyond which no copies
are claimed: pages of one form and solar cells share what elsewhere only copies share. Measured:
none of 80 pairs of wikiart, cars, simpsons, triage; 44 % of solar cells; all of forms' pages.
"""

SAMPLE = 100


@dataclass(frozen=True)
class Found:
    """Pairs of copies, int64 (pairs, 2), their correlations (pairs,), and why none are claimed, if
    none can be.
    """

    pairs: np.ndarray
    scores: np.ndarray
    note: str | None = None


def nothing(note: str | None = None) -> Found:
    """Returns what is found where there is nothing to find, or where nothing can be claimed."""
    return Found(np.empty((0, 2), np.int64), np.empty(0), note)


def find(
    thumbs: np.ndarray,
    rows: np.ndarray,
    read: Callable[[int], np.ndarray | None],
    *,
    leaders: np.ndarray | None = None,
    refuted: AbstractSet[tuple[int, int]] = frozenset(),
    num_threads: int = 1,
) -> Found:
    """Returns the edited copies among the pictures whose thumbnails are `thumbs[rows]`.

    Args:
        thumbs: uint8 grey (n, 64, 64), may be mapped from disk.
        rows: (pictures,) positions in `thumbs`.
        read: gives a picture by its place in `rows` as uint8 grey (height, width), or None when it
            is gone.
        leaders: (pictures,) the representative of each picture by the copies known already, whose
            pairs are not compared again; default each its own.
        refuted: pairs (first, second) that are known to be two photographs of one scene.
        num_threads: OpenCV lets go of the interpreter's lock.
    """
    if len(rows) < 2:
        return nothing()
    verifier = _Verifier(read)
    if note := _too_alike(verifier, len(rows)):
        return nothing(note)
    leaders = np.arange(len(rows)) if leaders is None else leaders
    most = int(min(MAX_FEATURES, max(30, MAX_TOTAL_FEATURES // len(rows))))
    with ThreadPoolExecutor(num_threads) as threads:
        both = list(threads.map(lambda row: _described(np.asarray(thumbs[row]), most), rows))
        upright, mirrored = ([pair[side] for pair in both] for side in (0, 1))
        fits = []
        proposals = propose(*([features[1] for features in side] for side in (upright, mirrored)))
        for mirror, (others, proposed) in enumerate(
            zip((upright, mirrored), proposals, strict=True)
        ):
            proposed = proposed[leaders[proposed[:, 0]] != leaders[proposed[:, 1]]]
            maps = threads.map(
                lambda pair, others=others: affine(upright[pair[0]], others[pair[1]]),
                proposed.tolist(),
            )
            fits += [
                (inliers, first, second, mirror, matrix)
                for (first, second), (inliers, matrix) in zip(proposed.tolist(), maps, strict=True)
                if inliers >= MIN_THUMB_INLIERS and (first, second) not in refuted
            ]
        fits.sort(key=lambda fit: (-fit[0], fit[1], fit[2]))
        accepted = list(_accepted(fits, verifier, threads, leaders))
    if not accepted:
        return nothing()
    return Found(
        np.array([pair for pair, _ in accepted], np.int64),
        np.array([score for _, score in accepted]),
    )


def propose(upright: list[np.ndarray], mirrored: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the pairs (first, second) of pictures that share rare features, int64 (pairs, 2), the
    best of each picture: of the upright pictures, and of upright and mirrored ones.

    Both arguments hold uint8 (features, 32) for each picture. Features whose keys of 24 sampled
    bits agree count as equal; one that more than 16 pictures have says nothing.
    """
    number, rng = len(upright), np.random.default_rng(0)
    sides = [np.concatenate(side) for side in (upright, mirrored)]
    owners = [
        np.repeat(np.arange(number), [len(rows) for rows in side]) for side in (upright, mirrored)
    ]
    if not all(map(len, sides)):
        return [np.empty((0, 2), np.int64)] * 2
    sample = sides[0][:: max(1, len(sides[0]) // 5_000)]
    balance = np.abs(np.unpackbits(sample, axis=1).mean(axis=0) - 0.5)
    bits = np.argsort(balance, kind="stable")[:192]  # bits that nearly all features share: no use
    shared: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    for _ in range(TABLES):
        chosen = rng.choice(bits, KEY_BITS, replace=False)
        first, second = (
            _distinct(_keys(side, chosen) * number + owner)[0]
            for side, owner in zip(sides, owners, strict=True)
        )
        shared[0].append(_collisions(first, first, number))
        shared[1].append(_collisions(first, second, number))
    return [
        _best_pairs(tables, number, least) for tables, least in zip(shared, MIN_VOTES, strict=True)
    ]


def _best_pairs(
    tables: list[tuple[np.ndarray, np.ndarray]], number: int, least: float
) -> np.ndarray:
    """The best pairs of each picture by the weights that all tables give them together."""
    codes, weights = (np.concatenate(column) for column in zip(*tables, strict=True))
    order = np.argsort(codes, kind="stable")
    codes, sizes = _distinct(codes[order])
    starts = np.cumsum(sizes) - sizes
    votes = np.add.reduceat(weights[order], starts) if len(codes) else np.empty(0)
    enough = votes >= least
    codes, votes = codes[enough], votes[enough]
    kept = _best_of_each(codes // number, codes % number, votes)
    codes, votes = codes[kept], votes[kept]
    codes = codes[np.argsort(-votes, kind="stable")[:number]]
    return np.stack([codes // number, codes % number], axis=1)


def affine(one: Features, other: Features) -> tuple[int, np.ndarray | None]:
    """Returns how many places the best affine map carries from `other` to `one`, and the map (2,
    3); 0 and None without one.
    """
    first, second = _matched(one, other)
    if len(first) < MIN_THUMB_INLIERS:
        return 0, None
    matrix, inside = cv2.estimateAffine2D(
        second, first, method=cv2.RANSAC, ransacReprojThreshold=2.0, maxIters=300
    )
    if matrix is None or not _is_sane(np.vstack([matrix, [0, 0, 1]])):
        return 0, None
    return _places(first[inside.ravel() == 1], 3), matrix


def structure(
    one: np.ndarray, other: np.ndarray, homography: np.ndarray, *, blocks: int = 10
) -> float:
    """Returns the correlation of fine structure that 60 % of the blocks of `one` reach where
    `other`, mapped, covers it.

    Both are float32 grey. 0 where too little of them overlaps or is structured.
    """
    height, width = one.shape
    scale = np.sqrt(abs(np.linalg.det(homography[:2, :2])))
    smoothed = cv2.GaussianBlur(other, (0, 0), 0.5 / scale) if scale < 0.8 else other
    mapped = cv2.warpPerspective(smoothed, homography, (width, height))
    covered = cv2.warpPerspective(np.full(other.shape, 255, np.uint8), homography, (width, height))
    covered = cv2.erode(covered, np.ones((7, 7))) > 250
    if covered.sum() < 0.3 * min(one.size, other.size * scale**2):
        return 0.0
    a, b = (_band(picture) * covered for picture in (one, mapped))
    side = max(6, min(height, width) // blocks)
    aa, bb, ab, share = (
        _blocks(values, side) for values in (a * a, b * b, a * b, covered.astype(np.float32))
    )
    energy = np.maximum(aa, bb)
    is_used = (share > 0.6) & (energy > max(1.5, 0.03 * np.percentile(energy, 95)))
    if is_used.sum() < 6:
        return 0.0
    return float(np.percentile((ab / np.sqrt(aa * bb + 1e-3))[is_used], 40))


class _Verifier:
    """Lays pictures over each other in larger size, and keeps the features of those it saw last."""

    def __init__(self, read: Callable[[int], np.ndarray | None]) -> None:
        self._picture = lru_cache(maxsize=256)(lambda place: _prepared(read(place)))

    def score(self, fit: tuple) -> float:
        """Returns the structure that the two pictures of a fit share, -1..1."""
        _, first, second, mirror, matrix = fit
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            return 0.0
        features = other.mirrored if mirror else other
        start = (
            _scaled(one.grey)
            @ np.vstack([matrix, [0, 0, 1]])
            @ np.linalg.inv(_scaled(features.grey))
        )
        rough = best = self._laid_over(one, features, start, refine=False)
        if rough >= SURELY_SAME:
            return 1.0
        exact = _homography(one.features, features.features)
        if exact is not None:
            best = max(best, self._laid_over(one, features, exact, refine=True))
        if best < SAME_STRUCTURE and rough >= REFINABLE:
            best = max(best, self._laid_over(one, features, start, refine=True))
        return best

    def unmoved(self, first: int, second: int) -> float:
        """Returns the structure that two pictures share as they stand, scaled to one size."""
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            return 0.0
        start = _scaled(one.grey) @ np.linalg.inv(_scaled(other.grey))
        return self._laid_over(one, other, start, refine=False)

    def _laid_over(
        self, one: _Picture, other: _Picture, homography: np.ndarray, *, refine: bool
    ) -> float:
        """The structure that both share at the resolution of the coarser one."""
        scale = np.sqrt(abs(np.linalg.det(homography[:2, :2])))
        coarsest = min(one.resolution, other.resolution / max(scale, 1e-3))
        resolution = float(np.clip(coarsest, 0.25, 1.0))
        picture = _resized(one.grey, resolution).astype(np.float32)
        moved = other.grey.astype(np.float32)
        if resolution < 0.7:
            moved = cv2.GaussianBlur(moved, (0, 0), 0.5 / resolution)
        homography = np.diag([resolution, resolution, 1.0]) @ homography
        score = structure(picture, moved, homography)
        if not refine or not REFINABLE <= score < SURELY_SAME:
            return score
        refined = _refined(picture, moved, homography)
        return score if refined is None else max(score, structure(picture, moved, refined))


class _Picture:
    """A picture at `SIDE`; `resolution` is px of the file for each px here, at most 1."""

    def __init__(self, grey: np.ndarray, resolution: float) -> None:
        self.grey, self.resolution = grey, resolution

    @cached_property
    def features(self) -> Features:
        detector = cv2.ORB_create(500, 1.2, 6, edgeThreshold=16, patchSize=24, fastThreshold=7)
        return _features(detector, self.grey)

    @cached_property
    def mirrored(self) -> _Picture:
        return _Picture(_mirror(self.grey), self.resolution)


def _prepared(picture: np.ndarray | None) -> _Picture | None:
    if picture is None:
        return None
    factor = SIDE / max(picture.shape)
    return _Picture(_resized(picture, factor), min(1.0, 1 / factor))


def _too_alike(verifier: _Verifier, number: int) -> str | None:
    """Why copies cannot be told from look-alikes in this data set; None where they can.

    Learnt from pairs chosen at random: where different originals share structure as they stand,
    the thresholds above say nothing.
    """
    order = np.random.default_rng(0).permutation(number)[: SAMPLE + 1]
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    alike = float(np.mean([verifier.unmoved(*pair) >= LIKE_STRUCTURE for pair in pairs.tolist()]))
    if alike <= MAX_ALIKE:
        return None
    return (
        f"Cropped and turned copies are not looked for: {alike:.0%} of the pairs of pictures share "
        "fine structure, so copies cannot be told from look-alikes in this data set."
    )


def _accepted(
    fits: list[tuple], verifier: _Verifier, threads: ThreadPoolExecutor, leaders: np.ndarray
) -> Iterator[tuple[tuple[int, int], float]]:
    """Yields verified pairs; pairs whose pictures are joined already are not tried again."""
    parent = leaders.copy()

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    batch = 32
    for start in range(0, len(fits), batch):
        open_fits = [fit for fit in fits[start : start + batch] if root(fit[1]) != root(fit[2])]
        for fit, score in zip(open_fits, threads.map(verifier.score, open_fits), strict=True):
            if score >= SAME_STRUCTURE:
                first, second = root(fit[1]), root(fit[2])
                parent[max(first, second)] = min(first, second)
                yield (fit[1], fit[2]), score


Features = tuple[np.ndarray, np.ndarray]
"""Positions float32 (features, 2) and descriptors uint8 (features, 32)."""


def _described(thumb: np.ndarray, most: int) -> tuple[Features, Features]:
    """The features of a thumbnail and of its mirror image."""
    detector = cv2.ORB_create(most, 1.2, 4, edgeThreshold=8, patchSize=16, fastThreshold=5)
    return _features(detector, thumb), _features(detector, _mirror(thumb))


def _features(detector: cv2.ORB, grey: np.ndarray) -> Features:
    points, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8)
    return np.array(cv2.KeyPoint_convert(points)), descriptors


def _mirror(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1])


def _keys(descriptors: np.ndarray, bits: np.ndarray) -> np.ndarray:
    sampled = (descriptors[:, bits >> 3] >> (7 - (bits & 7)).astype(np.uint8)) & 1
    packed = np.zeros((len(descriptors), 4), np.uint8)
    packed[:, : KEY_BITS // 8] = np.packbits(sampled, axis=1)
    return packed.view(np.uint32).ravel().astype(np.int64)


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted distinct values and their numbers; several times faster than `np.unique`."""
    values = np.sort(values)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else values
    return values[starts], np.diff(np.r_[starts, len(values)])


def _collisions(
    first: np.ndarray, second: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes (smaller * number + larger) of pictures that share a key, and how much each says: 1
    where no other picture has it.
    """
    keys, counts = _distinct(first // number)
    other_keys, other_counts = _distinct(second // number)
    starts, other_starts = np.cumsum(counts) - counts, np.cumsum(other_counts) - other_counts
    _, i, j = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
    rare = (counts[i] <= MAX_BUCKET) & (other_counts[j] <= MAX_BUCKET)
    i, j = i[rare], j[rare]
    sizes = counts[i] * other_counts[j]
    which = np.repeat(np.arange(len(i)), sizes)
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    one = first[starts[i][which] + place // other_counts[j][which]] % number
    other = second[other_starts[j][which] + place % other_counts[j][which]] % number
    weight = (
        np.log(number / np.maximum(counts[i], other_counts[j]).clip(max=number))
        / np.log(max(number, 3))
    ) ** 2
    apart = one < other if first is second else one != other
    return np.minimum(one, other)[apart] * number + np.maximum(one, other)[apart], weight[which][
        apart
    ]


def _best_of_each(first: np.ndarray, second: np.ndarray, votes: np.ndarray) -> np.ndarray:
    kept = np.zeros(len(votes), bool)
    for side in (first, second):
        order = np.lexsort((-votes, side))
        begins = (
            np.r_[True, side[order][1:] != side[order][:-1]] if len(order) else np.empty(0, bool)
        )
        rank = np.arange(len(order)) - np.maximum.accumulate(
            np.where(begins, np.arange(len(order)), 0)
        )
        kept[order[rank < PROPOSED_PER_PICTURE]] = True
    return kept


def _matched(one: Features, other: Features) -> tuple[np.ndarray, np.ndarray]:
    """Positions of mutual nearest features, (matches, 2) in each picture."""
    if min(len(one[0]), len(other[0])) < 6:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(other[1], one[1])
    places = np.array(
        [(m.trainIdx, m.queryIdx) for m in matches if m.distance <= 64], np.int64
    ).reshape(-1, 2)
    return one[0][places[:, 0]], other[0][places[:, 1]]


def _homography(one: Features, other: Features) -> np.ndarray | None:
    first, second = _matched(one, other)
    if len(first) < 8:
        return None
    matrix, inside = cv2.findHomography(second, first, cv2.RANSAC, 3.0, maxIters=500)
    if matrix is None or not _is_sane(matrix) or _places(first[inside.ravel() == 1], 4) < 10:
        return None
    return matrix


def _refined(one: np.ndarray, other: np.ndarray, homography: np.ndarray) -> np.ndarray | None:
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        start = np.linalg.inv(homography).astype(np.float32)
        found = np.linalg.inv(
            cv2.findTransformECC(one, other, start, cv2.MOTION_HOMOGRAPHY, until, None, 3)[1]
        )
    except (
        cv2.error,
        np.linalg.LinAlgError,
    ):  # it does not converge where the two have nothing in common
        return None
    return found if _is_sane(found) else None


def _is_sane(matrix: np.ndarray) -> bool:
    """Whether a map stretches by at most 3, neither squeezes nor mirrors, and bends little."""
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:2, :2]) <= 0:
        return False
    large, small = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    return bool(
        large < 3 and small > 1 / 3 and large / small < 2 and np.abs(matrix[2, :2]).max() < 0.004
    )


def _places(points: np.ndarray, size: float) -> int:
    """Number of cells of `size` px that hold points: several scales at one corner count once."""
    return len({(round(float(x) / size), round(float(y) / size)) for x, y in points})


def _scaled(grey: np.ndarray) -> np.ndarray:
    return np.diag([grey.shape[1] / THUMB, grey.shape[0] / THUMB, 1.0])


def _resized(picture: np.ndarray, factor: float) -> np.ndarray:
    height, width = picture.shape
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return cv2.resize(
        picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    )


def _band(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 0.8) - cv2.GaussianBlur(picture, (0, 0), 2.5)


def _blocks(values: np.ndarray, side: int) -> np.ndarray:
    rows, columns = values.shape[0] // side, values.shape[1] // side
    return (
        values[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))
    )
