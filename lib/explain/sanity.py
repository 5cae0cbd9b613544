"""Tests of a method: do its maps depend on what the model has learnt, and do they stay when only
luck changes?
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import keras
import numpy as np

from lib.explain.explanation import METHODS, explain
from lib.explain.heat import scaled


def shuffled(model: keras.Model, *, seed: int = 0) -> keras.Model:
    """Returns a copy whose every weight array is shuffled: the same numbers, nothing learnt."""
    rng = np.random.default_rng(seed)
    copy = keras.models.clone_model(model)
    copy.set_weights(
        [rng.permutation(weight.ravel()).reshape(weight.shape) for weight in model.get_weights()]
    )
    return copy


def randomisation(
    model: keras.Model,
    images: np.ndarray,
    *,
    method: str,
    target: Sequence[int],
    seed: int = 0,
    **options: object,
) -> np.ndarray:
    """Returns (n,): how alike (SSIM) the maps are to those of the same network with shuffled
    weights; low is good.

    A method whose maps stay shows the picture, not the model; guided backpropagation does. Source:
    Adebayo et al. 2018.
    """
    wanted = {"method": method, "target": target, "seed": seed, **options}
    return similarity(
        explain(model, images, **wanted), explain(shuffled(model, seed=seed), images, **wanted)
    )


def stability(
    model: keras.Model,
    images: np.ndarray,
    *,
    method: str,
    target: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
    **options: object,
) -> np.ndarray:
    """Returns (n,): the mean rank correlation of an image's maps over pairs of seeds; 1 for methods
    that draw nothing.
    """
    if not METHODS[method].seeded:
        return np.ones(len(images))
    maps = [
        explain(model, images, method=method, target=target, seed=seed, **options) for seed in seeds
    ]
    ranks = [
        each.reshape(len(images), -1).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        for each in maps
    ]
    pairs = list(itertools.combinations(ranks, 2))
    return np.mean(
        [
            [np.corrcoef(one, other)[0, 1] for one, other in zip(*pair, strict=True)]
            for pair in pairs
        ],
        axis=0,
    )


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns (n,): the structural similarity of maps (n, side, side) as they are shown, evidence
    for the class from 0 to 1.

    1 for equal maps, about 0 for unrelated ones. Source: Wang et al. 2004, equation 13, Gaussian
    window of 1.5 pixels.
    """
    return np.array(
        [_ssim(scaled(one), scaled(other)) for one, other in zip(first, second, strict=True)]
    )


def _ssim(
    one: np.ndarray, other: np.ndarray, *, first: float = 0.01**2, second: float = 0.03**2
) -> float:
    mean_one, mean_other = _smooth(one), _smooth(other)
    var_one, var_other = _smooth(one**2) - mean_one**2, _smooth(other**2) - mean_other**2
    both = _smooth(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + first) * (2 * both + second)
    return float(
        (above / ((mean_one**2 + mean_other**2 + first) * (var_one + var_other + second))).mean()
    )


def _smooth(heat: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(heat, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)
