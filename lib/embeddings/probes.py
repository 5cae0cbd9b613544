"""What a feature space separates: a linear probe on held-out images, against the majority and
against shuffled labels.

The probe is ridge regression on the classes: one factorisation serves every strength and every
shuffle, so that two hundred shuffles cost little more than one fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.errors import DarkroomError

ALPHA = 0.05
SHUFFLES = 200
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean eigenvalue
_MOST_TRAIN, _MOST_DIRECTIONS = 20_000, 1_024
_DRAWS = 1_000


@dataclass(frozen=True)
class Probe:
    """How well a linear probe names held-out images.

    `majority` is the accuracy of always saying the most frequent training class, `shuffled` the
    mean accuracy of probes fitted to shuffled labels, `p` how often those do as well. `low` to
    `high` holds the accuracy with 95 %; `right` says of each test image (rows `test` of what was
    handed in) whether it was named rightly.
    """

    accuracy: float
    low: float
    high: float
    majority: float
    shuffled: float
    p: float
    num_classes: int
    right: np.ndarray
    test: np.ndarray
    groups: np.ndarray

    @property
    def is_significant(self) -> bool:
        """Whether the classes can be told apart: better than shuffled labels at 5 %, and surely
        better than the majority.
        """
        return self.p < ALPHA and self.low > self.majority


def linear(
    features: np.ndarray,
    labels: Sequence[str],
    *,
    splits: Sequence[str],
    groups: Sequence[int] | None = None,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Probe:
    """Fits the probe on `train`, chooses its strength on `val` (where there is one) and judges it
    on `test`.

    Args:
        features: (n, d).
        labels: (n,) class names.
        splits: (n,) `train`, `val` or `test` of each row.
        groups: (n,) near-duplicates; the interval counts a group as one.

    Raises:
        DarkroomError: no train or test rows, fewer than two classes in train, or features that are
            all the same.
    """
    splits, generator = np.asarray(splits), np.random.default_rng(seed)
    names, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    train, val, test = (np.flatnonzero(splits == name) for name in ("train", "val", "test"))
    if not len(test) or len(np.unique(codes[train])) < 2:
        raise DarkroomError(
            "A linear probe takes train rows of at least two classes, and test rows. Received: "
            f"{len(train)} train rows of {len(np.unique(codes[train]))} class(es), {len(test)} "
            "test rows."
        )
    if len(train) > _MOST_TRAIN:
        train = np.sort(generator.choice(train, _MOST_TRAIN, replace=False))
    known, scale, bases = _factorise(features, train, [test, val])
    strength = (
        _strength(known, scale, bases[1], codes, train, val, len(names)) if len(val) else 1e-1
    )
    weighed = bases[0] / (scale + strength * scale.mean())  # (test, directions)
    right = _named(weighed, known, codes[train], len(names)) == codes[test]
    rate = float(right.mean())
    chance = np.array(
        [
            (
                _named(weighed, known, generator.permutation(codes[train]), len(names))
                == codes[test]
            ).mean()
            for _ in range(shuffles)
        ]
    )
    majority = float((codes[test] == np.bincount(codes[train]).argmax()).mean())
    own = np.arange(len(splits)) if groups is None else np.asarray(groups)
    low, high = interval(right.astype(float), own[test])
    p = (1 + int((chance >= rate).sum())) / (1 + shuffles)
    return Probe(
        rate, low, high, majority, float(chance.mean()), p, len(names), right, test, own[test]
    )


def interval(values: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of `values` (n,) over drawn groups, at least one
    image's worth wide.
    """
    _, place = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(place, weights=values), np.bincount(place)
    drawn = np.random.default_rng(seed).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=_DRAWS
    )
    means = (drawn @ sums) / (drawn @ counts)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _factorise(
    features: np.ndarray, train: np.ndarray, others: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Train rows and other rows in the eigenvectors of train's covariance, and its eigenvalues, the
    largest first.
    """
    rows = np.asarray(features[train], np.float32)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    if not spread.any():
        raise DarkroomError(
            "The features of all images are the same, so there is nothing to tell them apart by."
        )
    spread = np.where(spread > 1e-6 * spread.max(), spread, np.inf)
    rows = (rows - mean) / spread
    if len(rows) < rows.shape[1]:
        values, inner = np.linalg.eigh(rows @ rows.T)
        values = np.clip(values[::-1], 0, None)
        kept = values > values[0] * 1e-6
        vectors = rows.T @ (inner[:, ::-1][:, kept] / np.sqrt(values[kept]))
        values = values[kept]
    else:
        values, vectors = np.linalg.eigh(rows.T @ rows)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    kept = slice(min(_MOST_DIRECTIONS, int((values > values[0] * 1e-6).sum())))
    values, vectors = values[kept], vectors[:, kept]
    bases = [
        (np.asarray(features[other], np.float32) - mean) / spread @ vectors for other in others
    ]
    return rows @ vectors, values, bases


def _strength(
    known: np.ndarray,
    scale: np.ndarray,
    val_base: np.ndarray,
    codes: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    num: int,
) -> float:
    def accuracy(strength: float) -> float:
        weighed = val_base / (scale + strength * scale.mean())
        return float((_named(weighed, known, codes[train], num) == codes[val]).mean())

    return max(reversed(_STRENGTHS), key=accuracy)  # of equals the strongest


def _named(weighed: np.ndarray, known: np.ndarray, truth: np.ndarray, num: int) -> np.ndarray:
    wanted = np.eye(num, dtype=np.float32)[truth]  # (train, classes)
    prior = wanted.mean(axis=0)
    return (weighed @ (known.T @ (wanted - prior)) + prior).argmax(axis=1)
