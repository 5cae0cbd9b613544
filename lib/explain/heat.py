"""Maps as they are shown and compared: evidence for the class, on one scale."""

from __future__ import annotations

import cv2
import numpy as np


def enlarge(maps: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Returns maps (n, …, …) enlarged to (n, height, width), float32, bilinear."""
    large = [
        cv2.resize(each.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        for each in maps
    ]
    return np.stack(large) if large else np.zeros((0, *size), np.float32)


def scaled(heat: np.ndarray) -> np.ndarray:
    """Returns (side, side) of 0 to 1: evidence for the class by the map's 99.5th percentile; what
    speaks against is 0.
    """
    positive = np.maximum(heat, 0)
    most = np.percentile(positive, 99.5)
    most = most if most > 0 else positive.max()
    return np.clip(positive / most, 0, 1) if most > 0 else positive


def mean_map(heats: np.ndarray) -> np.ndarray:
    """Returns (side, side), the mean of the scaled maps, its own largest value made 1."""
    mean = np.mean([scaled(heat) for heat in heats], axis=0)
    return mean / mean.max() if mean.max() > 0 else mean
