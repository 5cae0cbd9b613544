"""Sketches: a scene in trembling lines and hatching, in graphite, ink, chalk or with a little colour."""

from __future__ import annotations

import cv2
import numpy as np

from lib.data.planted import lettering
from lib.data.planted.canvas import bounds, polyline, ring
from lib.data.planted.drawing import Box, Drawing
from lib.data.planted.palettes import Colour, Style, mix
from lib.data.planted.paper import scanned, sheet
from lib.data.planted.scenes import scene


def sketch(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Drawing:
    """Returns a sketch: most often of a scene, else a rough plan of boxes and arrows, or a study of solids."""
    ink, ground = _media(rng, style)
    image = sheet(rng, style, width=width, height=height, colour=ground)
    chance = rng.random()
    if chance < 0.66:
        box = _from_nature(image, rng, style, ink)
    elif chance < 0.84:
        box = _solids(image, rng, style, ink)
    else:
        box = _rough_plan(image, rng, style, ink)
    if rng.random() < 0.2:
        size = width * rng.uniform(0.02, 0.035)
        at = (width * rng.uniform(0.05, 0.5), height * rng.uniform(0.9, 0.97))
        lettering.write(image, rng, at, width=width * rng.uniform(0.1, 0.4), height=size, colour=ink)
    return scanned(rng, Drawing(image, box), skew=2.0)


def stroke(
    image: np.ndarray,
    rng: np.random.Generator,
    points: np.ndarray,
    colour: Colour,
    *,
    style: Style,
    thickness: float,
    closed: bool = False,
) -> None:
    """Draws a line as a hand does: bowed, trembling, overshooting, often set twice."""
    points = np.asarray(points, float)
    if closed:
        points = np.concatenate([points, points[:1]])
    size = max(image.shape[:2])
    for _ in range(1 + (rng.random() < 0.45)):
        drift = np.cumsum(rng.normal(0, 0.0011 * size * style.hand.shake, points.shape), axis=0)
        drift -= np.linspace(0, 1, len(points))[:, None] * drift[-1] * 0.7
        shift = rng.normal(0, 0.002 * size * style.hand.shake, (1, 2))
        polyline(image, points + drift + shift, colour, thickness=thickness)


def hatch(
    image: np.ndarray, rng: np.random.Generator, mask: np.ndarray, colour: Colour, *, style: Style, gap: float, angle: float
) -> None:
    """Fills the true part of `mask` (height, width) with parallel strokes `gap` pixels apart, `angle` degrees."""
    height, width = mask.shape
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    normal = np.array([-direction[1], direction[0]])
    half = np.hypot(height, width) / 2
    steps = np.arange(-half, half, max(2.0, gap * 0.75))
    for offset in np.arange(-half, half, gap):
        middle = np.array([width, height]) / 2 + normal * (offset + rng.normal(0, gap * 0.15))
        line = middle + steps[:, None] * direction  # (steps, 2)
        inside = (line >= 0).all(axis=1) & (line[:, 0] < width) & (line[:, 1] < height)
        cells = line[inside].astype(int)
        on = np.zeros(len(steps) + 2, bool)
        on[1:-1][inside] = mask[cells[:, 1], cells[:, 0]]
        starts, ends = np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(~on[1:] & on[:-1])
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
            if last - first > 1:
                over = rng.normal(0, gap * 0.5, 2)
                span = np.array(
                    [middle + (steps[first] - over[0]) * direction, middle + (steps[last - 1] + over[1]) * direction]
                )
                polyline(image, span + rng.normal(0, 0.4 * style.hand.shake, (2, 2)), colour)


def _media(rng: np.random.Generator, style: Style) -> tuple[Colour, Colour | None]:
    chance = rng.random()
    if chance < 0.55:
        return mix((70, 68, 70), (30, 28, 30), rng.random()), None  # graphite
    if chance < 0.72:
        return mix((110, 62, 40), style.colours[4], 0.3), (232, 218, 190)  # red chalk on buff
    if chance < 0.86:
        return (30, 38, 84), None  # ink
    if chance < 0.94:
        return (236, 232, 222), mix((60, 66, 70), style.colours[4], 0.5)  # white chalk on dark
    return (40, 36, 34), mix((170, 160, 146), style.colours[2], 0.4)  # charcoal on toned paper


def _from_nature(image: np.ndarray, rng: np.random.Generator, style: Style, ink: Colour) -> Box | None:
    height, width = image.shape[:2]
    world = scene(rng, style, width=width, height=height)
    ground = image[::7, ::7].reshape(-1, 3).mean(axis=0)
    faint = tuple(int(v) for v in np.array(ink) * 0.62 + ground * 0.38)
    tone = cv2.GaussianBlur(cv2.cvtColor(world.image, cv2.COLOR_RGB2GRAY), (0, 0), max(1.0, width / 150))
    if sum(ink) > 380:
        tone = 255 - tone
    if rng.random() < 0.22:
        _tint(image, rng, world.image)
    fade = min(height, width) * rng.uniform(0.0, 0.12)
    inner = np.zeros((height, width), bool)
    inner[int(fade) : height - int(fade), int(fade) : width - int(fade)] = True
    gap = max(3.0, max(height, width) / rng.uniform(55, 110) * style.hand.weight)
    dark, deep = np.quantile(tone, 0.42), np.quantile(tone, 0.18)
    hatch(image, rng, (tone < dark) & inner, faint, style=style, gap=gap, angle=style.hand.angle + rng.normal(0, 6))
    hatch(image, rng, (tone < deep) & inner, ink, style=style, gap=gap, angle=style.hand.angle + 62 + rng.normal(0, 8))
    thickness = style.hand.weight * max(height, width) / 320
    for points in world.outlines[:140]:
        left, top, right, bottom = bounds(points)
        if max(right - left, bottom - top) > 4:
            visible = np.clip(points, -4, (width + 4, height + 4))
            stroke(image, rng, visible, ink, style=style, thickness=thickness, closed=True)
    return world.box


def _tint(image: np.ndarray, rng: np.random.Generator, colours: np.ndarray) -> None:
    soft = cv2.GaussianBlur(colours, (0, 0), max(image.shape) / 60).astype(np.float32)
    cover = rng.uniform(0.15, 0.5)
    image[:] = np.rint(image * (1 - cover) + soft * cover)


def _solids(image: np.ndarray, rng: np.random.Generator, style: Style, ink: Colour) -> Box:
    height, width = image.shape[:2]
    everything = []
    for _ in range(int(rng.integers(1, 5))):
        size = min(height, width) * rng.uniform(0.14, 0.3)
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.25, 0.8) * height
        faces = _block(x, y, size, rng) if rng.random() < 0.55 else _drum(x, y, size, rng)
        for index, face in enumerate(faces):
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [np.rint(face).astype(np.int32)], 1)
            if index < 2:
                angle = style.hand.angle + 50 * index
                hatch(image, rng, mask > 0, ink, style=style, gap=max(3.0, size / rng.uniform(9, 20)), angle=angle)
            dense = np.concatenate([np.linspace(face[i - 1], face[i], 6)[:-1] for i in range(len(face))])
            stroke(image, rng, dense, ink, style=style, thickness=style.hand.weight * width / 300, closed=True)
            everything.append(face)
    return bounds(np.concatenate(everything))


def _block(x: float, y: float, size: float, rng: np.random.Generator) -> list[np.ndarray]:
    wide, tall, deep = size * rng.uniform(0.6, 1.3, 3)
    a, b, up = np.array([wide * 0.87, -wide * 0.3]), np.array([-deep * 0.8, -deep * 0.35]), np.array([0, -tall])
    foot = np.array([x, y])
    side = np.array([foot, foot + a, foot + a + up, foot + up])
    front = np.array([foot, foot + b, foot + b + up, foot + up])
    lid = np.array([foot + up, foot + a + up, foot + a + b + up, foot + b + up])
    return [side, front, lid]


def _drum(x: float, y: float, size: float, rng: np.random.Generator) -> list[np.ndarray]:
    wide, tall = size * rng.uniform(0.4, 0.7), size * rng.uniform(0.7, 1.5)
    lower, upper = ring((x, y), (wide, wide * 0.35)), ring((x, y - tall), (wide * rng.uniform(0.5, 1.1), wide * 0.3))
    return [np.concatenate([lower[:15], upper[14::-1]]), upper]


def _rough_plan(image: np.ndarray, rng: np.random.Generator, style: Style, ink: Colour) -> Box:
    height, width = image.shape[:2]
    centres = []
    for i, j in [(i, j) for j in range(3) for i in range(2 + int(rng.integers(2)))]:
        if rng.random() < 0.75:
            centres.append((width * (0.2 + 0.3 * i + rng.normal(0, 0.03)), height * (0.2 + 0.3 * j + rng.normal(0, 0.03))))
    centres = centres or [(width / 2, height / 2)]
    half = np.array([width * rng.uniform(0.07, 0.12), height * rng.uniform(0.05, 0.09)])
    thickness = style.hand.weight * max(height, width) / 260
    for index, centre in enumerate(centres):
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + centre
        outline = corners if rng.random() < 0.6 else ring(centre, (half[0], half[1]))
        dense = np.concatenate([np.linspace(outline[i - 1], outline[i], 5)[:-1] for i in range(len(outline))])
        stroke(image, rng, dense, ink, style=style, thickness=thickness, closed=True)
        lettering.write(
            image,
            rng,
            (centre[0] - half[0] * 0.7, centre[1] + half[1] * 0.3),
            width=half[0] * 1.5,
            height=half[1] * 0.5,
            colour=ink,
        )
        if index:
            line = np.linspace(np.array(centres[index - 1]) + half * (0, 1), np.array(centre) - half * (0, 1), 8)
            stroke(image, rng, line, ink, style=style, thickness=thickness)
    return bounds(np.concatenate([np.array(centres) - half, np.array(centres) + half]))
