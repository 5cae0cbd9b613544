"""The ruling pen that schematics are drawn with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import lettering
from .canvas import polygon, polyline
from .palettes import Colour


@dataclass(frozen=True)
class Pen:
    """A ruling pen on an image: colours of line and of accent, thickness in pixels, and how much it
    trembles (pixels).
    """

    image: np.ndarray
    rng: np.random.Generator
    ink: Colour
    accent: Colour
    thickness: float
    shake: float

    def line(
        self,
        points: np.ndarray | list,
        *,
        closed: bool = False,
        colour: Colour | None = None,
        thickness: float | None = None,
    ) -> None:
        """Draws straight lines through points (n, 2) in pixels."""
        points = np.asarray(points, float)
        if self.shake:
            closing = points[:1] if closed else points[:0]
            points = np.concatenate([points, closing])
            points = np.concatenate(
                [np.linspace(a, b, 6) for a, b in zip(points[:-1], points[1:], strict=True)]
            )
            points = points + self.rng.normal(0, self.shake, points.shape)
            closed = False
        polyline(
            self.image,
            points,
            colour or self.ink,
            thickness=thickness or self.thickness,
            closed=closed,
        )

    def label(self, text: str, at: tuple[float, float], *, height: float) -> None:
        """Writes a label."""
        lettering.put(self.image, text, at, height=max(height, 4.0), colour=self.ink)

    def arrow(self, start: np.ndarray, end: np.ndarray) -> None:
        """Draws a line with a filled head at `end`."""
        along = (end - start) / max(1e-6, float(np.hypot(*(end - start))))
        across, size = np.array([-along[1], along[0]]), 3.5 * self.thickness + 2.5
        self.line([start, end])
        foot = end - along * size
        polygon(
            self.image,
            np.array([end, foot + across * size * 0.42, foot - across * size * 0.42]),
            self.ink,
        )
