"""Scaling of heat-maps, baselines for hidden pixels, and maps that ignore the model."""

from __future__ import annotations

import cv2
import numpy as np

from lib.errors import check_choice


def enlarge(maps: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Returns maps (n, …, …) enlarged to (n, height, width), float32, bilinear."""
    large = [
        cv2.resize(heat.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        for heat in maps
    ]
    return np.stack(large) if large else np.zeros((0, *size), np.float32)


def scaled(heat: np.ndarray) -> np.ndarray:
    """Returns the positive part of a map (height, width), divided by its 99.5th percentile."""
    positive = np.maximum(heat, 0)
    most = np.percentile(positive, 99.5)
    most = most if most > 0 else positive.max()
    return np.clip(positive / most, 0, 1) if most > 0 else positive


def mean_map(heats: np.ndarray) -> np.ndarray:
    """Returns the mean of the scaled maps, divided by its maximum."""
    mean = np.mean([scaled(heat) for heat in heats], axis=0)
    return mean / mean.max() if mean.max() > 0 else mean


FILLS = ("mean", "blur", "grey", "black")
"""The mean colour of the image, the image blurred, middle grey, black."""


def fill(images: np.ndarray, kind: str = "mean") -> np.ndarray:
    """Returns float32 images of the same shape that replace hidden pixels."""
    images = images.astype(np.float32)
    check_choice("baseline", kind, FILLS)
    if kind == "blur":
        sigma = max(images.shape[1:3]) / 10
        return np.stack(
            [
                cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
                for image in images
            ]
        )
    if kind == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    return np.full_like(images, 127.5 if kind == "grey" else 0)


def random_maps(images: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns float32 (n, height, width): random fields as smooth as a heat-map."""
    rng = np.random.default_rng(seed)
    return enlarge(rng.random((len(images), 7, 7), np.float32), size=images.shape[1:3])


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Returns float32 (n, height, width): the strength of edges by Sobel filters."""
    grey = [
        cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float32)
        for image in images
    ]
    edges = [
        np.hypot(cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1))
        for image in grey
    ]
    return np.stack(edges)
