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

from lib.data import auto_augment
from lib.errors import DarkroomError, check_choice, suggest


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


POLICIES: dict[str, Policy | auto_augment.RandAugment | auto_augment.AutoAugment | None] = {
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
    "rand_augment": auto_augment.RandAugment(),
    "auto_augment": auto_augment.AutoAugment(),
}
# Random numbers an image: two flips, quarter, rotation, zoom, shift x and y, brightness, contrast,
# cut and its place.
_DRAWS = 12
_LEAST = 16  # images a thread, so that handing over does not cost more than it brings


def policy(name: str) -> Policy | auto_augment.RandAugment | auto_augment.AutoAugment | None:
    """Returns the policy of that name, None for `none`. Raises DarkroomError for an unknown one."""
    if name not in POLICIES:
        raise DarkroomError(
            f"There is no augmentation policy {name!r}. There are: "
            f"{', '.join(POLICIES)}.{suggest(name, list(POLICIES))}"
        )
    return POLICIES[name]


def draws(num_images: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns an epoch's random numbers, float64 in [0, 1) of shape (num_images, 12), the same for
    the same seed and epoch.
    """
    return np.random.default_rng([seed, epoch]).random((num_images, _DRAWS))


def augment(
    images: np.ndarray,
    chosen: Policy | auto_augment.RandAugment | auto_augment.AutoAugment,
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
    chosen: auto_augment.RandAugment | auto_augment.AutoAugment,
    drawn: np.ndarray,
    *,
    out: np.ndarray,
) -> None:
    for index, (image, row) in enumerate(zip(images, drawn, strict=True)):
        operations = auto_augment.chosen(chosen, row[: auto_augment.NUM_DRAWS])
        out[index] = auto_augment.apply(image, operations)


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
