"""What every kind hands over: the pixels, and the box of the main thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Drawing:
    """`pixels` are uint8 RGB of shape (height, width, 3); `box` is left, top, right, bottom in
    pixels, or None.
    """

    pixels: np.ndarray
    box: Box | None


def moved(box: Box | None, matrix: np.ndarray, *, width: int, height: int) -> Box | None:
    """Returns the upright box round `box` after the affine (2, 3) `matrix`, cut to the picture;
    None where nothing is left.
    """
    if box is None:
        return None
    left, top, right, bottom = box
    corners = (
        np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]])
        @ matrix.T
    )  # (4, 2)
    low = np.clip(np.floor(corners.min(axis=0)), 0, (width, height))
    high = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height))
    if (high - low).min() < 2:
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
