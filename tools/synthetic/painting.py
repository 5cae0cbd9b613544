"""Paintings: a scene laid down again in brush strokes, dabs, washes or facets on canvas."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import noise, polygon
from .drawing import Drawing
from .palettes import Style
from .scenes import scene


def paint(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Drawing:
    """Returns a painting of a scene, in oil, dabs, wash or facets."""
    world = scene(rng, style, width=width, height=height)
    technique = (_oil, _oil, _dabs, _wash, _facets)[int(rng.integers(5))]
    image = _canvas(rng, technique(rng, style, world.image))
    return Drawing(image, world.box)


def _oil(rng: np.random.Generator, style: Style, source: np.ndarray) -> np.ndarray:
    image = _ground(rng, style, source)
    longer = max(source.shape[:2])
    thickness = style.hand.weight * longer / rng.uniform(26, 44)
    blurred = cv2.GaussianBlur(source, (0, 0), max(0.8, thickness / 3))
    flow = _flow(rng, style, blurred)
    for size, share in ((thickness * 1.5, 1.0), (thickness * 0.8, 0.8), (thickness * 0.4, 0.5)):
        _strokes(
            rng,
            image,
            blurred if size > thickness else source,
            flow=flow,
            size=max(1.0, size),
            share=share,
        )
    return image


def _strokes(
    rng: np.random.Generator,
    image: np.ndarray,
    source: np.ndarray,
    *,
    flow: np.ndarray,
    size: float,
    share: float,
) -> None:
    height, width = source.shape[:2]
    step = max(2.0, size * 0.95)
    rows, columns = np.mgrid[0:height:step, 0:width:step]
    count = rows.size
    y = np.clip(rows.ravel() + rng.uniform(-step, step, count), 0, height - 1)
    x = np.clip(columns.ravel() + rng.uniform(-step, step, count), 0, width - 1)
    at = (y.astype(int), x.astype(int))
    # A finer brush is taken up only where the coarser one missed the most.
    missed = np.abs(image[at].astype(int) - source[at]).sum(axis=1) * rng.uniform(0.6, 1.4, count)
    chosen = rng.permutation(np.argsort(-missed, kind="stable")[: min(int(count * share), 1400)])
    colours = np.clip(
        source[at] + rng.normal(0, 7, (count, 1)) + rng.normal(0, 4, (count, 3)), 0, 255
    ).astype(int)
    reach = size * rng.uniform(0.8, 2.2, count)
    angle = flow[at] + rng.normal(0, 0.2, count)
    ends = np.stack(
        [
            x - reach * np.cos(angle),
            y - reach * np.sin(angle),
            x + reach * np.cos(angle),
            y + reach * np.sin(angle),
        ],
        axis=1,
    )
    ends = np.rint(ends * 16).astype(int).tolist()
    thickness = max(1, round(size))
    for index, colour in zip(chosen.tolist(), colours[chosen].tolist(), strict=True):
        x0, y0, x1, y1 = ends[index]
        cv2.line(image, (x0, y0), (x1, y1), colour, thickness, cv2.LINE_AA, 4)


def _dabs(rng: np.random.Generator, style: Style, source: np.ndarray) -> np.ndarray:
    image = _ground(rng, style, source)
    height, width = source.shape[:2]
    radius = max(1.6, style.hand.weight * max(height, width) / rng.uniform(55, 100))
    count = min(5000, int(1.5 * height * width / (3.1 * radius**2)))
    x, y = rng.uniform(0, width, count), rng.uniform(0, height, count)
    colours = source[y.astype(int), x.astype(int)].astype(float)
    colours = np.clip(colours + rng.normal(0, 16, (count, 3)), 0, 255).astype(int).tolist()
    centres = np.rint(np.stack([x, y], axis=1) * 16).astype(int).tolist()
    radii = np.rint(radius * rng.uniform(0.7, 1.25, count) * 16).astype(int).tolist()
    for centre, size, colour in zip(centres, radii, colours, strict=True):
        cv2.circle(image, centre, size, colour, cv2.FILLED, cv2.LINE_AA, 4)
    return image


def _wash(rng: np.random.Generator, style: Style, source: np.ndarray) -> np.ndarray:
    height, width = source.shape[:2]
    bleed = np.stack(
        [noise(rng, height=height, width=width, cells=int(rng.integers(10, 24))) for _ in range(2)]
    )
    reach = max(height, width) * rng.uniform(0.008, 0.02)
    rows, columns = np.mgrid[0:height, 0:width]
    y = np.clip(np.rint(rows + bleed[0] * reach), 0, height - 1).astype(int)
    x = np.clip(np.rint(columns + bleed[1] * reach), 0, width - 1).astype(int)
    flat = cv2.medianBlur(np.ascontiguousarray(source[y, x]), 5)
    flat = (flat // 24 * 24 + 12).astype(np.float32)  # pools of one tone
    soft = cv2.GaussianBlur(flat.astype(np.uint8), (0, 0), 3).astype(np.float32)
    edge = np.clip(flat - soft, -18, 18)  # pigment gathers at the rim
    paper = np.array([250, 246, 236], np.float32)
    pools = noise(rng, height=height, width=width, cells=5, octaves=4)[..., None]
    cover = np.clip(0.72 + 0.22 * pools, 0.2, 0.95)
    return np.clip(np.rint(paper + (flat + edge - paper) * cover), 0, 255).astype(np.uint8)


def _facets(rng: np.random.Generator, style: Style, source: np.ndarray) -> np.ndarray:
    height, width = source.shape[:2]
    cells = rng.uniform(14, 30) / style.hand.weight
    step = max(height, width) / cells
    rows, columns = np.mgrid[-step : height + 2 * step : step, -step : width + 2 * step : step]
    x, y = (
        columns + rng.uniform(-0.42, 0.42, columns.shape) * step,
        rows + rng.uniform(-0.42, 0.42, rows.shape) * step,
    )
    corners = np.stack([x, y], axis=-1)  # (rows, columns, 2)
    a, b, c, d = (
        part.reshape(-1, 2)
        for part in (corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1])
    )
    falling = (rng.random(len(a)) < 0.5)[:, None, None]  # which of its two diagonals cuts a cell
    first = np.where(falling, np.stack([a, b, c], axis=1), np.stack([a, b, d], axis=1))
    second = np.where(falling, np.stack([a, c, d], axis=1), np.stack([b, c, d], axis=1))
    halves = np.concatenate([first, second])  # (triangles, 3, 2)
    middle = np.clip(halves.mean(axis=1), 0, (width - 1, height - 1)).astype(int)
    colours = (
        np.clip(source[middle[:, 1], middle[:, 0]] + rng.normal(0, 11, (len(halves), 1)), 0, 255)
        .astype(int)
        .tolist()
    )
    image = source.copy()
    for half, colour in zip(halves, colours, strict=True):
        polygon(image, half, colour)
    return image


def _ground(rng: np.random.Generator, style: Style, source: np.ndarray) -> np.ndarray:
    tint = np.array(style.colours[int(rng.integers(8))], np.float32)
    height, width = source.shape[:2]
    small = cv2.resize(source, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), max(small.shape) / 40)
    blurred = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return (blurred * np.float32(0.7) + tint * np.float32(0.3)).astype(np.uint8)


def _flow(rng: np.random.Generator, style: Style, source: np.ndarray) -> np.ndarray:
    # Along the edges where there are any, elsewhere along the hand's own direction with slow turns.
    height, width = source.shape[:2]
    grey = cv2.GaussianBlur(cv2.cvtColor(source, cv2.COLOR_RGB2GRAY), (0, 0), 3).astype(np.float32)
    down, across = np.gradient(grey)
    steep = np.hypot(down, across)
    swirl = noise(rng, height=height, width=width, cells=3, octaves=2) * rng.uniform(0.3, 1.8)
    own = np.radians(style.hand.angle) + swirl
    return np.where(steep > 4, np.arctan2(down, across) + np.pi / 2, own)


def _canvas(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    weave = ((rows + columns) % 3 == 0).astype(np.float32) - ((rows - columns) % 4 == 0)
    grain = rng.integers(-5, 6, (height, width), np.int8).astype(np.float32)
    grey = image.astype(np.float32).mean(axis=2)
    relief = np.zeros_like(grey)
    relief[1:, 1:] = np.clip(
        (grey[1:, 1:] - grey[:-1, :-1]) * 0.25, -18, 18
    )  # thick paint throws light
    texture = relief + grain + weave * np.float32(rng.uniform(0, 3.5))
    rich = image + (image - grey[..., None]) * np.float32(
        rng.uniform(0.0, 0.4)
    )  # pigment is more colourful than light
    return np.clip(np.rint(rich + texture[..., None]), 0, 255).astype(np.uint8)
