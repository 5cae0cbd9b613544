"""Sketches: a scene in trembling lines and hatching, in graphite, ink, chalk or with a little
colour.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import lettering
from .canvas import bounds, ring
from .drawing import Box, Drawing
from .palettes import Colour, Style, mix
from .paper import scanned, sheet
from .pencil import Pencil
from .scenes import scene


def sketch(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Drawing:
    """Returns a sketch: most often of a scene, else a rough plan of boxes and arrows, or a study of
    solids.
    """
    ink, ground = _media(rng, style)
    image = sheet(rng, style, width=width, height=height, colour=ground)
    pencil = Pencil(image, rng, style.hand, ink)
    subject = str(rng.choice(["nature", "solids", "plan"], p=[0.78, 0.13, 0.09]))
    subjects = {
        "nature": lambda: _from_nature(pencil, style),
        "solids": lambda: _solids(pencil),
        "plan": lambda: _rough_plan(pencil),
    }
    box = subjects[subject]()
    if rng.random() < 0.2:
        size = width * rng.uniform(0.02, 0.035)
        at = (width * rng.uniform(0.05, 0.5), height * rng.uniform(0.9, 0.97))
        lettering.write(
            image, rng, at, width=width * rng.uniform(0.1, 0.4), height=size, colour=ink
        )
    return scanned(rng, Drawing(image, box), skew=2.0)


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


def _from_nature(pencil: Pencil, style: Style) -> Box | None:
    image, rng, hand, ink = pencil.image, pencil.rng, pencil.hand, pencil.ink
    height, width = image.shape[:2]
    world = scene(rng, style, width=width, height=height)
    ground = image[::7, ::7].reshape(-1, 3).mean(axis=0)
    faint = tuple(int(v) for v in np.array(ink) * 0.75 + ground * 0.25)
    tone = cv2.GaussianBlur(
        cv2.cvtColor(world.image, cv2.COLOR_RGB2GRAY), (0, 0), max(1.0, width / 150)
    )
    if sum(ink) > 380:
        tone = 255 - tone
    if rng.random() < 0.22:
        _tint(image, rng, world.image)
    fade = min(height, width) * rng.uniform(0.0, 0.12)
    inner = np.zeros((height, width), bool)
    inner[int(fade) : height - int(fade), int(fade) : width - int(fade)] = True
    gap = max(3.0, max(height, width) / rng.uniform(65, 120) * hand.weight)
    dark, deep = np.quantile(tone, 0.55), np.quantile(tone, 0.25)
    pencil.hatch((tone < dark) & inner, colour=faint, gap=gap, angle=hand.angle + rng.normal(0, 6))
    pencil.hatch(
        (tone < deep) & inner, colour=ink, gap=gap, angle=hand.angle + 62 + rng.normal(0, 8)
    )
    thickness = hand.weight * max(height, width) / 260
    for points in world.outlines[:140]:
        left, top, right, bottom = bounds(points)
        if max(right - left, bottom - top) > 4:
            visible = np.clip(points, -4, (width + 4, height + 4))
            pencil.stroke(visible, thickness=thickness, closed=True)
    return world.box


def _tint(image: np.ndarray, rng: np.random.Generator, colours: np.ndarray) -> None:
    soft = cv2.GaussianBlur(colours, (0, 0), max(image.shape) / 60).astype(np.float32)
    cover = rng.uniform(0.15, 0.5)
    image[:] = np.rint(image * (1 - cover) + soft * cover)


def _solids(pencil: Pencil) -> Box:
    rng, hand = pencil.rng, pencil.hand
    height, width = pencil.image.shape[:2]
    everything = []
    for _ in range(int(rng.integers(1, 5))):
        size = min(height, width) * rng.uniform(0.14, 0.3)
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.25, 0.8) * height
        faces = _block(x, y, size, rng) if rng.random() < 0.55 else _drum(x, y, size, rng)
        for index, face in enumerate(faces):
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [np.rint(face).astype(np.int32)], 1)
            if index < 2:
                gap = max(3.0, size / rng.uniform(9, 20))
                pencil.hatch(mask > 0, colour=pencil.ink, gap=gap, angle=hand.angle + 50 * index)
            pencil.outline(face, thickness=hand.weight * width / 300)
            everything.append(face)
    return bounds(np.concatenate(everything))


def _block(x: float, y: float, size: float, rng: np.random.Generator) -> list[np.ndarray]:
    wide, tall, deep = size * rng.uniform(0.6, 1.3, 3)
    a, b, up = (
        np.array([wide * 0.87, -wide * 0.3]),
        np.array([-deep * 0.8, -deep * 0.35]),
        np.array([0, -tall]),
    )
    foot = np.array([x, y])
    side = np.array([foot, foot + a, foot + a + up, foot + up])
    front = np.array([foot, foot + b, foot + b + up, foot + up])
    lid = np.array([foot + up, foot + a + up, foot + a + b + up, foot + b + up])
    return [side, front, lid]


def _drum(x: float, y: float, size: float, rng: np.random.Generator) -> list[np.ndarray]:
    wide, tall = size * rng.uniform(0.4, 0.7), size * rng.uniform(0.7, 1.5)
    lower, upper = (
        ring((x, y), (wide, wide * 0.35)),
        ring((x, y - tall), (wide * rng.uniform(0.5, 1.1), wide * 0.3)),
    )
    return [np.concatenate([lower[:15], upper[14::-1]]), upper]


def _rough_plan(pencil: Pencil) -> Box:
    rng, (height, width) = pencil.rng, pencil.image.shape[:2]
    across, half = (
        2 + int(rng.integers(2)),
        np.array([width * rng.uniform(0.07, 0.12), height * rng.uniform(0.05, 0.09)]),
    )
    grid = np.array([[0.2 + 0.3 * i, 0.2 + 0.3 * j] for j in range(3) for i in range(across)])
    kept = grid[rng.random(len(grid)) < 0.75]
    centres = (kept if len(kept) else grid) * (width, height) + rng.normal(
        0, 0.03 * min(height, width), (len(kept) or len(grid), 2)
    )
    thickness = pencil.hand.weight * max(height, width) / 260
    for index, centre in enumerate(centres):
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + centre
        pencil.outline(
            corners if rng.random() < 0.6 else ring(tuple(centre), tuple(half)), thickness=thickness
        )
        start, size = tuple(centre + half * (-0.7, 0.3)), half[1] * 0.5
        lettering.write(
            pencil.image, rng, start, width=half[0] * 1.5, height=size, colour=pencil.ink
        )
        if index:
            line = np.linspace(centres[index - 1] + half * (0, 1), centre - half * (0, 1), 8)
            pencil.stroke(line, thickness=thickness)
    return bounds(np.concatenate([centres - half, centres + half]))
