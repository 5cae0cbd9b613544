"""A scene under construction: its light, its depth and its outlines, from which each kind makes its
own picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from .palettes import Colour, mix

_SHIFT = 4  # OpenCV reads coordinates in sixteenths of a pixel


def noise(
    rng: np.random.Generator, *, height: int, width: int, cells: int, octaves: int = 3
) -> np.ndarray:
    """Returns smooth noise, float32 of shape (height, width), about -1 to 1; `cells` bumps across
    the longer side.
    """
    total = np.zeros((height, width), np.float32)
    longer = max(height, width)
    for octave in range(octaves):
        count = cells * 2**octave
        if count > longer:
            break
        grid = rng.integers(
            0, 256, (max(2, count * height // longer + 1), max(2, count * width // longer + 1))
        )
        smooth = cv2.resize(
            grid.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR_EXACT
        )
        total += (smooth.astype(np.float32) - 127.5) * (2.0**-octave / 127.5)
    return total


def fixed(points: np.ndarray) -> np.ndarray:
    """Returns points (n, 2) in pixels as OpenCV's fixed-point integers, shape (n, 1, 2)."""
    return np.rint(np.asarray(points, np.float64) * 2**_SHIFT).astype(np.int32).reshape(-1, 1, 2)


def polyline(
    image: np.ndarray,
    points: np.ndarray,
    colour: Colour,
    *,
    thickness: float = 1,
    closed: bool = False,
) -> None:
    """Draws a smooth line through points (n, 2) into the image."""
    cv2.polylines(
        image, [fixed(points)], closed, colour, max(1, round(thickness)), cv2.LINE_AA, _SHIFT
    )


def polygon(image: np.ndarray, points: np.ndarray, colour: Colour | int) -> None:
    """Fills the polygon through points (n, 2) in the image."""
    cv2.fillPoly(image, [fixed(points)], colour, cv2.LINE_AA, _SHIFT)


def ring(
    centre: tuple[float, float],
    radii: tuple[float, float],
    *,
    num_points: int = 28,
    turn: float = 0.0,
) -> np.ndarray:
    """Returns the points of an ellipse turned by `turn` degrees, shape (num_points, 2)."""
    phi = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    x, y = radii[0] * np.cos(phi), radii[1] * np.sin(phi)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=1)


def bounds(points: np.ndarray) -> tuple[float, float, float, float]:
    """Returns left, top, right, bottom of points (n, 2)."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


@dataclass
class Scene:
    """A scene of `width` by `height` pixels, painted from far to near.

    `image` is uint8 RGB, `depth` uint8 (0 near, 255 far), `outlines` the visible shapes' points in
    drawing order, `box` the main thing's left, top, right and bottom.
    """

    width: int
    height: int
    image: np.ndarray = field(init=False)
    depth: np.ndarray = field(init=False)
    outlines: list[np.ndarray] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        self.image = np.full((self.height, self.width, 3), 128, np.uint8)
        self.depth = np.full((self.height, self.width), 255, np.uint8)

    def at(self, points: np.ndarray | list) -> np.ndarray:
        """Returns points given in shares of width and height, in pixels."""
        return np.asarray(points, np.float64) * (self.width, self.height)

    def backdrop(
        self,
        upper: Colour,
        lower: Colour,
        *,
        top: float = 0.0,
        bottom: float = 1.0,
        depth: int = 255,
    ) -> None:
        """Fills a band (shares of the height) with a vertical gradient."""
        first, last = round(top * self.height), round(bottom * self.height)
        share = np.linspace(0, 1, max(1, last - first))[:, None, None]
        band = np.array(upper) * (1 - share) + np.array(lower) * share  # (rows, 1, 3)
        self.image[first:last] = np.rint(band).astype(np.uint8)
        self.depth[first:last] = depth

    def shape(
        self,
        points: np.ndarray,
        lit: Colour,
        shaded: Colour | None = None,
        *,
        depth: int,
        outline: bool = True,
        angle: float = 35,
    ) -> None:
        """Fills the polygon through points (n, 2) in pixels, from `lit` to `shaded` along `angle`
        (degrees, 90 is downward).
        """
        left, top, right, bottom = (int(v) for v in np.floor(bounds(points)))
        left, top, right, bottom = (
            max(left, 0),
            max(top, 0),
            min(right + 2, self.width),
            min(bottom + 2, self.height),
        )
        if outline:
            self.outlines.append(np.asarray(points))
        if left >= right or top >= bottom:
            return
        height, width = bottom - top, right - left
        polygon(self.depth, points, depth)
        if height * width < 300 or shaded in (None, lit):  # too small for a gradient to show
            polygon(self.image, points, mix(lit, shaded or lit, 0.5))
            return
        mask = np.zeros((height, width), np.uint8)
        polygon(mask, points - (left, top), 255)
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along = np.add.outer(np.arange(height) * (s / height), np.arange(width) * (c / width)) / (
            abs(c) + abs(s)
        )
        share = np.clip(along, 0, 1).astype(np.float32)[..., None]
        first, last = np.array(lit, np.float32), np.array(shaded, np.float32)
        cover = mask[..., None] * np.float32(1 / 255)
        part = self.image[top:bottom, left:right]
        part[:] = part + (first + (last - first) * share - part) * cover + np.float32(0.5)

    def ball(
        self, centre: tuple[float, float], radius: float, lit: Colour, shaded: Colour, *, depth: int
    ) -> None:
        """Fills a sphere with light from the upper left."""
        self.shape(ring(centre, (radius, radius)), shaded, shaded, depth=depth)
        for step in range(1, 9):
            share = step / 9
            shift = radius * 0.34 * share
            place = (centre[0] - shift, centre[1] - shift)
            polygon(
                self.image, ring(place, (radius * (1 - share) + 0.5,) * 2), mix(shaded, lit, share)
            )
