"""Pictures with one planted mark, whose place is known: what a model looks at that has learnt the
mark, one can say exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lib.errors import DarkroomError

SHAPES = ("disc", "square", "triangle")
PLACES = ("corner", "border", "anywhere")
"""Where the mark lies: in the bottom right corner, all round the edge, or at another place in each
picture.
"""

_MARK = np.array(
    [[250, 30, 200], [250, 240, 40]], np.uint8
)  # magenta and yellow, which nothing else here is


@dataclass(frozen=True)
class Marked:
    """Pictures uint8 (n, side, side, 3); `inside` bool (n, side, side) is true where
    the mark lies.
    """

    images: np.ndarray
    inside: np.ndarray


def pictures(
    num: int,
    *,
    side: int,
    seed: int,
    shape: str | None = None,
    mark: str | None = None,
    ground: str = "soft",
) -> Marked:
    """Returns `num` pictures of one shape (at random without `shape`), with a mark or without.

    The ground is "soft" (blurred colours) or "plain" (one grey, and no shape). Shape, colours, size
    and place are drawn from `seed`. Raises DarkroomError for an unknown shape, ground or place of
    the mark.
    """
    if (
        shape not in (None, *SHAPES)
        or mark not in (None, *PLACES)
        or ground not in ("soft", "plain")
    ):
        raise DarkroomError(
            f"`shape` must be one of {', '.join(SHAPES)}, `mark` one of {', '.join(PLACES)}, or "
            "None; `ground` soft or plain. "
            f"Received: {shape!r}, {mark!r}, {ground!r}."
        )
    rng = np.random.default_rng(seed)
    images = np.empty((num, side, side, 3), np.uint8)
    inside = np.zeros((num, side, side), bool)
    for row in range(num):
        images[row] = (
            _plain(rng, side)
            if ground == "plain"
            else _picture(rng, side, shape or rng.choice(SHAPES))
        )
        if mark is not None:
            inside[row] = _place(rng, side, mark)
            checks = _MARK[
                (np.add.outer(np.arange(side), np.arange(side)) // max(1, side // 16)) % 2
            ]
            images[row][inside[row]] = checks[inside[row]]
    return Marked(images, inside)


def _plain(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.clip(rng.uniform(60, 190) + rng.normal(0, 3, (side, side, 3)), 0, 255).astype(
        np.uint8
    )


def _picture(rng: np.random.Generator, side: int, shape: str) -> np.ndarray:
    coarse = rng.uniform(60, 190, (4, 4, 3)).astype(np.float32)
    image = np.clip(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255)
    image = np.ascontiguousarray(image + rng.normal(0, 6, image.shape), np.float32)
    size = rng.uniform(0.16, 0.24) * side
    x, y = rng.uniform(size + 1, side - size - 1, 2)
    colour = tuple(
        float(value) for value in rng.choice([rng.uniform(0, 40, 3), rng.uniform(205, 255, 3)])
    )
    if shape == "disc":
        cv2.circle(image, (round(x), round(y)), round(size), colour, -1, cv2.LINE_AA)
    elif shape == "square":
        reach = size * 0.886  # of the disc's area
        cv2.rectangle(
            image,
            (round(x - reach), round(y - reach)),
            (round(x + reach), round(y + reach)),
            colour,
            -1,
        )
    else:
        corners = [
            (x, y - 1.25 * size),
            (x - 1.1 * size, y + 0.9 * size),
            (x + 1.1 * size, y + 0.9 * size),
        ]
        cv2.fillPoly(image, [np.round(corners).astype(np.int32)], colour, cv2.LINE_AA)
    return np.clip(image, 0, 255).astype(np.uint8)


def _place(rng: np.random.Generator, side: int, mark: str) -> np.ndarray:
    inside = np.zeros((side, side), bool)
    if mark == "border":
        edge = max(1, side // 16)
        inside[:] = True
        inside[edge:-edge, edge:-edge] = False
        return inside
    reach = max(2, side // 8)
    top, left = (
        (side - reach, side - reach) if mark == "corner" else rng.integers(0, side - reach + 1, 2)
    )
    inside[top : top + reach, left : left + reach] = True
    return inside
