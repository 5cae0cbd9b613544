"""Small pictures for figures and reports: decoded by the suite's one decoder, without EXIF or any other metadata."""

from __future__ import annotations

import numpy as np

from lib.data import images
from lib.data.dataset import Dataset

SIDE = 160
"""Pixels of a thumbnail's side: twice what a figure shows, for sharp screens."""


def of(dataset: Dataset, path: str, *, side: int = SIDE) -> np.ndarray:
    """Returns the image at `path` of a data set as uint8 RGB of shape (side, side, 3): the whole picture, padded."""
    pixels = images.decode((dataset.raw / path).read_bytes()).pixels
    return images.resize(pixels, height=side, width=side, fit="pad")
