"""Tests of heat-maps: deletion, insertion, µ-fidelity, randomised weights, and stability.

A map that does no better than a random one, or than the edges of the picture, explains nothing,
however good it looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import cv2
import keras
import numpy as np
import pandas as pd
from scipy import stats

from lib.errors import DarkroomError
from lib.explain import heatmap
from lib.explain.explanation import METHODS, explain
from lib.explain.heatmap import scaled
from lib.explain.model_wrapper import Batch

MEASURES = {"deletion": -1, "insertion": 1, "mu_fidelity": 1}
"""Each measure and its good direction: 1 where more is better."""

RANDOM, EDGES = "random", "edges"
"""The two rows of the table that ignore the model."""


def deletion(
    batch: Batch,
    maps: np.ndarray,
    *,
    steps: int = 14,
    cell: int | None = None,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns (n,): the mean score while cells are hidden, highest attribution first; low is good.

    0, 1/steps, … and all pixels are hidden; the mean is the area under that curve. `cell` is a side
    in pixels, by default a 14th of the image's: scattered single pixels would form a texture that
    a network may take for the hidden object.

    Source: Petsiuk et al. 2018, section 4.3; cells as in Samek et al. 2017.
    """
    cell = cell or max(2, round(max(batch.size) / 14))
    return _area(batch.masked(~_first(_by_cells(maps, cell=cell), steps=steps), baseline))


def insertion(
    batch: Batch,
    maps: np.ndarray,
    *,
    steps: int = 14,
    baseline: str = "blur",
) -> np.ndarray:
    """Returns (n,): the mean score while pixels appear in the blurred image; high is good."""
    return _area(batch.masked(_first(maps, steps=steps), baseline))


def mu_fidelity(
    batch: Batch,
    maps: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 64,
    grid: int = 9,
    share: float = 0.2,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns (n,): the correlation of attribution and score loss over random sets of cells.

    Each set hides `share` of grid x grid cells. 0 if the map or the score is constant.

    Source: Bhatt et al. 2020.
    """
    rng, size = np.random.default_rng(seed), max(1, round(share * grid**2))
    cells = rng.random((samples, grid**2)).argsort(axis=1) < size  # (samples, cells)
    down, across = (np.arange(side) * grid // side for side in batch.size)
    hidden = cells.reshape(samples, grid, grid)[:, down][:, :, across]  # (samples, height, width)
    falls = batch.scores()[:, None] - batch.masked(~hidden, baseline)  # (n, samples)
    sums = np.tensordot(
        maps.astype(np.float64), hidden.astype(np.float64), axes=((1, 2), (1, 2))
    )  # (n, samples)
    return np.array([_correlation(one, other) for one, other in zip(sums, falls, strict=True)])


def evaluate(
    batch: Batch,
    maps: np.ndarray,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Returns one row an image with the columns of `MEASURES`."""
    return pd.DataFrame(
        {
            "deletion": deletion(batch, maps),
            "insertion": insertion(batch, maps),
            "mu_fidelity": mu_fidelity(batch, maps, seed=seed),
        }
    )


def evaluate_all(
    batch: Batch,
    maps: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Returns `evaluate` for every method, and for random maps and edges."""
    images = batch.images
    if not maps or any(own.shape != images.shape[:3] for own in maps.values()):
        raise DarkroomError(
            f"`maps` must hold maps of the shape {images.shape[:3]}. Received: {list(maps)}."
        )
    known = {RANDOM: heatmap.random_maps(images, seed=seed), EDGES: heatmap.edge_maps(images)}
    return {name: evaluate(batch, own, seed=seed) for name, own in {**maps, **known}.items()}


def table(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns one row a method: mean measures, and their gain over random maps.

    For a measure m, `m_gain` is the mean difference to random maps on the same images, positive if
    the method is better, `m_low` and `m_high` its 95 % interval (Student's t over images), and
    `m_share` the share of images that gain. `results` is from `evaluate_all`.
    """
    rows = {}
    for name, own in results.items():
        row = {"num_images": len(own)}
        for measure, direction in MEASURES.items():
            gains = direction * (own[measure] - results[RANDOM][measure]).to_numpy()
            row[measure] = own[measure].mean()
            if name != RANDOM:
                low, high = _interval(gains)
                row |= {
                    f"{measure}_gain": gains.mean(),
                    f"{measure}_low": low,
                    f"{measure}_high": high,
                }
                row[f"{measure}_share"] = float((gains > 0).mean())
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _by_cells(maps: np.ndarray, *, cell: int) -> np.ndarray:
    """Maps in which every pixel has the mean of its cell."""
    down, across = (np.arange(side) // cell for side in maps.shape[1:])
    cells = (down[:, None] * (across[-1] + 1) + across).ravel()
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    means = np.stack([np.bincount(cells, weights=own) for own in flat]) / np.bincount(
        cells
    )  # (n, cells)
    return means[:, cells].reshape(maps.shape)


def _first(maps: np.ndarray, *, steps: int) -> np.ndarray:
    """bool (n, steps + 1, height, width): the pixels of highest attribution, from none to all."""
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    limits = np.round(np.linspace(0, order.shape[1], steps + 1))
    return (ranks[:, None] < limits[None, :, None]).reshape(len(maps), steps + 1, *maps.shape[1:])


def _area(scores: np.ndarray) -> np.ndarray:
    return np.trapezoid(scores.astype(np.float64), dx=1 / (scores.shape[1] - 1), axis=1)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def _interval(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - reach), float(values.mean() + reach)


def shuffled(model: keras.Model, *, seed: int = 0) -> keras.Model:
    """Returns a copy of the model in which the values of every weight array are permuted."""
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
    """Returns (n,): the similarity (SSIM) to the maps of the same network with shuffled weights.

    Low is good: a method whose maps stay the same shows the image, not the model.

    Source: Adebayo et al. 2018.
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
    """Returns (n,): the mean rank correlation of maps over pairs of seeds.

    1 for methods without randomness.
    """
    if not METHODS[method].seeded:
        return np.ones(len(images))
    maps = [
        explain(model, images, method=method, target=target, seed=seed, **options) for seed in seeds
    ]
    ranks = [
        own.reshape(len(images), -1).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        for own in maps
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
    """Returns (n,): the structural similarity of scaled maps; 1 for equal, about 0 for unrelated.

    Source: Wang et al. 2004, equation 13, Gaussian window of 1.5 pixels.
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
