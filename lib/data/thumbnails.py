"""Small pictures for figures, reports and the site, encoded from decoded pixels only."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lib.data import decode
from lib.data.dataset import Dataset

SIDE = 160
"""Pixels of a thumbnail's side: twice what a figure shows, for sharp screens."""

PAGE_SIDE = 192
"""The longer side of a picture in a page, which is zoomed."""


def of(dataset: Dataset, path: str, *, side: int = SIDE) -> np.ndarray:
    """Returns the image at `path` of a data set as uint8 RGB of shape (side, side, 3): the whole
    picture, on white.
    """
    return square(dataset.image(path).pixels, side=side)


def square(pixels: np.ndarray, *, side: int = SIDE) -> np.ndarray:
    """Returns a picture as uint8 RGB of shape (side, side, 3), whole, on white."""
    small = scaled(pixels, side=side)
    height, width = small.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), 255, np.uint8)
    square[top : top + height, left : left + width] = small
    return square


def scaled(pixels: np.ndarray, *, side: int, enlarge: bool = True) -> np.ndarray:
    """Returns uint8 RGB pixels whose longer side is `side`; without `enlarge` a smaller picture
    stays as it is.
    """
    scale = min(side / max(pixels.shape[:2]), np.inf if enlarge else 1.0)
    height, width = (max(1, round(scale * length)) for length in pixels.shape[:2])
    return decode.resize(pixels, height=height, width=width)


def jpeg(pixels: np.ndarray, *, quality: int = 84) -> bytes:
    """Returns uint8 RGB pixels as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Returns a JPEG as the address of an embedded picture."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def data_uris(raw: Path, paths: Iterable[str], *, side: int = PAGE_SIDE) -> dict[str, str]:
    """Returns the address of every picture at `paths` below `raw`, its longer side `side` px; files
    that are gone or do not decode are left out.
    """
    uris = {}
    for path in dict.fromkeys(paths):
        try:
            pixels = decode.decode((Path(raw) / path).read_bytes()).pixels
        except (OSError, decode.ImageError):
            continue  # the report says "picture not available" in its place
        uris[path] = data_uri(jpeg(scaled(pixels, side=side), quality=76))
    return uris
