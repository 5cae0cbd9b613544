"""Paper and the scanner: what text, schematics and sketches lie on and pass through."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import noise, ring
from .drawing import Drawing, moved
from .palettes import Colour, Style


def sheet(
    rng: np.random.Generator, style: Style, *, width: int, height: int, colour: Colour | None = None
) -> np.ndarray:
    """Returns an empty sheet with tint, fibres and sometimes stains, uint8 (height, width, 3);
    older ones are yellower.
    """
    age = (2025 - style.year) / 135 * rng.uniform(0.2, 1.2)
    white = np.array([252, 251, 247]) - age * np.array([14, 24, 58])
    base = np.array(colour, float) if colour else white
    clouds = noise(rng, height=height, width=width, cells=4, octaves=4) * np.float32(
        rng.uniform(1, 9)
    )
    fibres = rng.integers(-3, 4, (height, width), np.int8) * np.float32(rng.uniform(0.2, 1.3))
    paper = base.astype(np.float32) + (clouds + fibres)[..., None]
    if rng.random() < 0.22:
        _stain(rng, paper)
    return np.clip(np.rint(paper), 0, 255).astype(np.uint8)


def scanned(rng: np.random.Generator, drawing: Drawing, *, skew: float) -> Drawing:
    """Returns the sheet as a scanner or camera sees it: turned up to `skew` degrees, unevenly lit,
    its edge shown or not.
    """
    height, width = drawing.pixels.shape[:2]
    shrink = rng.uniform(0.84, 0.97) if rng.random() < 0.15 else 1.0
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, skew / 2), shrink)
    desk = _desk(rng) if shrink < 1 else None
    border = cv2.BORDER_CONSTANT if desk else cv2.BORDER_REPLICATE
    image = cv2.warpAffine(
        drawing.pixels,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=desk or 0,
    )
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.18)
    light = 1 + fall * (
        np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5)
    )
    if rng.random() < 0.2:  # the book's fold
        light = light - rng.uniform(0.1, 0.4) * np.exp(-columns / (0.08 * width))
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.1))
    grain = rng.integers(-6, 7, (height, width, 1), np.int8) * np.float32(rng.uniform(0, 1.2))
    cast = rng.normal(1, 0.012, 3).astype(np.float32)
    pixels = np.clip(
        np.rint(image * light.astype(np.float32)[..., None] * cast + grain), 0, 255
    ).astype(np.uint8)
    return Drawing(pixels, moved(drawing.box, matrix, width=width, height=height))


def _desk(rng: np.random.Generator) -> Colour:
    woods = (
        (92, 62, 42),
        (142, 102, 68),
        (186, 160, 128),
        (60, 66, 64),
        (38, 38, 40),
        (172, 172, 168),
        (70, 84, 74),
    )
    drift = rng.integers(-12, 13, 3)
    return tuple(int(v) for v in np.array(woods[int(rng.integers(len(woods)))]) + drift)


def _stain(rng: np.random.Generator, paper: np.ndarray) -> None:
    height, width = paper.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    radius = min(height, width) * rng.uniform(0.1, 0.3)
    spot = np.rint(
        ring(
            (rng.uniform(0, width), rng.uniform(0, height)), (radius, radius * rng.uniform(0.8, 1))
        )
    ).astype(np.int32)
    cv2.polylines(mask, [spot], True, 255, max(2, round(radius / 12)), cv2.LINE_AA)
    cv2.fillPoly(mask, [spot], 60, cv2.LINE_AA)
    cover = (
        cv2.GaussianBlur(mask, (0, 0), max(1.0, radius / 25)).astype(np.float32)[..., None] / 255
    )
    paper -= cover * np.array([30, 44, 60], np.float32) * np.float32(rng.uniform(0.3, 0.9))
