"""MixUp and CutMix: joins each train image and its label with another of the batch.

Sources: Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix". The share is drawn for each image,
    from (seed, epoch).
"""

from __future__ import annotations

import cv2
import numpy as np

from lib.errors import check_choice

METHODS = ("none", "mixup", "cutmix")


def check(method: str) -> None:
    """Raises DarkroomError for an unknown method."""
    check_choice("mix", method, METHODS)


def draws(num_images: int, *, alpha: float, seed: int, epoch: int) -> np.ndarray:
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
            joined[index], shares[index] = (
                cv2.addWeighted(image, row[0], other, 1 - row[0], 0),
                row[0],
            )
        else:
            joined[index], shares[index] = _cut(image, other, row)
    own = shares[:, None]
    return joined, own * truth + (1 - own) * np.roll(truth, 1, axis=0), shares


def _cut(image: np.ndarray, other: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, float]:
    height, width = image.shape[:2]
    half = (
        np.sqrt(1 - row[0]) / 2
    )  # of the side, so that the rectangle has the share 1 - row[0] of the area
    left, right = np.clip(
        [round((row[1] - half) * width), round((row[1] + half) * width)], 0, width
    )
    top, bottom = np.clip(
        [round((row[2] - half) * height), round((row[2] + half) * height)], 0, height
    )
    joined = image.copy()
    joined[top:bottom, left:right] = other[top:bottom, left:right]
    return joined, 1 - (bottom - top) * (right - left) / (
        height * width
    )  # at the border less is cut than was drawn
