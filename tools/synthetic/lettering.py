"""Words, lines of print and handwriting, for text, schematics and notes on sketches."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import polyline
from .palettes import Colour

_VOCABULARY = (
    "light paper silver lens aperture shutter film grain fixer bath the of and to in a is for with "
    "on exposure "
    "contrast shadow print negative develop tray red lamp focus depth field plate salt iron "
    "gelatin colour tone "
    "warm cold wash dry frame edge window river mountain harbour summer letter journey morning "
    "street archive "
    "museum collection number catalogue painter drawing figure table measure length voltage "
    "current resistor "
    "signal input output valve pump motor gear shaft bearing"
)
WORDS = tuple(_VOCABULARY.split())
"""What our pages talk about."""

FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)
"""OpenCV's own letters, so that no font of the machine is asked for."""


def put(
    image: np.ndarray,
    text: str,
    at: tuple[float, float],
    *,
    height: float,
    colour: Colour,
    font: int = FONTS[0],
) -> None:
    """Writes `text` with its baseline's left end `at` a point; capitals are about `height` pixels
    tall.
    """
    thickness = 2 if height > 12 else 1
    cv2.putText(
        image, text, (round(at[0]), round(at[1])), font, height / 22, colour, thickness, cv2.LINE_AA
    )


def line_to_fill(rng: np.random.Generator, *, width: float, height: float) -> str:
    """Returns words that take about `width` pixels when capitals are `height` pixels tall."""
    letters, taken = max(1, int(width / (height * 0.72))), []
    while sum(len(word) + 1 for word in taken) <= letters - 4:
        taken.append(str(rng.choice(WORDS)))
    return " ".join(taken)[:letters].rstrip()


def write(
    image: np.ndarray,
    rng: np.random.Generator,
    at: tuple[float, float],
    *,
    width: float,
    height: float,
    colour: Colour,
) -> None:
    """Writes one line in a hand nobody can read: loops and sticks, `width` pixels long from the
    left end of the baseline.
    """
    x, limit = at[0], at[0] + width
    slant = 0.35
    while x < limit - height:
        letters = int(rng.integers(2, 9))
        step = height * rng.uniform(0.5, 0.7)
        count = letters * 5
        phase = np.linspace(0, letters * 2 * np.pi, count)
        tall = (
            np.repeat(
                rng.choice([0.45, 0.5, 0.55, 1.0, -0.5], letters, p=[0.3, 0.25, 0.2, 0.15, 0.1]), 5
            )
            * height
        )
        rise = (0.5 - 0.5 * np.cos(phase)) * tall + rng.normal(0, height * 0.04, count)
        along = x + phase / (2 * np.pi) * step + 0.18 * height * np.sin(phase) + slant * rise
        polyline(image, np.stack([along, at[1] - rise], axis=1), colour, thickness=height / 14)
        x += letters * step + height * rng.uniform(0.5, 0.9)
