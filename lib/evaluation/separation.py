"""Separation of classes in a feature space: held-out neighbours against shuffled labels.

What the eye sees in a map of training features is not evidence; here every test image is judged by
training images that it shares no group with, and the same is done again with labels that mean
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.errors import DarkroomError

ALPHA = 0.05
_ROWS = 2_048  # test rows whose distances are in memory together


@dataclass(frozen=True)
class Separation:
    """`purity` is the share of a test image's nearest training images that bear its label;
    `baseline` the same for shuffled labels, whose 95th percentile is `baseline_high`; `p` how often
    shuffled labels do as well.
    """

    purity: float
    baseline: float
    baseline_high: float
    p: float
    num_test: int

    @property
    def is_significant(self) -> bool:
        """Whether the classes are shown to lie apart, at 5 %."""
        return self.p < ALPHA

    @property
    def sentence(self) -> str:
        """The result in words."""
        numbers = (
            f"purity {self.purity:.3f} on {self.num_test:,} test images, {self.baseline:.3f} for "
            "shuffled labels"
        )
        return (
            f"The classes lie apart ({numbers})."
            if self.is_significant
            else f"The classes are not shown to lie apart ({numbers})."
        )


def measure(
    features: np.ndarray,
    labels: Sequence[str],
    *,
    splits: Sequence[str],
    groups: Sequence[int] | None = None,
    neighbours: int = 10,
    shuffles: int = 200,
) -> Separation:
    """Returns the purity of the test images' neighbourhoods among the training images.

    Args:
        features: (n, d), one row an image.
        labels: (n,), any label, of the training or another one (an artist, a year).
        splits: (n,), `train` and `test` of each row; others are left out. Without both there is
            nothing held out.
        groups: (n,) groups of images; a test image's own group never counts as its neighbour, and
            labels are shuffled by group, since images of one group are not independent.
        neighbours: nearest training images that vote.
        shuffles: how often the training labels are shuffled for the baseline.

    Raises:
        DarkroomError: when train or test is missing, or the lengths differ.
    """
    labels, splits = np.asarray(labels).astype(str), np.asarray(splits)
    features = np.asarray(features, dtype=np.float32)
    if not len(features) == len(labels) == len(splits):
        raise DarkroomError(
            f"Features, labels and splits differ in length: {len(features)}, {len(labels)}, "
            f"{len(splits)}."
        )
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    if not len(test) or len(train) <= neighbours:
        raise DarkroomError(
            "Separation is judged on held-out images: it takes test rows and more than "
            f"{neighbours} train rows. Received {len(train)} train and {len(test)} test rows."
        )
    own = np.arange(len(features)) if groups is None else np.asarray(groups)
    nearest = _nearest(
        features, train, test, own, neighbours
    )  # (test, neighbours), places in train
    _, codes = np.unique(labels, return_inverse=True)
    purity = float((codes[train][nearest] == codes[test][:, None]).mean())
    generator = np.random.default_rng(0)
    shuffled = np.array(
        [
            (
                permute_by_group(codes[train], own[train], generator)[nearest]
                == codes[test][:, None]
            ).mean()
            for _ in range(shuffles)
        ]
    )
    p = (1 + int((shuffled >= purity).sum())) / (1 + shuffles)
    return Separation(
        purity, float(shuffled.mean()), float(np.quantile(shuffled, 0.95)), p, len(test)
    )


def permute_by_group(codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the labels permuted so that a group's labels stay together.

    If every group has one label, groups exchange their labels. Otherwise the groups' lists of
    labels are joined in a new order. Without groups this is a plain permutation.
    """
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    blocks = np.split(codes[order], starts[1:])
    shuffled = rng.permutation(len(blocks))
    if all((block == block[0]).all() for block in blocks):
        sizes = [len(block) for block in blocks]
        values = np.repeat([blocks[index][0] for index in shuffled], sizes)
    else:
        values = np.concatenate([blocks[index] for index in shuffled])
    permuted = np.empty_like(codes)
    permuted[order] = values
    return permuted


def _nearest(
    features: np.ndarray, train: np.ndarray, test: np.ndarray, groups: np.ndarray, num: int
) -> np.ndarray:
    known = features[train]
    squares = (known**2).sum(axis=1)  # (train,)
    neighbours = []
    for start in range(0, len(test), _ROWS):
        rows = test[start : start + _ROWS]
        distance = (
            squares - 2 * features[rows] @ known.T
        )  # (rows, train), but for a term that ranks nothing
        distance[groups[rows][:, None] == groups[train]] = np.inf
        neighbours.append(np.argpartition(distance, num, axis=1)[:, :num])
    return np.concatenate(neighbours)
