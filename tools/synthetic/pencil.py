"""The pencil, pen or chalk that sketches are drawn with: lines that tremble, and hatching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import polyline
from .palettes import Colour, Hand


@dataclass(frozen=True)
class Pencil:
    """A pencil on an image, in somebody's hand; `ink` is its colour."""

    image: np.ndarray
    rng: np.random.Generator
    hand: Hand
    ink: Colour

    def stroke(self, points: np.ndarray, *, thickness: float, closed: bool = False) -> None:
        """Draws a line through points (n, 2) as a hand does: bowed, trembling, often set twice."""
        points = np.asarray(points, float)
        if closed:
            points = np.concatenate([points, points[:1]])
        shake = max(self.image.shape[:2]) * self.hand.shake
        for _ in range(1 + (self.rng.random() < 0.45)):
            drift = np.cumsum(self.rng.normal(0, 0.0011 * shake, points.shape), axis=0)
            drift -= np.linspace(0, 1, len(points))[:, None] * drift[-1] * 0.7
            shift = self.rng.normal(0, 0.002 * shake, (1, 2))
            polyline(self.image, points + drift + shift, self.ink, thickness=thickness)

    def outline(self, corners: np.ndarray, *, thickness: float) -> None:
        """Draws the closed figure through corners (n, 2), each side in several short moves."""
        sides = [np.linspace(corners[i - 1], corners[i], 6)[:-1] for i in range(len(corners))]
        self.stroke(np.concatenate(sides), thickness=thickness, closed=True)

    def hatch(self, mask: np.ndarray, *, colour: Colour, gap: float, angle: float) -> None:
        """Fills the true part of `mask` (height, width) with parallel strokes `gap` pixels apart,
        `angle` degrees.
        """
        height, width = mask.shape
        direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        normal = np.array([-direction[1], direction[0]])
        half = np.hypot(height, width) / 2
        steps = np.arange(-half, half, max(2.0, gap * 0.75))
        for offset in np.arange(-half, half, gap):
            middle = np.array([width, height]) / 2 + normal * (
                offset + self.rng.normal(0, gap * 0.15)
            )
            for first, last in _runs(mask, middle + steps[:, None] * direction):
                over = self.rng.normal(0, gap * 0.5, 2)
                ends = np.array([[steps[first] - over[0]], [steps[last - 1] + over[1]]])
                line = middle + ends * direction + self.rng.normal(0, 0.4 * self.hand.shake, (2, 2))
                polyline(self.image, line, colour)


def _runs(mask: np.ndarray, line: np.ndarray) -> list[tuple[int, int]]:
    # Where points (n, 2) of a line run through the mask: first and one past the last index of each
    # run of two or more.
    height, width = mask.shape
    inside = (line >= 0).all(axis=1) & (line[:, 0] < width) & (line[:, 1] < height)
    cells = line[inside].astype(int)
    on = np.zeros(len(line) + 2, bool)
    on[1:-1][inside] = mask[cells[:, 1], cells[:, 0]]
    starts, ends = np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(~on[1:] & on[:-1])
    return [
        (first, last)
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True)
        if last - first > 1
    ]
