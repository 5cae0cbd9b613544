"""Everything that one look at one file tells: hashes, size, light, sharpness, a thumbnail. Runs in
worker processes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.data import decode
from lib.data.decode import ImageError
from lib.data.value_range import Rendering

VERSION = 7
"""Counts changes of what is measured; a scan of another version is read anew."""

MAX_BYTES = 512 << 20
"""A larger file is not decoded: no photograph is that large, and a few at once would fill the
memory.
"""

THUMB = 64
"""Side of the stored grey thumbnail, px."""

ENOUGH = 262_144
"""Pixels up to which light is told from every row; of a larger picture from every second, third,
... one.
"""

_LEVELS = np.stack([np.arange(256.0), np.arange(256.0) ** 2])  # (moment, level)
_ODD = np.where(np.arange(8) % 2, -1.0, 1.0).astype(np.float32)
_SIGNS = np.stack(
    [
        np.ones((8, 8), np.float32),
        np.tile(_ODD, (8, 1)),
        np.tile(_ODD[:, None], (1, 8)),
        np.outer(_ODD, _ODD),
    ]
)


@dataclass(frozen=True)
class Measured:
    """What is known of one file. `problem` is a reason of `decode.REASONS`, `unreadable`, `crashed`
    or None.

    `dark` and `bright` are the 99th and 1st percentile of grey, `contrast` what lies between them,
    `uniform` the share of pixels within 4 levels of the commonest grey, all 0..1; `sharpness` is
    the spread of the Laplacian over the spread of grey; `hashes` (8 x uint64) and `thumb` (64 x 64
    x uint8) are raw bytes. Of pictures of more than 8 bits `stored` is the kind of their values,
    `stored_low` and `stored_high` the ends of these, `range_low` and `range_high` what became 0 and
    255.
    """

    sha256: str | None = None
    problem: str | None = None
    detail: str = ""
    pixels: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    dark: float | None = None
    bright: float | None = None
    contrast: float | None = None
    uniform: float | None = None
    sharpness: float | None = None
    hashes: bytes | None = None
    thumb: bytes | None = None
    frames: int | None = None
    stored: str | None = None
    stored_low: float | None = None
    stored_high: float | None = None
    range_low: float | None = None
    range_high: float | None = None


def measure(
    path: Path, *, max_pixels: int = decode.MAX_PIXELS, rendering: Rendering | None = None
) -> Measured:
    """Reads the file once and returns all that can be told of it; broken bytes are a `problem`, not
    an exception.
    """
    try:
        data, digest = read_file(path)
    except OSError as error:
        return Measured(problem="unreadable", detail=error.strerror or str(error))
    try:
        if data is None:
            raise ImageError(
                "too_large", f"more than {MAX_BYTES >> 20} MiB; the limit keeps the memory free"
            )
        decoded = decode.decode(data, max_pixels=max_pixels, rendering=rendering)
    except ImageError as error:
        return Measured(sha256=digest, problem=error.reason, detail=str(error))
    height, width = decoded.pixels.shape[:2]
    grey = cv2.cvtColor(decoded.pixels, cv2.COLOR_RGB2GRAY)  # (height, width)
    small = thumbnail(grey)
    return Measured(
        sha256=digest,
        pixels=decode.pixel_hash(decoded.pixels),
        format=decoded.format,
        width=width,
        height=height,
        mode=decoded.mode,
        hashes=perceptual_hashes(small).tobytes(),
        thumb=small.tobytes(),
        frames=decoded.frames,
        **_stored(decoded),
        **light(grey),
    )


def _stored(decoded: decode.Decoded) -> dict[str, str | float]:
    if decoded.stored is None or decoded.range is None:
        return {}
    (kind, low, high), (start, end) = decoded.stored, decoded.range
    return {
        "stored": kind,
        "stored_low": low,
        "stored_high": high,
        "range_low": start,
        "range_high": end,
    }


def read_file(path: Path) -> tuple[bytes | None, str]:
    """Returns the bytes and their SHA-256; of a film or an archive, and of what is larger than
    `MAX_BYTES`, the head or None.

    Those are hashed block by block, so that they need no memory.
    """
    with path.open("rb") as file:
        head = file.read(decode.HEAD_BYTES)
        is_image = decode.kind(head) is not None
        if is_image and os.fstat(file.fileno()).st_size <= MAX_BYTES:
            data = head + file.read(MAX_BYTES)
            return data, hashlib.sha256(data).hexdigest()
        digest = hashlib.sha256(head)
        while block := file.read(1 << 20):
            digest.update(block)
        return (None if is_image else head), digest.hexdigest()


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """Returns uint8 grey of 64 x 64 by area.

    Halving first takes a fifth of the time, and moves the levels of photographs by 0.2 to 0.7 on
    the mean, by 12 at an edge. Once more, below four times the side, it would move them by up to 50
    (measured at six sizes). A width that shrinks by a whole factor goes first, which takes two
    thirds of the time for 320 x 240 and moves nothing by more than a level.
    """
    height, width = grey.shape
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 4 * THUMB:
        height, width = height // 2, width // 2
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    if width % THUMB == 0:
        grey = cv2.resize(grey, (THUMB, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)


def light(grey: np.ndarray) -> dict[str, float]:
    """Returns `dark`, `bright`, `contrast`, `uniform` and `sharpness` of uint8 grey; see
    `Measured`.
    """
    rows = grey[:: -(-grey.size // ENOUGH)]
    counts = (
        np.bincount(rows.ravel(), minlength=256)
        if rows.size < 65_536
        else cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel()
    )
    counts = counts.astype(np.float64)
    number = counts.sum()
    low, high = np.searchsorted(np.cumsum(counts) / number, (0.01, 0.99)).tolist()
    mode = int(counts.argmax())
    mean, square = (float(moment) / number for moment in _LEVELS @ counts)
    spread = max(0.0, square - mean**2) ** 0.5
    laplacian = cv2.Laplacian(grey, cv2.CV_16S)
    edges = max(0.0, cv2.norm(laplacian) ** 2 / grey.size - cv2.mean(laplacian)[0] ** 2) ** 0.5
    return {
        "dark": high / 255,
        "bright": low / 255,
        "contrast": (high - low) / 255,
        "uniform": float(counts[max(0, mode - 4) : mode + 5].sum()) / number,
        "sharpness": float(edges) / (spread + 1.0),
    }


def perceptual_hashes(small: np.ndarray) -> np.ndarray:
    """Returns the 64-bit pHash of uint8 grey (64, 64) as it is and as it would be in the 7 other
    orientations.

    Order: upright, mirrored, upside down, both; then the same four of the transposed picture.
        Mirroring a picture turns the sign of its odd cosine coefficients, so all eight come from
        one transform. Shape (8,), uint64. Source: Zauner, Implementation and Benchmarking of
        Perceptual Image Hash Functions (2010), section 3.2.
    """
    reduced = cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    turned = cv2.dct(reduced)[:8, :8] * _SIGNS  # (4, 8, 8)
    blocks = np.concatenate([turned, turned.transpose(0, 2, 1)]).reshape(
        8, 64
    )  # (orientation, coefficient)
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
