"""AutoAugment and RandAugment, with the geometric operations in one warp.

Sources: Cubuk et al. 2019, "AutoAugment", table 9 (the policy found on ImageNet); Cubuk et al.
    2020, "RandAugment". Strengths are on their scale of 0 to 10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

NUM_DRAWS = 7
"""Random numbers an image: which pair of operations, and for each whether, which and to which side.
"""
_Levels = np.ndarray  # (256, 3), what each level of each channel becomes
_MOST = 10.0


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Two operations of `OPERATIONS`, drawn for each image, each at `strength` of 10."""

    strength: float = 9.0


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """One of the 25 pairs of operations found on ImageNet, drawn for each image."""


# Warps: the entry of the matrix for a strength of 0 to 1 with a sign; shifts are shares of the
# side.
_WARPS: dict[str, Callable[[float], np.ndarray]] = {
    "shear_x": lambda signed: np.array([[1, 0.3 * signed, 0], [0, 1, 0]]),
    "shear_y": lambda signed: np.array([[1, 0, 0], [0.3 * signed, 1, 0]]),
    "shift_x": lambda signed: np.array([[1, 0, 0.45 * signed], [0, 1, 0]]),
    "shift_y": lambda signed: np.array([[1, 0, 0], [0, 1, 0.45 * signed]]),
    "rotate": lambda signed: _rotation(np.deg2rad(30 * signed)),
}
_TABLES: dict[str, Callable[[np.ndarray, float], _Levels]] = {
    "brightness": lambda image, signed: _toward(np.zeros(3), 1 + 0.9 * signed),
    "contrast": lambda image, signed: _toward(
        np.full(3, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()), 1 + 0.9 * signed
    ),
    "posterize": lambda image, signed: _same(np.arange(256) & (0xFF << round(4 * abs(signed)))),
    "solarize": lambda image, signed: _same(
        np.where(np.arange(256) < 256 * (1 - abs(signed)), _ALL, 255 - _ALL)
    ),
    "invert": lambda image, signed: _same(255 - _ALL),
    "auto_contrast": lambda image, signed: np.stack([*map(_stretched, cv2.split(image))], axis=1),
    "equalize": lambda image, signed: np.stack([*map(_equalized, cv2.split(image))], axis=1),
}
_ALL = np.arange(256)
OPERATIONS = (
    *_WARPS,
    *(name for name in _TABLES if name != "invert"),
    "colour",
    "sharpness",
    "identity",
)
"""The operations of RandAugment, the paper's fourteen."""

# Source: table 9; operation, probability, strength. Two of the 25 pairs stand there twice or more.
_PAIRS = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("colour", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("colour", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def chosen(policy: RandAugment | AutoAugment, row: np.ndarray) -> list[tuple[str, float]]:
    """Returns the operations of one image with their signed strength of -1 to 1, from one row of
    random numbers.
    """
    signs = np.where(row[5:7] < 0.5, -1.0, 1.0)
    if isinstance(policy, RandAugment):
        names = [OPERATIONS[int(number * len(OPERATIONS))] for number in row[1:3]]
        strengths = signs * policy.strength / _MOST
        return [*zip(names, strengths.tolist(), strict=True)]
    pair = _PAIRS[int(row[0] * len(_PAIRS))]
    acting = zip(pair, row[3:5], signs, strict=True)
    return [
        (name, sign * strength / _MOST)
        for (name, probability, strength), draw, sign in acting
        if draw < probability
    ]


def apply(image: np.ndarray, operations: list[tuple[str, float]]) -> np.ndarray:
    """Returns a changed copy of one uint8 RGB image: first all warps, as one, then the others in
    their order.
    """
    height, width = image.shape[:2]
    matrices = [_WARPS[name](signed) for name, signed in operations if name in _WARPS]
    if matrices:
        matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
        for single in matrices:
            matrix = single @ np.vstack([matrix, [0, 0, 1]])
        matrix = _about_centre(matrix, height, width)
        mirrored = cv2.BORDER_REFLECT_101
        image = cv2.warpAffine(image, matrix, (width, height), borderMode=mirrored)
    for name, signed in operations:
        if name in _TABLES:
            levels = np.clip(np.rint(_TABLES[name](image, signed)), 0, 255).astype(np.uint8)
            image = cv2.LUT(image, levels[None])
        elif name == "colour":
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, 1 + 0.9 * signed, grey, -0.9 * signed, 0)
        elif name == "sharpness":
            blurred = cv2.blur(image, (3, 3))
            image = cv2.addWeighted(image, 1 + 0.9 * signed, blurred, -0.9 * signed, 0)
    return image


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0]])


def _about_centre(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    linear, shift = matrix[:, :2], matrix[:, 2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, centre - linear @ centre + shift * [width, height]])


def _same(levels: np.ndarray) -> _Levels:
    return np.repeat(levels[:, None], 3, axis=1)


def _toward(end: np.ndarray, factor: float) -> _Levels:
    """Levels blended with `end` (3,): a factor of 1 changes nothing, of 0 leaves the end alone."""
    return end + factor * (_ALL[:, None] - end)


def _stretched(channel: np.ndarray) -> np.ndarray:
    low, high = int(channel.min()), int(channel.max())
    return _ALL if high <= low else (_ALL - low) * (255 / (high - low))


def _equalized(channel: np.ndarray) -> np.ndarray:
    counts = np.bincount(channel.ravel(), minlength=256)
    below = np.cumsum(counts) - counts
    rest = channel.size - counts[counts.nonzero()[0][-1]]
    return _ALL if not rest else below * (255 / rest)
