"""Augmentation of train images: all geometric changes of an image in one warp.

Measured on two cores, the same changes as Keras layers cost twelve times as much, and several warps
in a row blur several times. Parameters are drawn for a whole epoch at once from (seed, epoch), so
an image's change depends on neither batch size, nor threads, nor where a training was interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from lib.errors import check_choice

NUM_DRAWS = 7
"""Random numbers an image: which pair of operations, and for each whether, which and to which side.
"""
_MOST = 10.0


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Two operations of `OPERATIONS`, drawn for each image, each at `strength` of 10."""

    strength: float = 9.0


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """One of the 25 pairs of operations found on ImageNet, drawn for each image."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """How far an image may be changed; every range is symmetric and uniform.

    `rotation` in degrees; `zoom`, `shift`, `brightness` and `contrast` as fractions (0.1 is ±10 %),
    shift of the image's side; `quarter_turns` turns by 0, 90, 180 or 270 degrees; `crop` is the
    largest share of the side that a cut takes off.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    crop: float = 0.0


POLICIES: dict[str, Policy | RandAugment | AutoAugment | None] = {
    "none": None,
    "flip": Policy(flip_horizontal=True),
    "flip_vertical": Policy(flip_vertical=True),
    "flip_both": Policy(flip_horizontal=True, flip_vertical=True),
    # The cars source: RandomRotation(15), and the same mirrored.
    "rotate": Policy(rotation=15),
    "flip_rotate": Policy(flip_horizontal=True, rotation=15),
    "square": Policy(flip_horizontal=True, flip_vertical=True, quarter_turns=True),
    "light": Policy(brightness=0.2, contrast=0.2),
    "crop": Policy(flip_horizontal=True, crop=0.3),
    # Mirror images; `fine_tune` and `full` go on with cuts where the head fits the train images.
    "flip_or_crop": Policy(flip_horizontal=True),
    "gentle": Policy(
        flip_horizontal=True, rotation=10, zoom=0.1, shift=0.05, brightness=0.1, contrast=0.1
    ),
    # The triage source: RandomFlip both ways, RandomRotation(0.1), which is 36 degrees,
    # RandomZoom(0.1).
    "documents": Policy(flip_horizontal=True, flip_vertical=True, rotation=36, zoom=0.1),
    # The Simpsons source's own network: RandomRotation(0.1) is 36 degrees.
    "flip_rotate_36": Policy(flip_horizontal=True, rotation=36, zoom=0.1),
    # The same source's ResNet101V2: mirror, 45 degrees, zoom 0.2, shifts of half the image.
    "strong_shift": Policy(flip_horizontal=True, rotation=45, zoom=0.2, shift=0.5),
    # Turned and mirrored exactly, then moved a little: for pictures without an up, such as solar
    # cells.
    "square_gentle": Policy(
        flip_horizontal=True,
        flip_vertical=True,
        quarter_turns=True,
        rotation=3,
        zoom=0.05,
        shift=0.03,
        brightness=0.1,
        contrast=0.1,
    ),
    "rand_augment": RandAugment(),
    "auto_augment": AutoAugment(),
}
# Random numbers an image: two flips, quarter, rotation, zoom, shift x and y, brightness, contrast,
# cut and its place.
_DRAWS = 12
_LEAST = 16  # images a thread, so that handing over does not cost more than it brings


def policy(name: str) -> Policy | RandAugment | AutoAugment | None:
    """Returns the policy of that name, None for `none`. Raises DarkroomError for an unknown one."""
    check_choice("augmentation", name, POLICIES)
    return POLICIES[name]


def draws(num_images: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns an epoch's random numbers, float64 in [0, 1) of shape (num_images, 12), the same for
    the same seed and epoch.
    """
    return np.random.default_rng([seed, epoch]).random((num_images, _DRAWS))


def augment(
    images: np.ndarray,
    chosen: Policy | RandAugment | AutoAugment,
    drawn: np.ndarray,
) -> np.ndarray:
    """Returns changed copies of uint8 images of shape (n, height, width, 3), one row of `draws` an
    image.

    What a warp uncovers is filled by mirroring the image at its border.
    """
    changed = np.empty_like(images)
    act = _warp if isinstance(chosen, Policy) else _operate
    _in_threads(lambda part: act(images[part], chosen, drawn[part], out=changed[part]), len(images))
    return changed


def _in_threads(act: Callable[[slice], None], num_images: int) -> None:
    """Divides a batch among all cores but one, which the model's own thread needs; OpenCV computes
    without Python's lock.
    """
    num = min((os.cpu_count() or 1) - 1, num_images // _LEAST)
    if num < 2:
        act(slice(0, num_images))
        return
    bounds = np.linspace(0, num_images, num + 1).astype(int)
    list(_pool(num).map(act, [slice(start, end) for start, end in itertools.pairwise(bounds)]))


@functools.cache
def _pool(num: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num)


def _warp(images: np.ndarray, chosen: Policy, drawn: np.ndarray, *, out: np.ndarray) -> None:
    height, width = images.shape[1:3]
    matrices = _matrices(chosen, drawn, height=height, width=width)
    tables = _tables(chosen, drawn)
    for index, (image, matrix) in enumerate(zip(images, matrices, strict=True)):
        warped = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        out[index] = warped if tables is None else cv2.LUT(warped, tables[index])


def _operate(
    images: np.ndarray,
    chosen: RandAugment | AutoAugment,
    drawn: np.ndarray,
    *,
    out: np.ndarray,
) -> None:
    for index, (image, row) in enumerate(zip(images, drawn, strict=True)):
        out[index] = apply(image, operations(chosen, row[:NUM_DRAWS]))


def _matrices(chosen: Policy, drawn: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """One affine matrix an image, (n, 2, 3): flip, turn, zoom around the centre, shift,
    then a cut.
    """
    sign = 2 * drawn - 1  # in [-1, 1)
    size, centre = np.array([width, height]), np.array([(width - 1) / 2, (height - 1) / 2])
    flip_x = np.where(chosen.flip_horizontal & (drawn[:, 0] < 0.5), -1.0, 1.0)
    flip_y = np.where(chosen.flip_vertical & (drawn[:, 1] < 0.5), -1.0, 1.0)
    quarter = 90 * np.floor(4 * drawn[:, 2]) if chosen.quarter_turns else 0
    angle = np.deg2rad(quarter + chosen.rotation * sign[:, 3])
    scale = 1 + chosen.zoom * sign[:, 4]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([cos * flip_x, -sin * flip_y, sin * flip_x, cos * flip_y], axis=1).reshape(
        -1, 2, 2
    )
    move = centre - linear @ centre + chosen.shift * sign[:, 5:7] * size  # (n, 2)
    # The cut keeps `kept` of the side, somewhere inside the image, and is stretched to all of it.
    kept = 1 - chosen.crop * drawn[:, 9:10]
    corner = (1 - kept) * drawn[:, 10:12] * size
    return np.concatenate([linear / kept[:, :, None], ((move - corner) / kept)[:, :, None]], axis=2)


def _tables(chosen: Policy, drawn: np.ndarray) -> np.ndarray | None:
    """Lookup tables of the levels of each image, uint8 (n, 256); None if light does not change."""
    if not chosen.brightness and not chosen.contrast:
        return None
    gain = 1 + chosen.contrast * (2 * drawn[:, 8:9] - 1)
    offset = 255 * chosen.brightness * (2 * drawn[:, 7:8] - 1)
    levels = np.arange(256)
    return np.clip((levels - 127.5) * gain + 127.5 + offset, 0, 255).astype(np.uint8)


# -- MixUp and CutMix. Sources: Zhang et al. 2018, mixup; Yun et al. 2019, CutMix


MIX_METHODS = ("none", "mixup", "cutmix")


def check_mix(method: str) -> None:
    """Raises DarkroomError for an unknown method."""
    check_choice("mix", method, MIX_METHODS)


def mix_draws(num_images: int, *, alpha: float, seed: int, epoch: int) -> np.ndarray:
    """Returns an epoch's random numbers, float64 (num_images, 3): an image's own share, and the
    middle of a cut (x, y).
    """
    rng = np.random.default_rng([seed, epoch, 3])
    return np.column_stack([rng.beta(alpha, alpha, num_images), rng.random((num_images, 2))])


def mix(
    images: np.ndarray, truth: np.ndarray, method: str, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joins each uint8 image (n, height, width, 3) with the one before it in the batch, whose order
    is random.

    Args:
        images: the batch.
        truth: one share a class, float32 (n, classes).
        method: `mixup` (all pixels blended) or `cutmix` (a rectangle of the other image).
        drawn: rows of `draws`.

    Returns:
        Images, truth, and the share of each image that is its own (n,).
    """
    others = np.roll(images, 1, axis=0)
    joined = np.empty_like(images)
    shares = np.empty(len(images), np.float32)
    for index, (image, other, row) in enumerate(zip(images, others, drawn, strict=True)):
        if method == "mixup":
            joined[index] = cv2.addWeighted(image, row[0], other, 1 - row[0], 0)
            shares[index] = row[0]
        else:
            joined[index], shares[index] = _cut(image, other, row)
    own = shares[:, None]
    return joined, own * truth + (1 - own) * np.roll(truth, 1, axis=0), shares


def _cut(image: np.ndarray, other: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, float]:
    height, width = image.shape[:2]
    half = np.sqrt(1 - row[0]) / 2  # of the side: the rectangle has the share 1 - row[0]
    ends = np.array([-half, half])
    left, right = np.clip(np.rint((row[1] + ends) * width).astype(int), 0, width)
    top, bottom = np.clip(np.rint((row[2] + ends) * height).astype(int), 0, height)
    joined = image.copy()
    joined[top:bottom, left:right] = other[top:bottom, left:right]
    share = (bottom - top) * (right - left) / (height * width)  # less is cut at the border
    return joined, 1 - share


# -- AutoAugment and RandAugment, with their geometric operations in one warp. Sources: Cubuk et al.
# 2019, "AutoAugment", table 9 (the policy found on ImageNet); Cubuk et al. 2020, "RandAugment".
# Strengths are on their scale of 0 to 10.


_Levels = np.ndarray  # (256, 3), what each level of each channel becomes


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


def operations(policy: RandAugment | AutoAugment, row: np.ndarray) -> list[tuple[str, float]]:
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


def apply(image: np.ndarray, named: list[tuple[str, float]]) -> np.ndarray:
    """Returns a changed copy of one uint8 RGB image: first all warps, as one, then the others in
    their order.
    """
    height, width = image.shape[:2]
    matrices = [_WARPS[name](signed) for name, signed in named if name in _WARPS]
    if matrices:
        matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
        for single in matrices:
            matrix = single @ np.vstack([matrix, [0, 0, 1]])
        matrix = _about_centre(matrix, height, width)
        mirrored = cv2.BORDER_REFLECT_101
        image = cv2.warpAffine(image, matrix, (width, height), borderMode=mirrored)
    for name, signed in named:
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
