"""Exact search for pairs of 64-bit hashes that differ in few bits, in any of their eight orientations."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BLOCK = 32_768
"""Columns compared at once: 256 kB of hashes stay in a core's cache."""


def pairs(hashes: np.ndarray, *, distance: int, workers: int = 1) -> np.ndarray:
    """Returns every pair of pictures of which one, turned, lies within `distance` bits of the other as it is.

    `hashes` is uint64 of shape (n, orientations), column 0 the picture as it is. The result is int64 of shape (hits, 4):
    first < second, orientation of the second, bits that differ; a pair that fits in several orientations has a row for
    each, the nearest first. Brute force in blocks: n * n / 2
    comparisons an orientation, about 1e9 a second and core, and no memory but the pairs'.
    """
    hashes = np.ascontiguousarray(hashes, np.uint64)
    number = len(hashes)
    columns = [np.ascontiguousarray(hashes[:, turn]) for turn in range(hashes.shape[1])]
    bands = [range(start, min(start + 256, number)) for start in range(0, number, 256)]
    with ThreadPoolExecutor(workers) as threads:  # numpy lets go of the interpreter's lock while it compares
        found = list(threads.map(lambda band: _band(columns, band, distance), bands))
    rows = np.concatenate([np.empty((0, 4), np.int64), *found])
    return rows[np.lexsort((rows[:, 2], rows[:, 3], rows[:, 1], rows[:, 0]))]


def _band(columns: list[np.ndarray], band: range, distance: int) -> np.ndarray:
    return np.concatenate([np.empty((0, 4), np.int64), *_hits(columns, band, distance)])


def _hits(columns: list[np.ndarray], band: range, distance: int) -> Iterator[np.ndarray]:
    upright = columns[0]
    buffer, bits = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint8)
    for turn, turned in enumerate(columns):
        for start in range(band.start, len(upright), BLOCK):
            block = turned[start : start + BLOCK]
            for row in band:
                low = max(0, row + 1 - start)
                if low >= len(block):
                    continue
                part = block[low:]
                different = np.bitwise_count(
                    np.bitwise_xor(part, upright[row], out=buffer[: len(part)]), out=bits[: len(part)]
                )
                near = np.flatnonzero(different <= distance)
                if len(near):
                    yield np.stack(
                        [np.full(len(near), row), near + (start + low), np.full(len(near), turn), different[near]], axis=1
                    ).astype(np.int64)
