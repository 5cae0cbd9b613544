"""Superpixels: an image cut into pieces that follow its colours, for methods that switch pieces on
and off.
"""

from __future__ import annotations

import cv2
import numpy as np

from lib.errors import DarkroomError


def segments(
    image: np.ndarray, *, num: int = 49, compactness: float = 12.0, rounds: int = 6
) -> np.ndarray:
    """Returns int (height, width): the number of each pixel's piece, 0, 1, … without gaps; about
    `num` pieces of one image.

    A pixel goes to the nearest of the centres around it, by colour (CIELAB) and place;
    `compactness` weighs the place. Source: Achanta et al. 2012 (SLIC).
    """
    height, width = image.shape[:2]
    across = min(round(num**0.5), height, width)
    if across < 1:
        raise DarkroomError(f"`segments` must be at least 1. Received: {num}.")
    step = (height * width) ** 0.5 / across
    lab = cv2.cvtColor((image / 255).astype(np.float32), cv2.COLOR_RGB2Lab)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    weight = np.float32(compactness / step)
    points = np.dstack([lab, weight * rows, weight * columns]).reshape(-1, 5)  # (pixels, 5)
    home = (rows * across / height).astype(int) * across + (columns * across / width).astype(int)
    owner, near = home.ravel(), _neighbours(home, across=across)
    for _ in range(rounds):
        centres = _means(points, owner, num=across**2)
        distance = ((points[:, None, :] - centres[near]) ** 2).sum(axis=-1)  # (pixels, 9)
        owner = np.take_along_axis(near, distance.argmin(axis=1)[:, None], axis=1)[:, 0]
    return np.unique(owner, return_inverse=True)[1].reshape(height, width)


def spread(values: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Returns float32 (height, width): each pixel its share of its piece's value, so that a map
    sums as the values do.
    """
    return (values / np.bincount(pieces.ravel()))[pieces].astype(np.float32)


def _neighbours(home: np.ndarray, *, across: int) -> np.ndarray:
    """For each pixel the nine cells around its own; at the edge some of them twice."""
    row, column = home.ravel() // across, home.ravel() % across
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    near = [
        np.clip(row + down, 0, across - 1) * across + np.clip(column + right, 0, across - 1)
        for down, right in moves
    ]
    return np.stack(near, axis=1)


def _means(points: np.ndarray, owner: np.ndarray, *, num: int) -> np.ndarray:
    counts = np.bincount(owner, minlength=num)
    sums = np.stack(
        [np.bincount(owner, weights=column, minlength=num) for column in points.T], axis=1
    )
    # A piece that lost all its pixels goes far away and gets none back.
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], 1e6).astype(
        np.float32
    )
