"""Faithfulness of maps: trustworthiness, continuity and preserved neighbours of each image.

Source: Venna and Kaski, Neighborhood Preservation in Nonlinear Projection Methods, ICANN 2001,
equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.errors import DarkroomError

NEIGHBOURS = 10
MEASURES = ("trustworthiness", "continuity", "preservation")
_LEVEL = 0.05
_MAX_JUDGED = 1_000  # images, each compared with all others
_ROWS = 128  # of them at once, so that a hundred thousand images need 200 MB


@dataclass(frozen=True)
class Quality:
    """The measures of each image in `judged` (rows), 1 for a perfect map.

    Trustworthiness falls if distant images become neighbours on the map, continuity if neighbours
    are separated; preservation is the share of nearest neighbours that remain neighbours.
    """

    trustworthiness: np.ndarray
    continuity: np.ndarray
    preservation: np.ndarray
    judged: np.ndarray

    def means(self) -> dict[str, float]:
        """Returns the mean of each measure, by name."""
        return {name: float(getattr(self, name).mean()) for name in MEASURES}


def measure(
    features: np.ndarray, places: np.ndarray, *, neighbours: int = NEIGHBOURS, seed: int = 0
) -> Quality:
    """Measures a map of n images, `places` (n, 2), against `features` (n, d).

    At most 1,000 images are compared with all others. Raises DarkroomError unless n exceeds 3/2 of
    the neighbours, for which the measures are defined.
    """
    num = len(features)
    if num != len(places) or not 0 < neighbours < (num - 1) * 2 / 3:
        raise DarkroomError(
            f"Measuring a map with {neighbours} neighbours needs more than "
            f"{neighbours * 3 // 2 + 1} images. Received: {num} ({len(places)} places)."
        )
    judged = (
        np.arange(num)
        if num <= _MAX_JUDGED
        else np.sort(np.random.default_rng(seed).choice(num, _MAX_JUDGED, replace=False))
    )
    high, low = np.asarray(features, np.float32), np.asarray(places, np.float32)
    norm = 2 / (neighbours * (2 * num - 3 * neighbours - 1))
    columns: list[list[np.ndarray]] = [[], [], []]
    for start in range(0, len(judged), _ROWS):
        rows = judged[start : start + _ROWS]
        before, after = _ranks(high, rows), _ranks(low, rows)  # (rows, n), the image itself 0
        near, after_near = before <= neighbours, after <= neighbours
        others = before > 0
        columns[0].append(
            1 - norm * np.where(after_near & ~near, before - neighbours, 0).sum(axis=1)
        )
        columns[1].append(
            1 - norm * np.where(near & ~after_near, after - neighbours, 0).sum(axis=1)
        )
        columns[2].append((near & after_near & others).sum(axis=1) / neighbours)
    return Quality(*(np.concatenate(column) for column in columns), judged)


@dataclass(frozen=True)
class Difference:
    """The mean difference of two maps on the same images, `first` minus `second`, with interval."""

    measure: str
    first: str
    second: str
    value: float
    low: float
    high: float


def compare(qualities: dict[str, Quality], *, first: str, second: str) -> list[Difference]:
    """Returns the difference between two maps of the same images in each measure.

    The 95 % intervals hold for the three measures together (Bonferroni).
    """
    rows = []
    for name in MEASURES:
        difference = getattr(qualities[first], name) - getattr(qualities[second], name)
        draws = np.random.default_rng(0).integers(len(difference), size=(2_000, len(difference)))
        means = difference[draws].mean(axis=1)
        level = _LEVEL / len(MEASURES)
        low, high = np.quantile(means, [level / 2, 1 - level / 2])
        rows.append(
            Difference(name, first, second, float(difference.mean()), float(low), float(high))
        )
    return rows


def _ranks(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rank of every image by distance to each of `rows`, 0 for itself, int32 (rows, n)."""
    distance = (values**2).sum(axis=1) - 2 * values[rows] @ values.T
    distance[np.arange(len(rows)), rows] = -np.inf
    order = distance.argsort(axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(values.shape[0], dtype=np.int32)[None], axis=1)
    return ranks
