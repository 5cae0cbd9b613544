"""What stands for "nothing there": fills for hidden pixels, and maps that know nothing of the
model.
"""

from __future__ import annotations

import cv2
import numpy as np

from lib.errors import DarkroomError
from lib.explain.heat import enlarge

FILLS = ("mean", "blur", "grey", "black")
"""The image's own mean colour, the image out of focus, middle grey, black."""


def fill(images: np.ndarray, kind: str = "mean") -> np.ndarray:
    """Returns float32 images of the same shape to be seen where a mask hides. Raises DarkroomError
    for an unknown kind.
    """
    images = images.astype(np.float32)
    if kind not in FILLS:
        raise DarkroomError(f"`baseline` must be one of {', '.join(FILLS)}. Received: {kind!r}.")
    if kind == "blur":
        sigma = max(images.shape[1:3]) / 10
        return np.stack(
            [
                cv2.GaussianBlur(each, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
                for each in images
            ]
        )
    if kind == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    return np.full_like(images, 127.5 if kind == "grey" else 0)


def random_maps(images: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns float32 (n, height, width) of a smooth random field an image: as smooth as a heat-map
    and about nothing.
    """
    rng = np.random.default_rng(seed)
    return enlarge(rng.random((len(images), 7, 7), np.float32), size=images.shape[1:3])


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Returns float32 (n, height, width), the strength of edges (Sobel): looks like an explanation
    and knows no model.
    """
    grey = [
        cv2.cvtColor(each.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float32)
        for each in images
    ]
    edges = [
        np.hypot(cv2.Sobel(each, cv2.CV_32F, 1, 0), cv2.Sobel(each, cv2.CV_32F, 0, 1))
        for each in grey
    ]
    return np.stack(edges)
