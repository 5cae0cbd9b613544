"""Pictures of more than 8 bits: one range of stored values for the whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.errors import DarkroomError

_STRIP = 1 << 20  # values converted at once, so that a large picture needs no copy in another type

SCALES_APART = 8
SMALLEST_SCALE = 0.05
"""Two groups of pictures have two scales where their greatest values differ by this factor, and
each holds this share of the pictures.
"""

MAX_PIXELS = 100_000_000
"""Declared width times height above which nothing is decoded: 300 MB of RGB."""


@dataclass(frozen=True)
class Rendering:
    """Mapping of stored values and bands to 8-bit RGB.

    Args:
        ranges: for each kind of stored values (`uint16`, `int16`, `int32`, `float`) what becomes 0
            and 255. bands: the numbers of the bands, from 1, that become red, green and blue, or
            the one that becomes grey.
        max_pixels: declared width times height above which nothing is decoded.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    bands: tuple[int, ...] = ()
    max_pixels: int = MAX_PIXELS

    def range_of(self, kind: str, low: float, high: float) -> tuple[float, float]:
        """Returns what becomes 0 and 255 for values of this kind; where nothing is known, from the
        picture's own ends.
        """
        return self.ranges.get(kind) or (
            widest(kind) if kind == "uint16" else choose(kind, low, high)
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        ranges = {kind: list(ends) for kind, ends in self.ranges.items()}
        limit = {} if self.max_pixels == MAX_PIXELS else {"max_pixels": self.max_pixels}
        return {"ranges": ranges, "bands": list(self.bands), **limit}

    @classmethod
    def from_json(cls, value: Any) -> Rendering:
        """Returns the rendering that `as_json` has written; an empty one for None."""
        value = value or {}
        ranges = {kind: tuple(map(float, ends)) for kind, ends in value.get("ranges", {}).items()}
        bands = tuple(int(band) for band in value.get("bands", ()))
        return cls(ranges, bands, int(value.get("max_pixels", MAX_PIXELS)))


def widest(kind: str) -> tuple[float, float]:
    """Returns the full range of an integer kind."""
    info = np.iinfo(kind)
    return float(info.min), float(info.max)


def choose(kind: str, low: float, high: float) -> tuple[float, float]:
    """Returns what becomes black and white for a data set whose stored values lie within `low` and
    `high`.

    Whole numbers from 0 on end at the power of two above them (4095 for 12 bits), so that white
    means the same in each set; floats end at 1 or 255 where they stay below it. Negative values, as
    of Hounsfield units, keep their ends. Nothing is cut.
    """
    if not np.isfinite(low) or not np.isfinite(high):
        return 0.0, 1.0
    if low < 0:
        return low, max(high, low + 1e-12)
    if kind == "float":
        return 0.0, next(
            (top for top in (1.0, 255.0) if top * 0.5 < high <= top), high if high > 1 else 1.0
        )
    return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)


def refuse_two_scales(paths: Sequence[str], kinds: Sequence[str], high: np.ndarray) -> None:
    """Raises DarkroomError where the greatest values of a data set's pictures fall into two groups
    far apart, such as 0..1 and 0..255: on one scale one of them would be black.
    """
    for kind in sorted(set(kinds)):
        own = [at for at, name in enumerate(kinds) if name == kind and high[at] > 0]
        own.sort(key=lambda at: high[at])
        tops = high[own]
        apart = 1 + int(np.argmax(tops[1:] / tops[:-1])) if len(own) > 1 else 0
        least = max(2, SMALLEST_SCALE * len(own))
        if min(apart, len(own) - apart) < least or tops[apart] < SCALES_APART * tops[apart - 1]:
            continue
        (_, low_top), (_, top) = (choose(kind, 0, value) for value in (tops[apart - 1], tops[-1]))
        raise DarkroomError(
            f"{apart:,} pictures hold {kind} values within 0..{low_top:g}, such as "
            f"{paths[own[0]]}, and {len(own) - apart:,} within 0..{top:g}, such as "
            f"{paths[own[-1]]}: on one scale the former are black. Write all of them on one scale, "
            f"or say range=0..{top:g} (or 0..{low_top:g}) if this is how they are meant."
        )


def united(ends: Iterable[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """Returns one range for each kind from (kind, lowest, highest) of every picture."""
    widest_of: dict[str, tuple[float, float]] = {}
    for kind, low, high in ends:
        known = widest_of.get(kind, (low, high))
        widest_of[kind] = (min(known[0], low), max(known[1], high))
    return {kind: choose(kind, low, high) for kind, (low, high) in widest_of.items()}


def kind_of(values: np.ndarray) -> str:
    """Returns the kind of stored values: `uint16`, `int16`, `int32` (all wider whole numbers) or
    `float`.
    """
    if values.dtype.kind == "f":
        return "float"
    return {"uint16": "uint16", "int16": "int16"}.get(values.dtype.name, "int32")


def ends_of(values: np.ndarray) -> tuple[float, float]:
    """Returns the least and the greatest finite value; (0, 0) where there is none."""
    if values.dtype.kind != "f":
        return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    low, high = np.inf, -np.inf
    for strip in _strips(values):
        finite = strip[np.isfinite(strip)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def to_8_bit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns `values` as uint8 of the same shape: `low` and below are 0, `high` and above 255; NaN
    is 0.
    """
    if values.dtype == np.uint16:
        levels = np.arange(65536, dtype=np.float32) - np.float32(low)
        table = np.clip(levels * np.float32(255 / (high - low)), 0, 255)
        return np.rint(table).astype(np.uint8)[values]
    result = np.empty(values.shape, np.uint8)
    scale = 255 / (high - low)
    is_short = values.dtype.kind in "iu" and values.dtype.itemsize <= 2
    kind = np.float32 if is_short else np.float64
    for strip, part in zip(_strips(values), _strips(result), strict=True):
        scaled = (strip.astype(kind) - low) * scale
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        part[...] = np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
    return result


def _strips(values: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _STRIP // max(1, values[0].size)) if len(values) else 1
    for start in range(0, len(values), rows):
        yield values[start : start + rows]
