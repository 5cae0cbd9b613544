"""Scenes out of doors: mountains, sea, fields and streets, each built from far to near."""

from __future__ import annotations

import numpy as np

from .canvas import Scene, bounds, noise, ring
from .palettes import Style, mix


def ridge(rng: np.random.Generator, *, level: float, height: float, rough: int) -> np.ndarray:
    """Returns a skyline from left to right in shares of the scene, closed along the lower edge:
    shape (n, 2).
    """
    line = noise(rng, height=2, width=65, cells=rough, octaves=4)[0]
    x = np.linspace(-0.02, 1.02, 65)
    y = level - height * line
    return np.concatenate([np.stack([x, y], axis=1), [[1.02, 1.05], [-0.02, 1.05]]])


def sky(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """Paints the sky with clouds and, most often, a sun or moon."""
    above, below, *_, light = style.colours
    scene.backdrop(above, below, bottom=0.75)
    scene.backdrop(below, below, top=0.75)
    cloud = noise(
        rng, height=scene.height, width=scene.width, cells=int(rng.integers(2, 6)), octaves=4
    )
    cover = np.clip((cloud + np.float32(rng.uniform(-0.5, 0.2))) * np.float32(1.3), 0, 0.85)[
        ..., None
    ]
    scene.image[:] = (
        scene.image + (np.array(light, np.float32) - scene.image) * cover + np.float32(0.5)
    )
    if rng.random() < 0.6:
        centre = scene.at([rng.uniform(0.12, 0.88), rng.uniform(0.1, 0.4)])
        radius = scene.height * rng.uniform(0.03, 0.09)
        scene.shape(ring(tuple(centre), (radius, radius)), light, mix(light, below, 0.3), depth=255)


def mountains(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """Ranges one behind the other, firs in front, sometimes a lake."""
    above, below, far, middle, near, accent, _, light = style.colours
    sky(scene, rng, style)
    count = int(rng.integers(2, 5))
    for index in range(count):
        share = index / count
        colour = mix(far, middle, share)
        line = ridge(
            rng, level=0.38 + 0.34 * share, height=0.2 - 0.1 * share, rough=int(rng.integers(2, 5))
        )
        scene.shape(
            scene.at(line),
            mix(colour, light, 0.25),
            mix(colour, near, 0.35),
            depth=230 - 35 * index,
            angle=75,
        )
    if rng.random() < 0.4:
        _water(scene, rng, top=rng.uniform(0.7, 0.8), style=style)
    ground = ridge(rng, level=rng.uniform(0.84, 0.93), height=0.05, rough=3)
    scene.shape(scene.at(ground), mix(near, middle, 0.45), near, depth=60, angle=90)
    firs = sorted(rng.uniform(0, 1, int(rng.integers(2, 9))))
    for x in firs:
        _fir(
            scene, rng, foot=(x, rng.uniform(0.86, 0.99)), size=rng.uniform(0.15, 0.5), style=style
        )
    if rng.random() < 0.35:
        _house(
            scene,
            rng,
            foot=(rng.uniform(0.15, 0.7), rng.uniform(0.82, 0.92)),
            size=rng.uniform(0.1, 0.2),
            style=style,
        )


def sea(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """Open water with a headland and one to three sailing boats."""
    above, below, far, middle, near, accent, second, light = style.colours
    sky(scene, rng, style)
    horizon = rng.uniform(0.42, 0.62)
    if rng.random() < 0.7:
        line = ridge(rng, level=horizon + 0.03, height=0.09, rough=3)
        if rng.random() < 0.5:
            line[:-2, 1] += np.linspace(-0.1, 0.12, 65) * rng.choice([-1, 1])
        scene.shape(scene.at(line), far, mix(far, near, 0.4), depth=220)
    _water(scene, rng, top=horizon, style=style)
    for _ in range(int(rng.integers(1, 4))):
        y = rng.uniform(horizon + 0.06, 0.92)
        size = 0.12 + 0.6 * (y - horizon)
        _boat(scene, rng, foot=(rng.uniform(0.15, 0.85), y), size=size, style=style)
    if rng.random() < 0.4:
        beach = ridge(rng, level=0.94, height=0.05, rough=2)
        scene.shape(scene.at(beach), mix(near, light, 0.35), near, depth=20, angle=80)


def field(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """Furrows or flowers that run to the horizon, a broad tree, at times a house."""
    above, below, far, middle, near, accent, second, light = style.colours
    sky(scene, rng, style)
    horizon = rng.uniform(0.45, 0.65)
    scene.shape(
        scene.at(ridge(rng, level=horizon, height=0.06, rough=3)),
        far,
        mix(far, middle, 0.6),
        depth=215,
    )
    scene.shape(
        scene.at(ridge(rng, level=horizon + 0.06, height=0.02, rough=2)),
        mix(middle, light, 0.25),
        middle,
        depth=150,
        angle=90,
    )
    vanish = rng.uniform(0.2, 0.8)
    for edge in np.linspace(-1.5, 2.5, int(rng.integers(8, 18))):
        furrow = [[vanish, horizon + 0.08], [edge + 0.05, 1.02], [edge - 0.05, 1.02]]
        scene.shape(
            scene.at(furrow),
            mix(middle, near, 0.5),
            mix(second, near, 0.4),
            depth=110,
            angle=90,
            outline=rng.random() < 0.4,
        )
    if rng.random() < 0.5:
        _house(
            scene,
            rng,
            foot=(rng.uniform(0.1, 0.8), horizon + 0.12),
            size=rng.uniform(0.12, 0.25),
            style=style,
        )
    for _ in range(int(rng.integers(1, 3))):
        _tree(
            scene,
            rng,
            foot=(rng.uniform(0.1, 0.9), rng.uniform(horizon + 0.12, 0.95)),
            size=rng.uniform(0.3, 0.6),
            style=style,
        )
    for _ in range(int(rng.integers(0, 60))):
        y = rng.uniform(horizon + 0.12, 1)
        radius = scene.height * 0.014 * (0.3 + 1.5 * (y - horizon))
        colour = (accent, second, light)[int(rng.integers(3))]
        scene.shape(
            ring(tuple(scene.at([rng.uniform(0, 1), y])), (radius, radius), num_points=7),
            colour,
            depth=40,
            outline=False,
        )


def street(scene: Scene, rng: np.random.Generator, style: Style) -> None:
    """Houses with windows along a street, lit or not."""
    above, below, far, middle, near, accent, second, light = style.colours
    sky(scene, rng, style)
    scene.backdrop(mix(near, light, 0.4), near, top=0.82, depth=60)
    for row, depth in ((0, 200), (1, 110)):
        x = -0.05
        while x < 1.0:
            width, top = rng.uniform(0.1, 0.26), rng.uniform(0.2, 0.55) + 0.12 * row
            if row == 0 or rng.random() < 0.7:
                colour = mix(
                    (far, middle, second, accent)[int(rng.integers(4))], near, 0.2 + 0.15 * row
                )
                _facade(
                    scene,
                    rng,
                    corners=(x, top, x + width, 0.86),
                    colours=(colour, near, light),
                    depth=depth,
                )
            x += width
    lamp = rng.uniform(0.1, 0.9)
    scene.shape(
        scene.at([[lamp, 0.55], [lamp + 0.012, 0.55], [lamp + 0.014, 0.97], [lamp - 0.002, 0.97]]),
        near,
        near,
        depth=20,
    )
    glow = tuple(scene.at([lamp + 0.006, 0.54]))
    scene.ball(glow, scene.height * 0.025, light, second, depth=20)


def _facade(
    scene: Scene, rng: np.random.Generator, *, corners: tuple, colours: tuple, depth: int
) -> None:
    left, top, right, bottom = corners
    wall, dark, light = colours
    outline = scene.at([[left, top], [right, top], [right, bottom], [left, bottom]])
    if rng.random() < 0.5:
        outline = scene.at(
            [
                [left, top],
                [(left + right) / 2, top - 0.09],
                [right, top],
                [right, bottom],
                [left, bottom],
            ]
        )
    scene.shape(outline, mix(wall, light, 0.2), mix(wall, dark, 0.3), depth=depth, angle=20)
    scene.box = _larger(scene.box, outline)
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(3, 7))
    step_x, step_y = (right - left) / columns, (bottom - top) / rows
    lit = rng.uniform(0.1, 0.7)
    for i in range(columns):
        for j in range(rows):
            x, y = left + (i + 0.25) * step_x, top + (j + 0.25) * step_y
            pane = scene.at(
                [[x, y], [x + step_x / 2, y], [x + step_x / 2, y + step_y / 2], [x, y + step_y / 2]]
            )
            scene.shape(
                pane,
                light if rng.random() < lit else dark,
                dark,
                depth=depth,
                angle=80,
                outline=(i + j) % 2 == 0,
            )


def _water(scene: Scene, rng: np.random.Generator, *, top: float, style: Style) -> None:
    above, below, far, middle, near, *_, light = style.colours
    scene.backdrop(mix(below, middle, 0.35), mix(middle, near, 0.4), top=top, depth=140)
    for _ in range(int(rng.integers(25, 70))):
        y = top + (1 - top) * rng.random() ** 1.5
        x, half = rng.uniform(0, 1), rng.uniform(0.01, 0.06) * (0.4 + 2 * (y - top))
        colour = mix(light, middle, rng.uniform(0, 0.7))
        wave = [[x - half, y], [x, y - 0.006], [x + half, y], [x, y + 0.004]]
        scene.shape(scene.at(wave), colour, depth=140, outline=rng.random() < 0.25)


def _fir(scene: Scene, rng: np.random.Generator, *, foot: tuple, size: float, style: Style) -> None:
    near, light = style.colours[4], style.colours[3]
    tiers, x, y = int(rng.integers(4, 8)), *foot
    right = [
        (
            x + size * 0.22 * (0.25 + (i // 2) / tiers) * (1.0 if i % 2 else 0.55),
            y - size * (1 - (i + 1) / (2 * tiers)),
        )
        for i in range(2 * tiers)
    ]
    left = [(2 * x - a, b) for a, b in reversed(right)]
    points = scene.at([(x, y - size), *right, *left])
    scene.shape(points, mix(near, light, 0.35), near, depth=50, angle=25)
    scene.box = _larger(scene.box, points)


def _tree(
    scene: Scene, rng: np.random.Generator, *, foot: tuple, size: float, style: Style
) -> None:
    _, _, _, middle, near, accent, second, light = style.colours
    x, y = foot
    trunk = scene.at(
        [[x - 0.018, y], [x - 0.01, y - size * 0.6], [x + 0.012, y - size * 0.6], [x + 0.024, y]]
    )
    scene.shape(trunk, mix(near, light, 0.2), near, depth=50)
    leaf = mix(middle, (accent, second, near)[int(rng.integers(3))], rng.uniform(0.1, 0.8))
    crown = [trunk]
    for _ in range(int(rng.integers(9, 18))):
        centre = scene.at([x + rng.normal(0, 0.3) * size * 0.55, y - size * rng.uniform(0.5, 0.95)])
        radius = scene.height * size * rng.uniform(0.1, 0.2)
        clump = ring(tuple(centre), (radius, radius * 0.8), num_points=12) + rng.normal(
            0, radius * 0.09, (12, 2)
        )
        scene.shape(clump, mix(leaf, light, rng.uniform(0.1, 0.4)), mix(leaf, near, 0.6), depth=50)
        crown.append(clump)
    scene.box = _larger(scene.box, np.concatenate(crown))


def _house(
    scene: Scene, rng: np.random.Generator, *, foot: tuple, size: float, style: Style
) -> None:
    _, _, _, _, near, accent, second, light = style.colours
    x, y = foot
    wide, tall = size * rng.uniform(0.9, 1.6), size * 0.55
    wall = scene.at([[x, y], [x + wide, y], [x + wide, y - tall], [x, y - tall]])
    roof = scene.at(
        [[x - 0.02, y - tall], [x + wide / 2, y - tall * 1.9], [x + wide + 0.02, y - tall]]
    )
    scene.shape(wall, light, mix(light, near, 0.45), depth=90)
    scene.shape(roof, accent, mix(accent, near, 0.5), depth=90)
    for share in (0.2, 0.62):
        a, b = x + wide * share, x + wide * (share + 0.18)
        scene.shape(
            scene.at(
                [[a, y - tall * 0.7], [b, y - tall * 0.7], [b, y - tall * 0.3], [a, y - tall * 0.3]]
            ),
            near,
            second,
            depth=90,
        )
    scene.box = _larger(scene.box, np.concatenate([wall, roof]))


def _boat(
    scene: Scene, rng: np.random.Generator, *, foot: tuple, size: float, style: Style
) -> None:
    _, _, _, middle, near, accent, second, light = style.colours
    x, y = foot
    lean = rng.uniform(-0.15, 0.15) * size
    hull = scene.at(
        [
            [x - size / 2, y - size * 0.14],
            [x + size / 2, y - size * 0.16],
            [x + size * 0.36, y],
            [x - size * 0.34, y],
        ]
    )
    main = scene.at(
        [[x, y - size * 0.18], [x + lean, y - size * 1.2], [x + size * 0.45, y - size * 0.22]]
    )
    jib = scene.at(
        [
            [x - size * 0.05, y - size * 0.2],
            [x + lean, y - size * 1.0],
            [x - size * 0.4, y - size * 0.24],
        ]
    )
    sail = (light, accent, second)[int(rng.integers(3))]
    scene.shape(main, sail, mix(sail, middle, 0.35), depth=100)
    scene.shape(jib, mix(sail, light, 0.5), mix(sail, middle, 0.4), depth=100)
    scene.shape(hull, mix(near, accent, 0.3), near, depth=100)
    scene.box = _larger(scene.box, np.concatenate([hull, main, jib]))


def _larger(
    box: tuple[float, float, float, float] | None, points: np.ndarray
) -> tuple[float, float, float, float]:
    new = bounds(points)
    if box is None:
        return new
    return (
        new
        if (new[2] - new[0]) * (new[3] - new[1]) > (box[2] - box[0]) * (box[3] - box[1])
        else box
    )
