"""Perceptual hashes of pictures in eight orientations, and the exact search for near pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, combinations

import cv2
import numpy as np

MAX_ALL_PAIRS = 20_000
"""Up to this many hashes all pairs are compared; beyond, only those that share a part of their
bits.
"""

BUCKET = 100
"""Mean number of hashes that share a part; with fewer, walking the parts costs more than it saves.
"""

ROWS, COLUMNS = 64, 4_096
"""Block of pairs compared at once: 2 MB of differences, which stay in a core's cache."""

_ODD = np.where(np.arange(8) % 2, -1.0, 1.0).astype(np.float32)
_SIGNS = np.stack(
    [np.outer(down, across) for down in (_ODD**2, _ODD) for across in (_ODD**2, _ODD)]
)


def perceptual_hashes(small: np.ndarray) -> np.ndarray:
    """Returns the 64-bit pHash of uint8 grey (64, 64) as it is and as it would be in the 7 other
    orientations.

    Shape (8,), uint64: upright, mirrored, upside down, both; then the same four of the transposed
    picture. Mirroring a picture flips the sign of its odd cosine coefficients, so all eight come
    from one transform.

    Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010),
    section 3.2.
    """
    reduced = cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    turned = cv2.dct(reduced)[:8, :8] * _SIGNS  # (4, 8, 8)
    blocks = np.concatenate([turned, turned.transpose(0, 2, 1)])
    blocks = blocks.reshape(8, 64)  # (orientation, coefficient)
    # The first says how bright the picture is, nothing about what it shows. Transposed, the others
    # are the same 63.
    medians = np.sort(blocks[:4, 1:], axis=1)[:, 31:32]
    bits = blocks > np.concatenate([medians, medians])
    bits[:, 0] = False
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def orient(small: np.ndarray, orientation: int) -> np.ndarray:
    """Returns `small` in the orientation (0-7) of `perceptual_hashes`, a view."""
    turned = (small, small[:, ::-1], small[::-1], small[::-1, ::-1])[orientation % 4]
    return turned.T if orientation >= 4 else turned


def pairs(hashes: np.ndarray, *, distance: int, workers: int = 1) -> np.ndarray:
    """Returns every pair of pictures of which one, turned, lies within `distance` bits of the other
    as it is.

    `hashes` is uint64 of shape (n, orientations), column 0 the picture as it is. The result is
    int64 of shape (hits, 4): first < second, orientation of the second, bits that differ; a pair
    that fits in several orientations has a row for each, the nearest first.

    Exact, by the pigeonhole principle: of m parts of the bits with allowances a_1 + ... + a_m =
    distance - m + 1, two near hashes agree in one part but for its allowance, so only hashes whose
    parts do so are compared. Source: Norouzi, Punjani and Fleet, Fast Exact Search in Hamming Space
    with Multi-Index Hashing, TPAMI 36 (2014).
    """
    hashes = np.ascontiguousarray(hashes, np.uint64)
    tasks = [
        (turn, bits, allowance)
        for turn in range(hashes.shape[1])
        for bits, allowance in parts(len(hashes), distance)
    ]
    with ThreadPoolExecutor(workers) as threads:  # numpy releases the interpreter's lock
        hits = list(threads.map(lambda task: _search(hashes, *task, distance=distance), tasks))
    rows = np.unique(np.concatenate([np.empty((0, 4), np.int64), *hits]), axis=0)
    return rows[np.lexsort((rows[:, 2], rows[:, 3], rows[:, 1], rows[:, 0]))]


def parts(number: int, distance: int) -> list[tuple[np.ndarray, int]]:
    """Returns the parts of the 64 bits for `number` hashes: the positions of their bits, and how
    many of them may differ.

    A part takes every m-th bit, so that coarse and fine coefficients mix and no part is alike in
    all pictures.
    """
    if number <= MAX_ALL_PAIRS:
        return [(np.empty(0, np.uint64), 0)]  # one part without bits, in which all agree
    width = min(13, max(4, round(math.log2(number / BUCKET))))
    count = min(64 // width, distance + 1)
    spare = distance - count + 1
    allowances = [spare // count + (index < spare % count) for index in range(count)]
    return [
        (np.arange(index, 64, count, dtype=np.uint64)[:width], allowance)
        for index, allowance in enumerate(allowances)
    ]


def _search(
    hashes: np.ndarray, turn: int, bits: np.ndarray, allowance: int, *, distance: int
) -> np.ndarray:
    upright, turned = hashes[:, 0], np.ascontiguousarray(hashes[:, turn])
    keys, other_keys = _key(upright, bits), _key(turned, bits)
    order, starts = _buckets(keys, len(bits))
    other_order, other_starts = _buckets(other_keys, len(bits))
    sizes = range(allowance + 1)
    flips = chain.from_iterable(combinations(range(len(bits)), size) for size in sizes)
    masks = [sum(1 << bit for bit in chosen) for chosen in flips]
    hits = [np.empty((0, 4), np.int64)]
    room = tuple(np.empty(ROWS * COLUMNS, kind) for kind in (np.uint64, np.uint8, bool))
    for key in np.flatnonzero(np.diff(starts)):
        one = order[starts[key] : starts[key + 1]]
        near = [slice(other_starts[key ^ mask], other_starts[(key ^ mask) + 1]) for mask in masks]
        other = np.sort(np.concatenate([other_order[part] for part in near]))
        hits += [
            np.stack([one[row], other[column], np.full(len(row), turn), bits_apart], axis=1)
            for row, column, bits_apart in _near(
                upright[one], one, turned[other], other, distance=distance, room=room
            )
        ]
    return np.concatenate(hits)


def _key(values: np.ndarray, bits: np.ndarray) -> np.ndarray:
    key = np.zeros(len(values), np.uint64)
    for place, bit in enumerate(bits):
        key |= ((values >> bit) & np.uint64(1)) << np.uint64(place)
    return key.astype(np.int64)


def _buckets(keys: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions sorted by key, each key's in ascending order, and where each key's begin."""
    order = np.argsort(keys, kind="stable")
    return order, np.searchsorted(keys[order], np.arange((1 << width) + 1))


def _near(
    one: np.ndarray,
    one_at: np.ndarray,
    other: np.ndarray,
    other_at: np.ndarray,
    *,
    distance: int,
    room: tuple,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields (index in `one`, index in `other`, bits that differ) of near pairs whose second
    position is the later one.
    """
    for top in range(0, len(one), ROWS):
        rows, places = one[top : top + ROWS], one_at[top : top + ROWS]
        for left in range(
            int(np.searchsorted(other_at, places[0], side="right")), len(other), COLUMNS
        ):
            columns = other[left : left + COLUMNS]
            size, shape = len(rows) * len(columns), (len(rows), len(columns))
            # Into allocated memory: allocating costs more than the comparison.
            different, apart, near = (part[:size].reshape(shape) for part in room)
            np.bitwise_count(np.bitwise_xor(rows[:, None], columns, out=different), out=apart)
            hits = np.flatnonzero(np.less_equal(apart, distance, out=near))
            if len(hits):
                row, column = np.divmod(hits, len(columns))
                later = other_at[left + column] > places[row]
                row, column = row[later], column[later]
                yield top + row, left + column, apart[row, column].astype(np.int64)
