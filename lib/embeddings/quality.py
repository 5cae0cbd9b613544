"""How faithful a map is: trustworthiness, continuity and preserved neighbours, for each image, so
that maps can be compared.

Source: Venna and Kaski, Neighborhood Preservation in Nonlinear Projection Methods, ICANN 2001,
    equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.embeddings import probes
from lib.errors import DarkroomError

NEIGHBOURS = 10
MEASURES = ("trustworthiness", "continuity", "preservation")
_MOST = 1_000  # images that are judged, each against all others
_ROWS = 128  # of them at once, so that a hundred thousand images need 200 MB


@dataclass(frozen=True)
class Quality:
    """Per judged image (rows `judged`): `trustworthiness`, `continuity` and `preservation`, each 1
    for a perfect map.

    Their means are the published numbers: trustworthiness falls with strangers among the neighbours
    on the map, continuity with neighbours that the map has torn away; preservation is the share of
    the nearest neighbours that it kept.
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
    """Judges a map of n images: `features` (n, d) against `places` (n, 2), at most 1,000 images
    each against all others.

    Raises DarkroomError where n does not exceed 3/2 of the neighbours, for which the measures are
    not defined.
    """
    num = len(features)
    if num != len(places) or not 0 < neighbours < (num - 1) * 2 / 3:
        raise DarkroomError(
            f"A map of {num} images ({len(places)} places) cannot be judged by {neighbours} "
            "neighbours; it takes more than "
            f"{neighbours * 3 // 2 + 1} images."
        )
    judged = (
        np.arange(num)
        if num <= _MOST
        else np.sort(np.random.default_rng(seed).choice(num, _MOST, replace=False))
    )
    high, low = np.asarray(features, np.float32), np.asarray(places, np.float32)
    norm = 2 / (neighbours * (2 * num - 3 * neighbours - 1))
    found: list[list[np.ndarray]] = [[], [], []]
    for start in range(0, len(judged), _ROWS):
        rows = judged[start : start + _ROWS]
        before, after = _ranks(high, rows), _ranks(low, rows)  # (rows, n), the image itself 0
        near, drawn = before <= neighbours, after <= neighbours
        others = before > 0
        found[0].append(1 - norm * np.where(drawn & ~near, before - neighbours, 0).sum(axis=1))
        found[1].append(1 - norm * np.where(near & ~drawn, after - neighbours, 0).sum(axis=1))
        found[2].append((near & drawn & others).sum(axis=1) / neighbours)
    return Quality(*(np.concatenate(each) for each in found), judged)


@dataclass(frozen=True)
class Difference:
    """One map against another on the same images, `better` minus `worse`, with its 95 % interval."""

    measure: str
    first: str
    second: str
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Which of the two is better, or that none is shown to be."""
        if self.low > 0:
            return f"{self.first} is better"
        return f"{self.second} is better" if self.high < 0 else "no difference shown"


def compare(qualities: dict[str, Quality], *, first: str, second: str) -> list[Difference]:
    """Returns the difference between two maps of the same images in each measure, by pairs of
    images.

    The level is corrected for the three measures (Bonferroni), so all three verdicts hold together.
    """
    found = []
    for name in MEASURES:
        apart = getattr(qualities[first], name) - getattr(qualities[second], name)
        draws = np.random.default_rng(0).integers(len(apart), size=(2_000, len(apart)))
        means = apart[draws].mean(axis=1)
        level = probes.ALPHA / len(MEASURES)
        low, high = np.quantile(means, [level / 2, 1 - level / 2])
        found.append(Difference(name, first, second, float(apart.mean()), float(low), float(high)))
    return found


def _ranks(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rank of every image as seen from each of `rows`, 0 for itself, int32 (rows, n)."""
    distance = (values**2).sum(axis=1) - 2 * values[rows] @ values.T
    distance[np.arange(len(rows)), rows] = -np.inf
    order = distance.argsort(axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(values.shape[0], dtype=np.int32)[None], axis=1)
    return ranks
