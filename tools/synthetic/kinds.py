"""The five kinds of picture, and one picture a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lib.errors import DarkroomError, suggest

from . import painting, palettes, photo, schematic, sketch, text
from .drawing import Box, Drawing
from .palettes import Style

KINDS: dict[str, Callable[..., Drawing]] = {
    "painting": painting.paint,
    "photo": photo.photograph,
    "schematic": schematic.schematic,
    "sketch": sketch.sketch,
    "text": text.page,
}
"""What draws each kind: `(rng, style, width=, height=) -> Drawing`."""

SIDES = (120, 480)
"""Shortest and longest side of a picture in pixels, where nothing else is wished."""


@dataclass(frozen=True)
class Picture:
    """One finished picture: `pixels` uint8 RGB (height, width, 3), `box` of its main thing in
    pixels, and its style.
    """

    kind: str
    pixels: np.ndarray
    box: Box | None
    style: Style


def picture(kind: str, *, seed: int, sides: tuple[int, int] = SIDES) -> np.ndarray:
    """Returns a picture of that kind, uint8 RGB of shape (height, width, 3), the same for the same
    seed.

    Raises DarkroomError for an unknown kind or sides outside 32 to 2,048 pixels.
    """
    return drawn(kind, seed=seed, sides=sides).pixels


def drawn(kind: str, *, seed: int | list[int], sides: tuple[int, int] = SIDES) -> Picture:
    """Returns a picture with what is known about it; `seed` may be several numbers. Raises as
    `picture`.
    """
    if kind not in KINDS:
        raise DarkroomError(
            f"`kind` must be one of {', '.join(KINDS)}. Received: "
            f"{kind!r}.{suggest(str(kind), list(KINDS))}"
        )
    if not 32 <= sides[0] <= sides[1] <= 2048:
        raise DarkroomError(
            "`sides` must be a shortest and a longest side between 32 and 2048 pixels. Received: "
            f"{sides!r}."
        )
    rng = np.random.default_rng([sorted(KINDS).index(kind), *np.atleast_1d(seed).tolist()])
    style = palettes.choose(rng)
    longer = int(rng.integers(sides[0] + (sides[1] - sides[0]) // 3, sides[1] + 1))
    shorter = max(sides[0], round(longer * rng.uniform(0.6, 1.0)))
    upright = rng.random() < (0.75 if kind == "text" else 0.42)
    width, height = (shorter, longer) if upright else (longer, shorter)
    drawing = KINDS[kind](rng, style, width=width, height=height)
    warm = np.rint(
        np.array([style.hand.warmth, 0, -style.hand.warmth]) * rng.uniform(0.3, 1.0)
    ).astype(np.int16)
    pixels = np.clip(drawing.pixels + warm, 0, 255).astype(np.uint8)
    return Picture(kind, pixels, drawing.box and _inside(drawing.box, width, height), style)


def _inside(box: Box, width: int, height: int) -> Box | None:
    left, top, right, bottom = (
        max(0.0, box[0]),
        max(0.0, box[1]),
        min(float(width), box[2]),
        min(float(height), box[3]),
    )
    return (
        (float(np.floor(left)), float(np.floor(top)), float(np.ceil(right)), float(np.ceil(bottom)))
        if right - left > 2 and bottom - top > 2
        else None
    )
