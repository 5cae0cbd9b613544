"""Measurements of a file (hashes, size, light, sharpness, thumbnail) by worker processes.

A file that kills or hangs its worker is reported as `crashed`, and the others are read on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib import processes
from lib.cleaning.perceptual_hash import perceptual_hashes
from lib.data import decode
from lib.data.decode import ImageError
from lib.data.value_range import Rendering

VERSION = 7
"""Raised when the measurements change; files scanned by another version are read again."""

MAX_BYTES = 512 << 20
"""A larger file is not decoded: no photograph is that large, and a few at once would fill the
memory.
"""

THUMB = 64
"""Side of the stored grey thumbnail, px."""

MAX_LIGHT_PIXELS = 262_144
"""Light is measured on every n-th row of a larger picture, so that about this many pixels count."""

_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "OPENBLAS_NUM_THREADS": "1",
}
"""glibc then keeps the memory of a picture for the next one, and NumPy starts no threads."""

_STORED = ("stored", "stored_low", "stored_high", "range_low", "range_high")
_LEVELS = np.stack([np.arange(256.0), np.arange(256.0) ** 2])  # (moment, level)


@dataclass(frozen=True)
class Measured:
    """The measurements of one file. `problem` is a reason of `decode.REASONS`, `unreadable`,
    `crashed` or None.

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


def measure_all(
    files: Sequence[Path],
    *,
    workers: int | None = None,
    patience_s: float = processes.PATIENCE_S,
    rendering: Rendering | None = None,
) -> Iterator[Measured]:
    """Yields the measurements of the files in order, computed by worker processes.

    Args:
        files: the files to read.
        workers: number of processes; one a processor if None.
        patience_s: longest time for one file.
        rendering: how values of more than 8 bits become RGB.
    """
    measured = processes.stream(
        measure_call,
        files,
        rendering,
        workers=num_workers(workers),
        patience_s=patience_s,
        environment={**_ENVIRONMENT, **os.environ},
    )
    for row in measured:
        is_lost = isinstance(row, processes.Lost)
        yield Measured(problem="crashed", detail=row.why) if is_lost else row


def num_workers(requested: int | None = None) -> int:
    """Returns `requested`, or the number of processors that this process may use."""
    if requested is not None and requested < 1:
        raise ValueError(f"workers must be at least 1. Received: {requested}.")
    return requested or processes.num_cores()


def measure_call(files: Sequence[Path], rendering: Rendering | None) -> Iterator[Measured]:
    """Yields the measurements of the files in order; runs in a worker."""
    cv2.setNumThreads(1)  # the workers are the parallelism
    for file in files:
        yield measure(file, rendering=rendering)


def measure(
    path: Path, *, max_pixels: int | None = None, rendering: Rendering | None = None
) -> Measured:
    """Reads the file once and returns its measurements; broken bytes are a `problem`, not an
    exception.
    """
    try:
        data, digest = read_file(path)
    except OSError as error:
        return Measured(problem="unreadable", detail=error.strerror or str(error))
    try:
        if data is None:
            limit = f"more than {MAX_BYTES >> 20} MiB; the limit keeps the memory free"
            raise ImageError("too_large", limit)
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
        **dict(zip(_STORED, (*(decoded.stored or ()), *(decoded.range or ())), strict=False)),
        **light(grey),
    )


def read_file(path: Path) -> tuple[bytes | None, str]:
    """Returns the bytes and their SHA-256; of a film or an archive, and of what is larger than
    `MAX_BYTES`, the head or None.

    Those are hashed block by block, so that they need no memory.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(decode.HEAD_BYTES)
        is_image = decode.kind(head) is not None
        if is_image and os.fstat(file.fileno()).st_size <= MAX_BYTES:
            data = head + file.read()
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
    rows = grey[:: -(-grey.size // MAX_LIGHT_PIXELS)]
    counts = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel().astype(np.float64)
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
