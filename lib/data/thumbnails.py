"""Small pictures for figures and reports, without metadata."""

from __future__ import annotations

import numpy as np

from lib.data import decode
from lib.data.dataset import Dataset

SIDE = 160
"""Pixels of a thumbnail's side: twice what a figure shows, for sharp screens."""


def of(dataset: Dataset, path: str, *, side: int = SIDE) -> np.ndarray:
    """Returns the image at `path` of a data set as uint8 RGB of shape (side, side, 3): the whole
    picture, on white.
    """
    return square(dataset.image(path).pixels, side=side)


def square(pixels: np.ndarray, *, side: int = SIDE) -> np.ndarray:
    """Returns a picture as uint8 RGB of shape (side, side, 3), whole, on white."""
    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(scale * length)) for length in pixels.shape[:2])
    small = decode.resize(pixels, height=height, width=width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), 255, np.uint8)
    square[top : top + height, left : left + width] = small
    return square
