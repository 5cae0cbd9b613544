"""Schematics: circuits, flow charts, plots, floor plans and machine parts, ruled on paper or as
blueprints.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import lettering
from .canvas import noise, polygon, ring
from .drawing import Box, Drawing
from .palettes import Style, mix
from .paper import scanned, sheet
from .pen import Pen
from .symbols import SYMBOLS


def schematic(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Drawing:
    """Returns a schematic; one in six is a blueprint, one in five drawn by a less steady hand, some
    carry much text.
    """
    blue = rng.random() < 0.17
    ground = mix((32, 66, 128), style.colours[0], 0.3) if blue else None
    image = sheet(rng, style, width=width, height=height, colour=ground)
    ink = (225, 234, 242) if blue else mix((28, 28, 32), style.colours[4], 0.45)
    shake = rng.uniform(0.4, 1.1) if rng.random() < 0.22 else 0.0
    pen = Pen(
        image,
        rng,
        ink,
        (240, 214, 140) if blue else style.colours[5],
        max(1.0, style.hand.weight * max(width, height) / 330),
        shake,
    )
    if rng.random() < 0.3:
        _grid(pen)
    kinds = (_circuit, _circuit, _flow_chart, _plot, _floor_plan, _part)
    box = kinds[int(rng.integers(len(kinds)))](pen)
    if rng.random() < 0.45:
        _title_block(pen)
    if rng.random() < 0.3:
        _notes(pen)
    return scanned(rng, Drawing(image, box), skew=2.5)


def _grid(pen: Pen) -> None:
    height, width = pen.image.shape[:2]
    ground = pen.image[0, 0]
    faint = tuple(int(a * 0.8 + b * 0.2) for a, b in zip(ground, pen.ink, strict=True))
    step = max(width, height) / pen.rng.integers(16, 36)
    for x in np.arange(step / 2, width, step):
        cv2.line(pen.image, (round(x), 0), (round(x), height), faint, 1)
    for y in np.arange(step / 2, height, step):
        cv2.line(pen.image, (0, round(y)), (width, round(y)), faint, 1)


def _circuit(pen: Pen) -> Box:
    height, width = pen.image.shape[:2]
    rng = pen.rng
    columns, rows = int(rng.integers(3, 6)), int(rng.integers(2, 5))
    left, top = width * 0.1, height * 0.12
    step = np.array([width * 0.8 / (columns - 1), height * 0.72 / (rows - 1)])
    size = step.min() * rng.uniform(0.3, 0.42)
    node = np.array(
        [[[left + i * step[0], top + j * step[1]] for i in range(columns)] for j in range(rows)]
    )
    wires = [((j, i), (j, i + 1)) for j in range(rows) for i in range(columns - 1)]
    wires += [((j, i), (j + 1, i)) for j in range(rows - 1) for i in range(columns)]
    names = sorted(SYMBOLS)
    for first, second in wires:
        chance = rng.random()
        if chance < 0.2:
            continue
        start, end = node[first], node[second]
        if chance < 0.62:
            name = str(rng.choice(names))
            SYMBOLS[name](pen, start, end, size)
            if rng.random() < 0.6:
                middle = (start + end) / 2 + size * np.array([0.2, -0.55])
                pen.label(
                    f"{name[0].upper()}{rng.integers(1, 40)}", tuple(middle), height=size * 0.4
                )
        else:
            pen.line([start, end])
        if rng.random() < 0.3:
            polygon(
                pen.image, ring(tuple(start), (pen.thickness * 1.8,) * 2, num_points=10), pen.ink
            )
    return left, top, left + width * 0.8, top + height * 0.72


def _flow_chart(pen: Pen) -> Box:
    height, width = pen.image.shape[:2]
    rng = pen.rng
    columns, rows = int(rng.integers(1, 5)), int(rng.integers(2, 6))
    cell = np.array([width * 0.86 / columns, height * 0.84 / rows])
    half = cell * (rng.uniform(0.28, 0.4), rng.uniform(0.22, 0.34))
    centres = [
        np.array([width * 0.07, height * 0.07]) + cell * (i + 0.5, j + 0.5)
        for j in range(rows)
        for i in range(columns)
    ]
    kept = [centre for centre in centres if rng.random() < 0.85] or centres
    fill = rng.random() < 0.45
    for centre in kept:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + centre
        forms = (
            corners,
            corners,
            ring(tuple(centre), tuple(half)),
            np.array([[-1.1, 0], [0, -1.1], [1.1, 0], [0, 1.1]]) * half + centre,
        )
        outline = forms[int(rng.integers(4))]
        if fill:
            polygon(
                pen.image,
                outline,
                mix(pen.accent, tuple(int(v) for v in pen.image[2, 2]), rng.uniform(0.4, 0.85)),
            )
        pen.line(outline, closed=True)
        tall = min(half[1] * 0.5, half[0] * 0.3)
        pen.label(
            str(rng.choice(lettering.WORDS))[: int(half[0] * 2.2 / tall)],
            tuple(centre + (-half[0] * 0.75, tall * 0.5)),
            height=tall,
        )
    for before, after in zip(kept[:-1], kept[1:], strict=True):
        if abs(before[1] - after[1]) < 1:
            pen.arrow(before + half * (1, 0), after - half * (1, 0))
        else:
            bend = (before[1] + half[1] + after[1] - half[1]) / 2
            pen.line([before + half * (0, 1), (before[0], bend), (after[0], bend)])
            pen.arrow(np.array([after[0], bend]), after - half * (0, 1))
    points = np.array(kept)
    return *(points.min(axis=0) - half).tolist(), *(points.max(axis=0) + half).tolist()


def _plot(pen: Pen) -> Box:
    height, width = pen.image.shape[:2]
    rng = pen.rng
    left, top, right, bottom = width * 0.14, height * 0.1, width * 0.92, height * 0.84
    pen.arrow(np.array([left, bottom]), np.array([right, bottom]))
    pen.arrow(np.array([left, bottom]), np.array([left, top]))
    for share in np.linspace(0.1, 0.9, int(rng.integers(4, 9))):
        x, y, tick = left + share * (right - left), bottom - share * (bottom - top), width * 0.012
        pen.line([[x, bottom - tick], [x, bottom + tick]])
        pen.line([[left - tick, y], [left + tick, y]])
        pen.label(f"{share * 10:.0f}", (x - 4, bottom + height * 0.06), height=height * 0.025)
    if rng.random() < 0.3:
        shares = rng.uniform(0.1, 0.9, int(rng.integers(4, 11)))
        step = (right - left) / (len(shares) + 1)
        for index, share in enumerate(shares):
            x, y = left + (index + 0.6) * step, bottom - share * (bottom - top)
            bar = np.array([[x, bottom], [x, y], [x + step * 0.7, y], [x + step * 0.7, bottom]])
            polygon(pen.image, bar, mix(pen.accent, pen.ink, rng.uniform(0, 0.5)))
            pen.line(bar, closed=True)
        return left, top, right, bottom
    x = np.linspace(0.02, 0.96, 60)
    for index in range(int(rng.integers(1, 5))):
        wave = noise(rng, height=2, width=60, cells=int(rng.integers(2, 7)), octaves=2)[0] * 0.3
        trend = rng.uniform(0.1, 0.6) + x * rng.uniform(-0.2, 0.5)
        y = np.clip(trend + wave, 0.03, 0.97)
        points = np.stack([left + x * (right - left), bottom - y * (bottom - top)], axis=1)
        pen.line(points, colour=pen.accent if index % 2 else pen.ink)
    return left, top, right, bottom


def _floor_plan(pen: Pen) -> Box:
    height, width = pen.image.shape[:2]
    rng = pen.rng
    left, top, right, bottom = width * 0.12, height * 0.12, width * 0.88, height * 0.82
    thick = pen.thickness * 2.5
    pen.line(
        [[left, top], [right, top], [right, bottom], [left, bottom]], closed=True, thickness=thick
    )
    rooms = [(left, top, right, bottom)]
    for _ in range(int(rng.integers(2, 6))):
        a, b, c, d = rooms.pop(int(np.argmax([(r[2] - r[0]) * (r[3] - r[1]) for r in rooms])))
        cut = rng.uniform(0.3, 0.7)
        if (c - a) > (d - b):
            x, gap = a + (c - a) * cut, (d - b) * 0.25
            pen.line([[x, b], [x, d - gap]], thickness=thick)
            pen.line(ring((x, d), (gap, gap))[14:22], thickness=1)
            rooms += [(a, b, x, d), (x, b, c, d)]
        else:
            y, gap = b + (d - b) * cut, (c - a) * 0.25
            pen.line([[a, y], [c - gap, y]], thickness=thick)
            pen.line(ring((c, y), (gap, gap))[14:22], thickness=1)
            rooms += [(a, b, c, y), (a, y, c, d)]
    for a, b, c, d in rooms:
        tall = min((c - a) / 7, (d - b) / 4, height * 0.04)
        pen.label(
            str(rng.choice(lettering.WORDS))[:8],
            ((a + c) / 2 - tall * 2.2, (b + d) / 2),
            height=tall,
        )
    _dimension(pen, (left, right), bottom + height * 0.07)
    return left, top, right, bottom


def _part(pen: Pen) -> Box:
    height, width = pen.image.shape[:2]
    rng = pen.rng
    radius = min(width, height) * rng.uniform(0.2, 0.33)
    centre = np.array([width * rng.uniform(0.4, 0.6), height * rng.uniform(0.38, 0.52)])
    teeth = int(rng.integers(0, 30))
    phi = np.linspace(0, 2 * np.pi, max(teeth, 8) * 4, endpoint=False)
    bite = 1 + 0.09 * np.sign(np.sin(phi * teeth)) if teeth >= 8 else np.ones_like(phi)
    pen.line(
        centre + np.stack([np.cos(phi), np.sin(phi)], axis=1) * (radius * bite)[:, None],
        closed=True,
    )
    for share in rng.uniform(0.15, 0.8, int(rng.integers(1, 4))):
        pen.line(ring(tuple(centre), (radius * share,) * 2, num_points=40), closed=True)
    holes = int(rng.integers(0, 9))
    for angle in np.linspace(0, 2 * np.pi, holes, endpoint=False):
        at = centre + np.array([np.cos(angle), np.sin(angle)]) * radius * 0.65
        pen.line(ring(tuple(at), (radius * 0.1,) * 2, num_points=16), closed=True)
    for reach in (np.array([radius * 1.25, 0]), np.array([0, radius * 1.25])):
        for start in np.linspace(-1, 0.8, 9):
            pen.line(
                [centre + reach * start, centre + reach * (start + 0.12)],
                thickness=1,
                colour=pen.accent,
            )
    _dimension(pen, (centre[0] - radius, centre[0] + radius), centre[1] + radius * 1.35)
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _dimension(pen: Pen, span: tuple[float, float], y: float) -> None:
    middle, size = sum(span) / 2, pen.image.shape[1] * 0.028
    pen.arrow(np.array([middle - size, y]), np.array([span[0], y]))
    pen.arrow(np.array([middle + size, y]), np.array([span[1], y]))
    pen.label(
        str(pen.rng.integers(10, 900)), (middle - size * 0.8, y - size * 0.35), height=size * 0.8
    )


def _title_block(pen: Pen) -> None:
    height, width = pen.image.shape[:2]
    left, top = width * pen.rng.uniform(0.55, 0.68), height * pen.rng.uniform(0.86, 0.9)
    pen.line(
        [[left, top], [width * 0.97, top], [width * 0.97, height * 0.97], [left, height * 0.97]],
        closed=True,
    )
    size = height * 0.022
    for row in range(2):
        words = lettering.line_to_fill(pen.rng, width=width * 0.27, height=size)
        pen.label(words, (left + 4, top + height * (0.035 + 0.035 * row)), height=size)


def _notes(pen: Pen) -> None:
    height, width = pen.image.shape[:2]
    size = width * pen.rng.uniform(0.014, 0.022)
    left, top = width * pen.rng.uniform(0.04, 0.6), height * pen.rng.uniform(0.05, 0.7)
    for row in range(int(pen.rng.integers(3, 9))):
        words = lettering.line_to_fill(pen.rng, width=width * 0.34, height=size)
        pen.label(words, (left, top + row * size * 2), height=size)
