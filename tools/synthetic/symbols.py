"""Symbols of circuit diagrams. Each draws itself and its two leads from `start` to `end`; `size` is
its length in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import ring
from .pen import Pen


def _body(
    pen: Pen,
    start: np.ndarray,
    end: np.ndarray,
    size: float,
    parts: list[np.ndarray],
    *,
    closed: bool = False,
) -> None:
    # Parts are given along the lead: x from -0.5 to 0.5 of the size, y to its left.
    middle, along = (start + end) / 2, (end - start) / max(1e-6, float(np.hypot(*(end - start))))
    across = np.array([-along[1], along[0]])
    pen.line([start, middle - along * size / 2])
    pen.line([middle + along * size / 2, end])
    for part in parts:
        part = np.asarray(part, float) * size
        pen.line(middle + part[:, :1] * along + part[:, 1:] * across, closed=closed)


def resistor(pen: Pen, start: np.ndarray, end: np.ndarray, size: float) -> None:
    """Draws a zigzag or a box."""
    if pen.thickness > 1:
        _body(
            pen,
            start,
            end,
            size,
            [np.array([[-0.5, -0.17], [0.5, -0.17], [0.5, 0.17], [-0.5, 0.17]])],
            closed=True,
        )
        return
    x = np.linspace(-0.5, 0.5, 9)
    y = np.array([0, 1, -1, 1, -1, 1, -1, 1, 0]) * 0.2
    _body(pen, start, end, size, [np.stack([x, y], axis=1)])


def capacitor(pen: Pen, start: np.ndarray, end: np.ndarray, size: float) -> None:
    """Draws two plates."""
    plates = [
        [[-0.1, -0.4], [-0.1, 0.4]],
        [[0.1, -0.4], [0.1, 0.4]],
        [[-0.5, 0], [-0.1, 0]],
        [[0.1, 0], [0.5, 0]],
    ]
    _body(pen, start, end, size, plates)


def inductor(pen: Pen, start: np.ndarray, end: np.ndarray, size: float) -> None:
    """Draws four half turns."""
    arcs = []
    for index in range(4):
        phi = np.linspace(np.pi, 0, 8)
        arcs.append(
            np.stack([-0.375 + 0.25 * index + 0.125 * np.cos(phi), 0.2 * np.sin(phi)], axis=1)
        )
    _body(pen, start, end, size, [np.concatenate(arcs)])


def diode(pen: Pen, start: np.ndarray, end: np.ndarray, size: float) -> None:
    """Draws a triangle and a bar."""
    _body(
        pen,
        start,
        end,
        size,
        [
            [[-0.5, 0], [-0.25, 0], [-0.25, 0.28], [0.25, 0], [-0.25, -0.28], [-0.25, 0]],
            [[0.25, -0.28], [0.25, 0.28]],
            [[0.25, 0], [0.5, 0]],
        ],
    )


def lamp(pen: Pen, start: np.ndarray, end: np.ndarray, size: float) -> None:
    """Draws a circle with a cross."""
    c = 0.5 * np.cos(np.pi / 4)
    _body(
        pen,
        start,
        end,
        size,
        [ring((0, 0), (0.5, 0.5), num_points=22), [[-c, -c], [c, c]], [[-c, c], [c, -c]]],
        closed=True,
    )


def switch(pen: Pen, start: np.ndarray, end: np.ndarray, size: float) -> None:
    """Draws an open switch."""
    _body(
        pen,
        start,
        end,
        size,
        [
            [[-0.5, 0], [0.4, 0.4]],
            ring((-0.5, 0), (0.06, 0.06), num_points=8),
            ring((0.5, 0), (0.06, 0.06), num_points=8),
        ],
    )


SYMBOLS: dict[str, Callable[[Pen, np.ndarray, np.ndarray, float], None]] = {
    "capacitor": capacitor,
    "diode": diode,
    "inductor": inductor,
    "lamp": lamp,
    "resistor": resistor,
    "switch": switch,
}
"""The symbols by name."""
