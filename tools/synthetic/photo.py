"""Photographs: a scene with surface, light, a focus, a lens and a sensor or film."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import noise
from .drawing import Drawing
from .palettes import Style
from .scenes import scene


def photograph(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Drawing:
    """Returns a photograph of a scene; before 1960 most often in grey or sepia."""
    world = scene(rng, style, width=width, height=height)
    image = _surface(rng, world.image, world.depth)
    image = _focus(rng, image, world.depth)
    image = _light(rng, image)
    if rng.random() < (0.75 if style.year < 1960 else 0.1):
        image = _old(rng, image)
    return Drawing(_lens(rng, style, image), world.box)


def _surface(rng: np.random.Generator, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
    # Real things are never flat: texture that is finer the farther they are, and haze over the
    # distance.
    height, width = depth.shape
    coarse = noise(rng, height=height, width=width, cells=14, octaves=4)
    fine = noise(rng, height=height, width=width, cells=48, octaves=3)
    far = depth.astype(np.float32) / 255
    strength = np.where(depth >= 250, 0.12, 1.0).astype(np.float32) * np.float32(rng.uniform(6, 24))
    texture = (coarse * (1 - far) + fine * (0.4 + 0.6 * far)) * strength
    soft = cv2.GaussianBlur(image, (0, 0), max(0.7, max(height, width) / 300))
    lit = soft + texture[..., None]
    haze = soft[: max(1, height // 3)].reshape(-1, 3).mean(axis=0).astype(np.float32)
    share = (far**2 * np.float32(rng.uniform(0, 0.4)))[..., None]
    return np.clip(np.rint(lit * (1 - share) + haze * share), 0, 255).astype(np.uint8)


def _focus(rng: np.random.Generator, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
    aperture = max(image.shape[:2]) * rng.uniform(0.0, 0.016)
    if aperture < 0.6:
        return image
    focus = (40.0, 90.0, 120.0, 230.0)[int(rng.integers(4))]
    away = np.abs(cv2.GaussianBlur(depth, (0, 0), aperture / 2).astype(np.float32) - focus) / 160
    near_blur = cv2.GaussianBlur(image, (0, 0), aperture / 2).astype(np.float32)
    size = int(aperture * 1.8) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.float32)
    wide = cv2.filter2D(image, -1, disc / disc.sum()).astype(np.float32)
    first, second = np.clip(away * 2, 0, 1)[..., None], np.clip(away * 2 - 1, 0, 1)[..., None]
    mixed = image * (1 - first) + near_blur * first
    return np.rint(mixed * (1 - second) + wide * second).astype(np.uint8)


def _light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    beam = 1 + fall * (
        np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5)
    )
    clouds = 1 + rng.uniform(0, 0.12) * noise(rng, height=height, width=width, cells=3, octaves=2)
    exposure = rng.uniform(0.8, 1.2)
    cast = np.array([1 + rng.normal(0, 0.035), 1.0, 1 + rng.normal(0, 0.035)])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    quiet = grey + (image - grey) * np.float32(
        rng.uniform(0.45, 0.95)
    )  # real light is less colourful than paint
    lit = quiet * (beam * clouds * exposure).astype(np.float32)[..., None] * cast.astype(np.float32)
    if rng.random() < 0.25:  # the sun into the lens
        x, y, radius = (
            rng.uniform(0, width),
            rng.uniform(0, height / 2),
            max(height, width) * rng.uniform(0.2, 0.5),
        )
        flare = np.clip(1 - np.hypot(columns - x, rows - y) / radius, 0, 1) ** 2
        lit = lit + flare[..., None] * np.array([110, 95, 70], np.float32)
    return _curve(lit)


def _curve(light: np.ndarray) -> np.ndarray:
    # A shoulder for the highlights and a toe for the shadows, as film has it.
    share = np.clip(light * np.float32(1 / 255), 0, 1.3)
    bent = np.where(
        share < 0.8,
        share * share * (1.9 - 0.78 * share) + 0.12 * share,
        1 - 0.0874 / (1 + 6 * np.maximum(share - 0.8, 0)),
    )
    return np.clip(np.rint((0.55 * share + 0.45 * bent) * 255), 0, 255).astype(np.uint8)


def _old(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    tones = ((1.0, 1.0, 1.0), (1.06, 0.99, 0.86), (1.08, 0.96, 0.78), (0.97, 1.0, 1.03))
    toned = grey * 0.92 * np.array(tones[int(rng.integers(4))]) + rng.uniform(0, 14)
    return np.clip(np.rint(toned), 0, 255).astype(np.uint8)


def _lens(rng: np.random.Generator, style: Style, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    away = ((columns / width - 0.5) ** 2 + (rows / height - 0.5) ** 2) * 2
    vignette = 1 - rng.uniform(0.2, 0.65) * style.hand.weight * away
    grain = rng.integers(-8, 9, (height, width, 1), np.int8) * np.float32(rng.uniform(0.2, 1.2))
    colour = rng.integers(-5, 6, (height, width, 3), np.int8) * np.float32(rng.uniform(0, 0.9))
    seen = image * vignette.astype(np.float32)[..., None] + grain + colour
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)
