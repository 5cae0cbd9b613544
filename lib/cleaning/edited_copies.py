"""Finds copies that were cropped, rotated, framed, overlaid or photographed at an angle.

Three steps, each for fewer pairs than the one before: pictures are proposed whose thumbnails share
rare local features under one rotation; an affine map must carry many of the features of one
thumbnail onto the other's; and in larger pictures, laid over each other by a homography, most
blocks must hold the same fine structure, so that two photographs of one kind of thing do not pass.

Sources: Rublee et al., ORB, ICCV 2011; Indyk and Motwani, Approximate Nearest Neighbors, STOC 1998
    (bit sampling); Jegou, Douze and Schmid, Hamming Embedding and Weak Geometric Consistency, ECCV
    2008; Evangelidis and Psarakis, TPAMI 30 (2008), algorithm ECC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from lib.cleaning.measurements import THUMB

MAX_FEATURES = 120
MAX_TOTAL_FEATURES = 12_000_000
"""Features of all thumbnails together; of a larger data set each picture has fewer of them."""

NUM_MIRRORED = 60
"""Features of the mirror image; fewer, since few copies are mirrored and cropped."""

TABLES, KEY_BYTES, MAX_BUCKET = 6, 3, 16
TURNS = 12
"""Bins of the rotation between two pictures; features of one pair agree within two of them."""

NUM_BINS = 8_388_593
"""Number of bins, a prime, in which votes are first summed."""

MIN_VOTES = (2.5, 3.0)
"""Rare features, in units of one that no third picture has, which a proposed pair shares under one
rotation: of two upright pictures, and of an upright and a mirrored one. Measured on 610 pictures of
cars: 225 of 295 pairs of edited copies and 457 others reach the first.
"""

PROPOSED_PER_PICTURE = 3
MIN_THUMB_INLIERS = 11
"""Distinct places of a thumbnail that one affine map carries over. Measured on pairs of different
photographs of four data sets (wikiart, cars, simpsons, triage): the 99th percentile is 6 to 7, the
greatest of 2,400 pairs 11.
"""

SIDE = 224
"""Longer side in px at which two pictures are laid over each other."""

SAME_STRUCTURE = 0.86
"""From which correlation of the fine structure, reached by 60 % of the blocks, two pictures are one
photograph. Two press photographs of one car reach 0.68, two receipts of one shop 0.85; of 520 edits
that were found none is below.
"""

SURELY_SAME = 0.93
REFINABLE = 0.5
"""Structure below which exact alignment is not tried. Measured on 243 edited copies of cars, triage
and wikiart before it: at least 0.64; on 29 refused pairs: all but two below 0.42.
"""

LINE_ART = 0.12
"""Share of fine structure that outlives the removal of thin lines, below which a picture is text or
a drawing. Measured at 160 px: 95 % of receipts and of drawings below 0.09, 95 % of photographs
above 0.18.
"""

SAME_LINES = 0.97
"""Correlation of all fine structure at which text and drawings smaller than `SIDE` are one: most of
a form is printed alike, and its figures are a small part of it.
"""

LIKE_STRUCTURE = 0.3
MAX_ALIKE = 0.05
"""Share of random pairs with that much structure in common, as they stand, beyond which no copies
are claimed: pages of one form and solar cells share what elsewhere only copies share. Measured:
none of 80 pairs of wikiart, cars, simpsons, triage; 44 % of solar cells; all of forms' pages.
"""

SAMPLE = 60


class Found(NamedTuple):
    """Pairs of copies, int64 (pairs, 2), their correlations (pairs,), and why none are claimed, if
    none can be.
    """

    pairs: np.ndarray = np.empty((0, 2), np.int64)
    scores: np.ndarray = np.empty(0)
    note: str | None = None


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
        return Found()
    verifier = _Verifier(read)
    if note := _too_alike(verifier, len(rows)):
        return Found(note=note)
    leaders = np.arange(len(rows)) if leaders is None else leaders
    most = int(min(MAX_FEATURES, max(30, MAX_TOTAL_FEATURES // len(rows))))
    with ThreadPoolExecutor(num_threads) as threads:
        both = list(threads.map(lambda row: _described(np.asarray(thumbs[row]), most), rows))
        sides = [[pair[side] for pair in both] for side in (0, 1)]
        upright, fits = sides[0], []
        for mirror, (others, proposed) in enumerate(zip(sides, propose(*sides), strict=True)):
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
    pairs, scores = ([row[column] for row in accepted] for column in (0, 1))
    return Found(np.array(pairs, np.int64).reshape(-1, 2), np.array(scores, float))


def propose(upright: list[Features], mirrored: list[Features]) -> list[np.ndarray]:
    """Returns the pairs (first, second) of pictures that share rare features, int64 (pairs, 2), the
    best of each picture: of the upright pictures, and of upright and mirrored ones.

    Features count as equal that agree in three bytes of their descriptors; one that more than 16
    others equal says nothing.
    """
    number, proposals = len(upright), []
    sides = [_Side(features) for features in (upright, mirrored)]
    order = np.random.default_rng(0).permutation(32)[: TABLES * KEY_BYTES].reshape(TABLES, -1)
    for other, least in zip(sides, MIN_VOTES, strict=True):
        tables = [_collisions(sides[0], other, chosen, number) for chosen in order]
        codes, weights = (np.concatenate(column) for column in zip(*tables, strict=True))
        # Most codes have few votes: bins with too few are dropped before the slower exact sum.
        bins = codes % NUM_BINS
        kept = (np.bincount(bins, weights) >= least - 1e-9)[bins]
        votes = pd.Series(weights[kept]).groupby(codes[kept]).sum()
        votes = votes[votes >= least]
        votes = votes.groupby(votes.index // TURNS).max()
        first, second = votes.index // number, votes.index % number
        ranks = [
            votes.groupby(side).rank(method="first", ascending=False) for side in (first, second)
        ]
        best = votes[np.minimum(*ranks) <= PROPOSED_PER_PICTURE].nlargest(number).index
        proposals.append(np.stack([best // number, best % number], axis=1))
    return proposals


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
    one: np.ndarray, other: np.ndarray, homography: np.ndarray, *, whole: bool = False
) -> float:
    """Returns the correlation of fine structure that 60 % of the blocks of `one` reach where
    `other`, mapped, covers it; with `whole`, that of all blocks together.

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
    side = max(6, min(height, width) // 10)
    aa, bb, ab, share = (
        _blocks(values, side) for values in (a * a, b * b, a * b, covered.astype(np.float32))
    )
    energy = np.maximum(aa, bb)
    is_used = (share > 0.6) & (energy > max(1.5, 0.03 * np.percentile(energy, 95)))
    if is_used.sum() < 6:
        return 0.0
    if whole:
        return float(ab[is_used].sum() / np.sqrt(aa[is_used].sum() * bb[is_used].sum() + 1e-3))
    return float(np.percentile((ab / np.sqrt(aa * bb + 1e-3))[is_used], 40))


class _Verifier:
    """Lays pictures over each other in larger size, and keeps the features of those it saw last."""

    def __init__(self, read: Callable[[int], np.ndarray | None]) -> None:
        self._picture = lru_cache(maxsize=256)(lambda place: prepared(read(place)))

    def score(self, fit: tuple) -> float:
        """Returns the structure that the two pictures of a fit share, -1..1; 0 where it is not
        that of copies.
        """
        _, first, second, mirror, matrix = fit
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            return 0.0
        features = other.mirrored if mirror else other
        whole = one.is_small_print or other.is_small_print
        least = SAME_LINES if whole else SAME_STRUCTURE
        start = (
            _scaled(one.grey)
            @ np.vstack([matrix, [0, 0, 1]])
            @ np.linalg.inv(_scaled(features.grey))
        )
        best = self._laid_over(one, features, start, whole=whole)
        if best < least:
            exact = _homography(one.features, features.features)
            if exact is not None:
                best = max(best, self._laid_over(one, features, exact, whole=whole))
        return best if best >= least else 0.0

    def unmoved(self, first: int, second: int) -> float:
        """Returns the structure that two pictures share as they stand, scaled to one size."""
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            return 0.0
        start = _scaled(one.grey) @ np.linalg.inv(_scaled(other.grey))
        return self._laid_over(one, other, start, refine=False)

    def _laid_over(
        self,
        one: _Picture,
        other: _Picture,
        homography: np.ndarray,
        *,
        refine: bool = True,
        whole: bool = False,
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
        score = structure(picture, moved, homography, whole=whole)
        if not refine or not REFINABLE <= score < (SAME_LINES if whole else SURELY_SAME):
            return score
        refined = _refined(picture, moved, homography)
        if refined is None:
            return score
        return max(score, structure(picture, moved, refined, whole=whole))


class _Picture:
    """A picture at `SIDE`; `resolution` is px of the file for each px here, at most 1."""

    def __init__(self, grey: np.ndarray, resolution: float) -> None:
        self.grey, self.resolution = grey, resolution

    @cached_property
    def features(self) -> Features:
        detector = cv2.ORB_create(500, 1.2, 6, edgeThreshold=16, patchSize=24, fastThreshold=7)
        return _features(*detector.detectAndCompute(self.grey, None))

    @cached_property
    def is_small_print(self) -> bool:
        """Whether this is text or a drawing, of a file smaller than `SIDE`."""
        if self.resolution >= 1:
            return False
        grey, kernel = self.grey.astype(np.float32), np.ones((7, 7))
        left = [
            (_band(cv2.morphologyEx(grey, way, kernel)) ** 2).mean()
            for way in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN)  # dark lines, and light ones
        ]
        return bool(min(left) < LINE_ART * (_band(grey) ** 2).mean())

    @cached_property
    def mirrored(self) -> _Picture:
        return _Picture(_mirror(self.grey), self.resolution)


def prepared(picture: np.ndarray | None) -> _Picture | None:
    """A picture, uint8 grey, at `SIDE`."""
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
            if score:
                first, second = root(fit[1]), root(fit[2])
                parent[max(first, second)] = min(first, second)
                yield (fit[1], fit[2]), score


class Features(NamedTuple):
    """Positions float32 (features, 2), angles (features,) in degrees, descriptors uint8 (features,
    32).
    """

    points: np.ndarray
    angles: np.ndarray
    descriptors: np.ndarray


def _described(thumb: np.ndarray, most: int) -> tuple[Features, Features]:
    """The features of a thumbnail, and of its mirror image at the strongest of their places."""
    detector = cv2.ORB_create(most, 1.2, 4, edgeThreshold=8, patchSize=16, fastThreshold=5)
    points, descriptors = detector.detectAndCompute(thumb, None)
    strongest = sorted(points, key=lambda point: -point.response)[:NUM_MIRRORED]
    moved = [
        cv2.KeyPoint(
            THUMB - 1 - point.pt[0], point.pt[1], point.size, (180 - point.angle) % 360,
            point.response, point.octave,
        )
        for point in strongest
    ]  # fmt: skip
    return _features(points, descriptors), _features(*detector.compute(_mirror(thumb), moved))


def _features(points: Sequence[cv2.KeyPoint], descriptors: np.ndarray | None) -> Features:
    if descriptors is None or not len(points):
        empty = np.empty((0, 2), np.float32)
        return Features(empty, empty[:, 0], np.empty((0, 32), np.uint8))
    angles = np.array([point.angle for point in points], np.float32)
    return Features(np.array(cv2.KeyPoint_convert(points)), angles, descriptors)


def _mirror(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1])


class _Side:
    """The features of all pictures, with the picture and the angle of each."""

    def __init__(self, features: list[Features]) -> None:
        self.descriptors = np.concatenate([part.descriptors for part in features])
        self.angles = np.concatenate([part.angles for part in features])
        self.owners = np.repeat(np.arange(len(features)), [len(part.points) for part in features])

    def buckets(self, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        """Positions sorted by key, the distinct keys, where each begins, and how many it has."""
        keys = np.zeros(len(self.owners), np.int32)
        for byte in chosen:
            keys = keys << 8 | self.descriptors[:, byte]
        order = np.argsort(keys)
        ordered = keys[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        return order, ordered[starts], starts, np.diff(np.r_[starts, len(ordered)])


def _collisions(
    first: _Side, second: _Side, chosen: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes ((smaller * number + larger) * TURNS + rotation) of pictures that share a key, and how
    much each says: 1 where no other picture has it.
    """
    order, keys, starts, counts = first.buckets(chosen)
    others, other_keys, other_starts, other_counts = second.buckets(chosen)
    _, i, j = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
    rare = (counts[i] <= MAX_BUCKET) & (other_counts[j] <= MAX_BUCKET)
    i, j = i[rare], j[rare]
    sizes = counts[i] * other_counts[j]
    which = np.repeat(np.arange(len(i)), sizes)
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    at = order[starts[i][which] + place // other_counts[j][which]]
    other_at = others[other_starts[j][which] + place % other_counts[j][which]]
    one, other = first.owners[at], second.owners[other_at]
    most = np.maximum(counts[i], other_counts[j]).clip(max=number)
    weights = (np.log(number / most) / np.log(max(number, 3))) ** 2
    apart = one < other if first is second else one != other
    turn = (second.angles[other_at] - first.angles[at])[apart] % 360
    bins = (turn * (TURNS / 360)).astype(np.int64) % TURNS
    pairs = np.minimum(one, other)[apart] * number + np.maximum(one, other)[apart]
    codes = pairs * TURNS
    both = np.concatenate([codes + bins, codes + (bins + 1) % TURNS])
    return both, np.tile(weights[which][apart], 2)


def _matched(one: Features, other: Features) -> tuple[np.ndarray, np.ndarray]:
    """Positions of mutual nearest features, (matches, 2) in each picture."""
    if min(len(one.points), len(other.points)) < 6:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    matches = [m for m in matcher.match(other.descriptors, one.descriptors) if m.distance <= 64]
    return one.points[[m.trainIdx for m in matches]], other.points[[m.queryIdx for m in matches]]


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
        refined = np.linalg.inv(
            cv2.findTransformECC(one, other, start, cv2.MOTION_HOMOGRAPHY, until, None, 3)[1]
        )
    except (cv2.error, np.linalg.LinAlgError):  # it does not converge: nothing in common
        return None
    return refined if _is_sane(refined) else None


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
