"""Scenes indoors: still lifes, flowers and portraits."""

from __future__ import annotations

import numpy as np

from .canvas import Scene, bounds, noise, ring
from .palettes import Colour, Style, mix


def still_life(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """A vase or bottle, a bowl or not, and fruit on a table before a wall."""
    edge = _room(scene, rng, style)
    _, _, far, middle, near, accent, second, light = style.colours
    for index in range(int(rng.integers(1, 4))):
        colour = mix((far, middle, accent, second)[int(rng.integers(4))], near, rng.uniform(0, 0.4))
        x = rng.uniform(0.2, 0.8)
        points = _vessel(
            scene, rng, foot=(x, edge + rng.uniform(0.06, 0.16)), tall=rng.uniform(0.3, 0.55)
        )
        _shadow(scene, points, near)
        scene.shape(points, mix(colour, light, 0.45), mix(colour, near, 0.6), depth=120, angle=15)
        _glint(scene, points, light)
        if index == 0:
            scene.box = bounds(points)
    for _ in range(int(rng.integers(2, 7))):
        radius = scene.height * rng.uniform(0.05, 0.095)
        centre = tuple(
            scene.at([rng.uniform(0.12, 0.88), edge + rng.uniform(0.14, 0.32)]) - (0, radius)
        )
        colour = (accent, second, mix(accent, second, 0.5), middle)[int(rng.integers(4))]
        _shadow(scene, ring(centre, (radius, radius)), near)
        scene.ball(centre, radius, mix(colour, light, 0.5), mix(colour, near, 0.55), depth=40)


def flowers(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """A bunch of flowers in a vase."""
    edge = _room(scene, rng, style)
    _, _, far, middle, near, accent, second, light = style.colours
    x = rng.uniform(0.4, 0.6)
    foot = edge + rng.uniform(0.1, 0.22)
    vase = _vessel(scene, rng, foot=(x, foot), tall=rng.uniform(0.24, 0.36))
    _shadow(scene, vase, near)
    heads = scene.at([x, foot - 0.52]) + rng.normal(0, 1, (int(rng.integers(5, 14)), 2)) * scene.at(
        [0.13, 0.13]
    )
    for head in heads:
        root = scene.at([x, foot - 0.2])
        stem = np.array([root - (1, 0), head - (1, 0), head + (1, 0), root + (1, 0)])
        scene.shape(stem, mix(middle, near, 0.3), near, depth=100, outline=False)
    for head in heads:
        colour = (accent, second, light, mix(accent, light, 0.5))[int(rng.integers(4))]
        _blossom(
            scene,
            rng,
            centre=head,
            radius=scene.height * rng.uniform(0.04, 0.085),
            colours=(colour, near, second),
        )
    colour = mix((far, middle, second)[int(rng.integers(3))], light, 0.15)
    scene.shape(vase, mix(colour, light, 0.45), mix(colour, near, 0.5), depth=90, angle=15)
    _glint(scene, vase, light)
    scene.box = bounds(
        np.concatenate([vase, heads - scene.height * 0.05, heads + scene.height * 0.05])
    )


def portrait(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """A person's head and shoulders before a loose backdrop."""
    above, below, far, middle, near, accent, second, light = style.colours
    _wall(scene, rng, mix(far, near, rng.uniform(0, 0.6)), mix(middle, near, 0.4))
    skin = mix(
        ((236, 196, 168), (198, 150, 118), (141, 96, 70), (92, 62, 48))[int(rng.integers(4))],
        below,
        0.12,
    )
    hair = ((48, 36, 30), (120, 84, 52), (196, 164, 110), (170, 168, 164), near)[
        int(rng.integers(5))
    ]
    unit, x, y = (
        scene.height * rng.uniform(0.17, 0.24),
        scene.width * rng.uniform(0.38, 0.62),
        scene.height * rng.uniform(0.36, 0.46),
    )
    turn = rng.uniform(-12, 12)
    dress = (accent, second, near, middle)[int(rng.integers(4))]
    back = ring((x, y + unit * 0.15), (unit * 1.0, unit * rng.uniform(1.15, 1.9)), turn=turn)
    scene.shape(back, hair, mix(hair, near, 0.5), depth=120)
    neck = np.array(
        [
            [x - unit * 0.32, y + unit * 0.5],
            [x + unit * 0.32, y + unit * 0.5],
            [x + unit * 0.4, y + unit * 1.8],
            [x - unit * 0.4, y + unit * 1.8],
        ]
    )
    scene.shape(neck, mix(skin, near, 0.15), mix(skin, near, 0.45), depth=110)
    bust = ring(
        (x, scene.height * 1.05),
        (unit * rng.uniform(1.7, 2.3), scene.height * 1.05 - y - unit * 1.25),
    )
    scene.shape(bust, mix(dress, light, 0.25), mix(dress, near, 0.45), depth=90)
    face = ring((x, y), (unit * 0.74, unit), turn=turn)
    scene.shape(face, mix(skin, light, 0.35), mix(skin, near, 0.35), depth=60)
    fringe = ring(
        (x, y - unit * 0.62),
        (unit * 0.8, unit * rng.uniform(0.35, 0.55)),
        turn=turn + rng.uniform(-15, 15),
    )
    scene.shape(fringe, mix(hair, light, 0.15), hair, depth=50)
    _features(
        scene,
        rng,
        centre=(x, y),
        unit=unit,
        colours=(skin, mix(hair, (30, 24, 22), 0.6), mix(accent, skin, 0.45)),
    )
    scene.box = bounds(np.concatenate([face, back]))


def _features(
    scene: Scene, rng: np.random.Generator, *, centre: tuple, unit: float, colours: tuple
) -> None:
    (x, y), (skin, dark, lip) = centre, colours
    gaze = rng.uniform(-0.16, 0.16) * unit
    for side in (-0.3, 0.3):
        eye = (x + gaze + side * unit, y + 0.02 * unit)
        scene.shape(
            ring(eye, (unit * 0.13, unit * 0.065), num_points=10), (240, 236, 228), skin, depth=50
        )
        scene.shape(ring(eye, (unit * 0.055, unit * 0.06), num_points=9), dark, depth=50)
        brow = (
            np.array([[-0.16, 0], [0, -0.06], [0.16, 0], [0, -0.01]]) * unit
            + eye
            - (0, unit * 0.18)
        )
        scene.shape(brow, dark, depth=50)
    nose = np.array([[0.02, 0.0], [0.1, 0.3], [-0.07, 0.33]]) * unit + (x + gaze, y + unit * 0.04)
    scene.shape(nose, mix(skin, dark, 0.12), mix(skin, dark, 0.3), depth=50)
    mouth = np.array(
        [[-0.24, 0.0], [-0.06, -0.05], [0.06, -0.05], [0.24, 0], [0.0, 0.09]]
    ) * unit + (x + gaze, y + unit * 0.56)
    scene.shape(mouth, lip, mix(lip, dark, 0.4), depth=50)


def _wall(scene: Scene, rng: np.random.Generator, upper: Colour, lower: Colour) -> None:
    scene.backdrop(upper, lower)
    cloud = noise(rng, height=scene.height, width=scene.width, cells=3)[..., None] * rng.uniform(
        6, 24
    )
    scene.image[:] = np.clip(np.rint(scene.image + cloud), 0, 255)


def _room(scene: Scene, rng: np.random.Generator, style: Style) -> float:
    above, below, far, middle, near, *_, light = style.colours
    shades = (mix(far, near, 0.35), mix(below, far, 0.3), mix(near, far, 0.25), above)
    wall = shades[int(rng.integers(4))]
    _wall(scene, rng, mix(wall, light, 0.15), mix(wall, near, 0.3))
    edge = float(rng.uniform(0.55, 0.68))
    cloth = mix((middle, light, near, far)[int(rng.integers(4))], light, 0.2)
    slope = rng.uniform(-0.03, 0.03)
    scene.shape(
        scene.at([[-0.02, edge - slope], [1.02, edge + slope], [1.02, 1.05], [-0.02, 1.05]]),
        mix(cloth, light, 0.2),
        mix(cloth, near, 0.4),
        depth=90,
        angle=70,
    )
    if rng.random() < 0.4:  # a window's light on the wall
        x, y = rng.uniform(0.05, 0.7), rng.uniform(0.05, 0.2)
        for i in range(2):
            pane = [
                [x + 0.13 * i, y],
                [x + 0.13 * i + 0.11, y - 0.03],
                [x + 0.13 * i + 0.11, y + 0.26],
                [x + 0.13 * i, y + 0.3],
            ]
            scene.shape(scene.at(pane), mix(wall, light, 0.6), mix(wall, light, 0.3), depth=230)
    return edge


def _vessel(
    scene: Scene, rng: np.random.Generator, *, foot: tuple[float, float], tall: float
) -> np.ndarray:
    profiles = (
        (0.6, 0.9, 1.0, 0.85, 0.45, 0.35, 0.5),  # an urn
        (0.8, 0.85, 0.85, 0.8, 0.3, 0.25, 0.27),  # a bottle
        (0.5, 0.7, 0.85, 0.95, 1.0, 1.0, 1.05),  # a cup
        (0.7, 1.0, 1.0, 0.7, 0.4, 0.5, 0.75),  # a jug
    )
    profile = np.array(profiles[int(rng.integers(4))]) * tall * rng.uniform(0.25, 0.38)
    steps = np.linspace(0, 1, 25)
    radius = np.interp(steps, np.linspace(0, 1, 7), profile)
    radius = (
        np.convolve(np.pad(radius, 2, mode="edge"), np.ones(5) / 5, mode="valid") * scene.height
    )
    x, y = scene.at(foot)
    rise = y - steps * tall * scene.height
    right, left = np.stack([x + radius, rise], axis=1), np.stack([x - radius, rise], axis=1)
    return np.concatenate([right, left[::-1]])


def _shadow(scene: Scene, points: np.ndarray, dark: Colour) -> None:
    left, top, right, bottom = bounds(points)
    half = (right - left) / 2
    foot = ring((right, bottom - half * 0.1), (half * 1.3, half * 0.28))
    x, y = np.clip(np.rint(foot.mean(axis=0)).astype(int), 0, (scene.width - 1, scene.height - 1))
    here = tuple(int(v) for v in scene.image[y, x])
    scene.shape(foot, mix(here, dark, 0.65), mix(here, dark, 0.2), depth=90, angle=0, outline=False)


def _glint(scene: Scene, points: np.ndarray, light: Colour) -> None:
    left, top, right, bottom = bounds(points)
    centre = (left + (right - left) * 0.34, top + (bottom - top) * 0.55)
    here = tuple(
        int(v)
        for v in scene.image[
            int(min(max(centre[1], 0), scene.height - 1)),
            int(min(max(centre[0], 0), scene.width - 1)),
        ]
    )
    scene.shape(
        ring(centre, ((right - left) * 0.05, (bottom - top) * 0.13)),
        mix(here, light, 0.6),
        depth=110,
        outline=False,
    )


def _blossom(
    scene: Scene, rng: np.random.Generator, *, centre: np.ndarray, radius: float, colours: tuple
) -> None:
    colour, dark, heart = colours
    petals, start = int(rng.integers(5, 10)), rng.uniform(0, 360)
    for index in range(petals):
        angle = start + 360 * index / petals
        reach = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * radius * 0.6
        petal = ring(
            tuple(centre + reach), (radius * 0.55, radius * 0.3), num_points=10, turn=angle
        )
        scene.shape(petal, mix(colour, (255, 255, 255), 0.15), mix(colour, dark, 0.3), depth=60)
    scene.ball(tuple(centre), radius * 0.28, heart, mix(heart, dark, 0.5), depth=50)
