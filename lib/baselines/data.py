"""Thumbnails of each size from the pixel cache, with their labels and the split."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas

from lib.data import pixel_cache, splits
from lib.data.dataset import Dataset
from lib.data.splits import Split
from lib.errors import DarkroomError

Size = tuple[int, int]
"""Height and width of a thumbnail in pixels."""
MAX_SIDE = 256


def parse_size(text: str) -> Size:
    """Returns (height, width) of a size such as "15x10"."""
    match = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text.strip())
    if not match:
        raise DarkroomError(
            f"A size is height x width in pixels, such as '15x10'. Received: {text!r}."
        )
    return int(match[1]), int(match[2])


def format_size(size: Size) -> str:
    """Returns a size as it is written in tables: "15x10"."""
    return f"{size[0]}x{size[1]}"


def parse_sizes(texts: list[str]) -> list[Size]:
    """Returns the sizes as numbers.

    Raises DarkroomError for an empty list, a repeated size, or sides outside 1 to 256.
    """
    sizes = [parse_size(text) for text in texts]
    if not sizes or len(set(sizes)) != len(sizes):
        raise DarkroomError(
            f"`sizes` needs at least one size, each once, such as ['15x10']. Received: {texts!r}."
        )
    for size in sizes:
        if not 1 <= min(size) <= max(size) <= MAX_SIDE:
            raise DarkroomError(
                f"A thumbnail is 1 to {MAX_SIDE} pixels high and wide. Received: "
                f"{format_size(size)!r}. Use 3_train for larger images."
            )
    return sizes


@dataclass(frozen=True)
class Part:
    """Images of one split as X (images, features), with labels as `ThumbnailData.labels`."""

    X: np.ndarray
    y: np.ndarray

    def sample(self, share: float, *, seed: int) -> Part:
        """Returns that share of the images, at least two of each class, drawn by the seed."""
        order = np.random.default_rng(seed).permutation(len(self.y))
        if self.y.ndim == 2:
            rows = order[: max(2, round(share * len(order)))]
        else:
            members = [order[self.y[order] == label] for label in np.unique(self.y)]
            rows = np.concatenate([own[: max(2, round(share * len(own)))] for own in members])
        return Part(self.X[np.sort(rows)], self.y[np.sort(rows)])


@dataclass(frozen=True)
class ThumbnailData:
    """A data set's split with its labels, by path: class names, or lists of them if multilabel."""

    dataset: Dataset
    split: Split
    target: str
    class_names: list[str]
    labels_by_path: pandas.Series
    resize: str = "stretch"
    multilabel: bool = False
    _features: dict = field(default_factory=dict, repr=False, compare=False)

    def data_hash(self) -> str:
        """Returns a digest of the split's images and labels."""
        return self.split.data_hash()

    @property
    def measure(self) -> str:
        """The name of the share of correct images; if multilabel, all their labels are correct."""
        return "exact match" if self.multilabel else "accuracy"

    def counts(self) -> pandas.DataFrame:
        """Returns the number of images, one row a class and one column a split.

        A multilabel image counts for each of its classes.
        """
        return self.split.counts()

    def paths(self, name: str) -> pandas.Series:
        """Returns the sorted paths of one split."""
        return self.split.of(name)["path"]

    def labels(self, name: str) -> np.ndarray:
        """Returns class indices int64 (images,), or bool (images, classes) if multilabel."""
        index = {label: number for number, label in enumerate(self.class_names)}
        labels = self.labels_by_path.loc[self.paths(name)]
        if not self.multilabel:
            return labels.map(index).to_numpy(np.int64)
        matrix = np.zeros((len(labels), len(index)), bool)
        for row, names in enumerate(labels):
            matrix[row, [index[label] for label in names]] = True
        return matrix

    def images(self, name: str, size: Size) -> np.ndarray:
        """Returns the thumbnails of one split, uint8 (images, height, width, 3)."""
        pixels = pixel_cache.cache(self.dataset, side=size, fit=self.resize)
        return np.asarray(pixels.array[pixels.rows_of(self.paths(name))])

    def features(self, name: str, size: Size) -> np.ndarray:
        """Returns `flatten` of the thumbnails of one split, cached."""
        key = (name, size)
        if key not in self._features:
            self._features[key] = flatten(self.images(name, size))
        return self._features[key]

    def part(self, name: str, size: Size) -> Part:
        """Returns features and labels of one split."""
        return Part(self.features(name, size), self.labels(name))


def flatten(images: np.ndarray) -> np.ndarray:
    """Returns uint8 (images, height, width, 3) as float32 (images, features) in 0 to 1."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def load(
    dataset: Dataset, *, target: str = "label", resize: str = "stretch", **division: object
) -> ThumbnailData:
    """Returns the thumbnails for a target; `division` goes to `splits.ensure`."""
    split = splits.ensure(dataset, target=target, **division)
    labels = split.frame.set_index("path")["label"]
    return ThumbnailData(
        dataset, split, target, split.class_names, labels, resize, multilabel=split.is_multilabel
    )
