"""Small JPEGs for pages, encoded from decoded pixels only."""

from __future__ import annotations

import base64
import functools
import io
from pathlib import Path

import numpy as np

from lib.data import decode
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

SIDES = (128, 256, 320, 1280)
"""Pixels of the longer side that pages may ask for."""
_DARKENED, _LOW, _HIGH = 0.55, np.array([213, 94, 0]), np.array([255, 236, 120])


def file_of(dataset: Dataset, path: str) -> Path:
    """Returns the file of an image. Raises DarkroomError for one that lies outside the data set."""
    raw = dataset.raw.resolve()
    file = (raw / path).resolve()
    if not file.is_relative_to(raw):
        raise DarkroomError("This image lies outside its data set; it is not shown.")
    return file


def of_path(file: Path, *, side: int) -> bytes:
    """Returns an image file as JPEG whose longer side is at most `side` pixels. Raises
    DarkroomError if it cannot be read.
    """
    try:
        content = _cached(file, file.stat().st_mtime_ns, side)
    except OSError:
        content = b""
    if not content:
        raise DarkroomError("This image cannot be read any more.")
    return content


@functools.lru_cache(maxsize=6_000)
def _cached(file: Path, _changed_ns: int, side: int) -> bytes:
    if not file.is_file():  # a pipe would never end
        return b""
    try:
        return jpeg(shrunk(decode.decode(file.read_bytes()).pixels, side=side))
    except (OSError, decode.ImageError):
        return b""


def shrunk(pixels: np.ndarray, *, side: int, enlarge: bool = False) -> np.ndarray:
    """Returns uint8 RGB pixels whose longer side is `side`; a smaller picture stays as it is unless
    `enlarge`.
    """
    scale = min(side / max(pixels.shape[:2]), np.inf if enlarge else 1.0)
    height, width = (max(1, round(scale * length)) for length in pixels.shape[:2])
    return decode.resize(pixels, height=height, width=width)


def jpeg(pixels: np.ndarray) -> bytes:
    """Returns uint8 RGB pixels as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=84)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Returns a JPEG as the address of an embedded picture."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the picture in dark grey, with the places that speak for the class in orange to
    yellow, uint8 (h, w, 3).
    """
    strength = np.clip(values / max(float(values.max()), 1e-9), 0, 1)[..., None]  # (h, w, 1)
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) * _DARKENED
    warm = _LOW + strength * (_HIGH - _LOW)
    mixed = grey * (1 - 0.8 * strength) + warm * 0.8 * strength
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
