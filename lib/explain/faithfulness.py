"""Tests of a map by the model itself: hide what it points at and see whether the class goes.

A map that does no better than a random one, or than the edges of the picture, explains nothing,
however good it looks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from lib.errors import DarkroomError
from lib.explain import baselines
from lib.explain.model_wrapper import Scored

MEASURES = {"deletion": -1, "insertion": 1, "mu_fidelity": 1}
"""Each measure and its good direction: 1 where more is better."""

RANDOM, EDGES = "random", "edges"
"""The two rows of the table that know nothing of the model."""


def deletion(
    scored: Scored,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    *,
    steps: int = 14,
    cell: int | None = None,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns (n,): the mean score while the image is hidden, cells of the highest mean attribution
    first; low is good.

    Hidden are 0, 1/steps, … and all of the pixels; the mean is the area under that curve. With the
    score "probability" it lies between 0 and 1. `cell` is its side in pixels, by default a 14th of
    the image's: scattered single pixels would be a texture of their own, which a network may take
    for what was hidden. Source: Petsiuk et al. 2018, section 4.3; cells as in Samek et al. 2017.
    """
    cell = cell or max(2, round(max(images.shape[1:3]) / 14))
    seen = ~_first(_by_cells(maps, cell=cell), steps=steps)
    return _area(scored.masked(_floats(images), baselines.fill(images, baseline), seen, targets))


def insertion(
    scored: Scored,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    *,
    steps: int = 14,
    baseline: str = "blur",
) -> np.ndarray:
    """Returns (n,): the mean score while the pixels appear in the image out of focus, the highest
    first; high is good.
    """
    return _area(
        scored.masked(
            _floats(images), baselines.fill(images, baseline), _first(maps, steps=steps), targets
        )
    )


def mu_fidelity(
    scored: Scored,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 64,
    grid: int = 9,
    share: float = 0.2,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns (n,): the correlation, over random sets of cells, of a set's attribution with the
    fall of the score without it.

    Each set holds `share` of grid x grid cells. 0 where the map or the score does not vary. Source:
    Bhatt et al. 2020.
    """
    rng, size = np.random.default_rng(seed), max(1, round(share * grid**2))
    cells = rng.random((samples, grid**2)).argsort(axis=1) < size  # (samples, cells)
    down, across = (np.arange(side) * grid // side for side in images.shape[1:3])
    hidden = cells.reshape(samples, grid, grid)[:, down][:, :, across]  # (samples, height, width)
    images = _floats(images)
    scores = scored.masked(images, baselines.fill(images, baseline), ~hidden, targets)
    falls = scored.scores(images, targets)[:, None] - scores  # (n, samples)
    sums = np.tensordot(
        maps.astype(np.float64), hidden.astype(np.float64), axes=((1, 2), (1, 2))
    )  # (n, samples)
    return np.array([_correlation(one, other) for one, other in zip(sums, falls, strict=True)])


def measured(
    scored: Scored, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, *, seed: int = 0
) -> pd.DataFrame:
    """Returns one row an image with the columns of `MEASURES`."""
    return pd.DataFrame(
        {
            "deletion": deletion(scored, images, maps, targets),
            "insertion": insertion(scored, images, maps, targets),
            "mu_fidelity": mu_fidelity(scored, images, maps, targets, seed=seed),
        }
    )


def of_all(
    scored: Scored,
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    targets: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Returns `measured` for the maps of every method, and for random maps and the edges of the
    pictures.
    """
    if not maps or any(each.shape != images.shape[:3] for each in maps.values()):
        raise DarkroomError(
            f"`maps` must hold maps of the shape {images.shape[:3]}. Received: {list(maps)}."
        )
    known = {RANDOM: baselines.random_maps(images, seed=seed), EDGES: baselines.edge_maps(images)}
    return {
        name: measured(scored, images, each, targets, seed=seed)
        for name, each in {**maps, **known}.items()
    }


def table(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns one row a method: each measure's mean, and how much better it is than random maps on
    the same images.

    For a measure m: `m`, `m_gain` (mean difference to random, above 0 where the method is better),
    `m_low` and `m_high` (its 95 % interval, Student's t over images) and `m_share` (of the images,
    how many gain). `found` is from `of_all`.
    """
    rows = {}
    for name, each in found.items():
        row = {"num_images": len(each)}
        for measure, direction in MEASURES.items():
            gains = direction * (each[measure] - found[RANDOM][measure]).to_numpy()
            row[measure] = each[measure].mean()
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
    means = np.stack([np.bincount(cells, weights=each) for each in flat]) / np.bincount(
        cells
    )  # (n, cells)
    return means[:, cells].reshape(maps.shape)


def _first(maps: np.ndarray, *, steps: int) -> np.ndarray:
    """bool (n, steps + 1, height, width): the pixels of highest attribution, from none to all of
    them.
    """
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


def _floats(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)
