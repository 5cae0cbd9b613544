"""What a search works on: thumbnails of each size from the pixel cache, their truth, and the split."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas

from lib import hashing
from lib.data import pixel_cache, splits, targets
from lib.data.dataset import Dataset
from lib.data.splits import Split
from lib.errors import DarkroomError

Size = tuple[int, int]
"""Height and width of a thumbnail in pixels."""


def size(text: str) -> Size:
    """Returns (height, width) of a size such as "15x10". Raises DarkroomError for another form."""
    match = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text.strip())
    if not match:
        raise DarkroomError(
            f"A size is height x width in pixels, such as '15x10'. Received: {text!r}."
        )
    return int(match[1]), int(match[2])


def told(size: Size) -> str:
    """Returns a size as it is written in tables: "15x10"."""
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class Part:
    """Images of one split as numbers (images, features), with their truth as `Material.truth` gives
    it.
    """

    X: np.ndarray
    y: np.ndarray

    def some(self, share: float, *, seed: int) -> Part:
        """Returns that share of the images, at least two of each class, chosen by the seed."""
        order = np.random.default_rng(seed).permutation(len(self.y))
        if self.y.ndim == 2:
            rows = order[: max(2, round(share * len(order)))]
        else:
            each = [order[self.y[order] == code] for code in np.unique(self.y)]
            rows = np.concatenate(
                [members[: max(2, round(share * len(members)))] for members in each]
            )
        return Part(self.X[np.sort(rows)], self.y[np.sort(rows)])


@dataclass(frozen=True)
class Material:
    """A data set's split with its truth: class numbers, or for `several` classes an image a bool
    matrix.

    `labels` (by path) are class names, or lists of them.
    """

    dataset: Dataset
    split: Split
    target: str
    class_names: list[str]
    labels: pandas.Series
    resize: str = "stretch"
    several: bool = False
    _arrays: dict = field(default_factory=dict, repr=False, compare=False)

    def data_hash(self) -> str:
        """Digest of the split's images and labels; of the lists of labels, where an image has
        several.
        """
        if not self.several:
            return self.split.data_hash()
        lists = [
            f"{path}\0{names}" for path, names in zip(self.labels.index, self.labels, strict=True)
        ]
        return hashing.digest(self.split.data_hash(), *lists)

    @property
    def measure(self) -> str:
        """What the share of right answers is called: for several classes an image every one of them
        has to be right.
        """
        return "all classes right" if self.several else "accuracy"

    def counts(self) -> pandas.DataFrame:
        """Returns the number of images, one row a class and one column a split; an image counts for
        each of its classes.
        """
        if not self.several:
            return self.split.counts()
        found = {name: self.truth(name).sum(axis=0) for name in splits.NAMES}
        return pandas.DataFrame(found, index=pandas.Index(self.class_names, name="label"))

    def paths(self, name: str) -> pandas.Series:
        """Returns the paths of one split, sorted."""
        return self.split.of(name)["path"]

    def truth(self, name: str) -> np.ndarray:
        """Returns class numbers int64 (images,), or bool (images, classes) for several."""
        place = {label: number for number, label in enumerate(self.class_names)}
        labels = self.labels.loc[self.paths(name)]
        if not self.several:
            return labels.map(place).to_numpy(np.int64)
        found = np.zeros((len(labels), len(place)), bool)
        for row, names in enumerate(labels):
            found[row, [place[each] for each in names]] = True
        return found

    def images(self, name: str, size: Size) -> np.ndarray:
        """Returns the thumbnails of one split, uint8 (images, height, width, 3)."""
        cached = pixel_cache.cache(self.dataset, side=size, fit=self.resize)
        return np.asarray(cached.array[cached.rows_of(self.paths(name))])

    def numbers(self, name: str, size: Size) -> np.ndarray:
        """Returns the thumbnails as the models see them, float32 (images, height · width · 3) of 0
        to 1; kept for the next.
        """
        key = (name, size)
        if key not in self._arrays:
            self._arrays[key] = flat(self.images(name, size))
        return self._arrays[key]

    def part(self, name: str, size: Size) -> Part:
        """Returns one split's thumbnails with their truth."""
        return Part(self.numbers(name, size), self.truth(name))


def flat(images: np.ndarray) -> np.ndarray:
    """Returns uint8 (images, height, width, 3) as float32 (images, height · width · 3) of 0 to 1."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def gather(
    dataset: Dataset, *, target: str = "label", resize: str = "stretch", **division: object
) -> Material:
    """Returns the material for a target; `division` goes to `splits.ensure`.

    For `column/all` an image has several classes; it is divided by its rarest one.
    """
    wanted = targets.parse(target)
    split = splits.ensure(dataset, target=targets.for_split(target), **division)
    if wanted.rule != "all":
        labels = split.frame.set_index("path")["label"]
        return Material(dataset, split, target, split.class_names, labels, resize)
    rows = dataset.accepted().set_index("path")
    lists = targets.several(rows, target).loc[split.frame["path"]]
    names = sorted({name for each in lists for name in each})
    return Material(dataset, split, target, names, lists, resize, several=True)


def limit(sizes: list[str], *, most: int = 256) -> list[Size]:
    """Returns the sizes as numbers. Raises DarkroomError for none, one twice, or one that no
    thumbnail has.
    """
    found = [size(text) for text in sizes]
    if not found or len(set(found)) != len(found):
        raise DarkroomError(
            f"`sizes` needs one size or more, each once, such as ['15x10']. Received: {sizes!r}."
        )
    if large := [told(each) for each in found if not 1 <= min(each) <= max(each) <= most]:
        raise DarkroomError(
            f"A thumbnail is 1 to {most} pixels high and wide. Received: {large[0]!r}. Use 3_train "
            "for larger ones."
        )
    return found
