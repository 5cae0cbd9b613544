"""Batches for Keras on every backend, augmented on the host while the model computes."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pandas

from lib.data import augmentation
from lib.data.pixel_cache import Pixels


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images with their truth: `images` is any array of images or features, mapped or in memory;
    `rows` picks from it.

    `labels` holds class numbers (int64) in the order of the class names, one a picked row, or
    float32 (rows, classes) of 0 and 1 for multilabel images;
    `weights` one loss weight a row; `split` names the split that the rows are of, where they are of
    one; `num_classes` is needed where images are mixed.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    split: str | None = None
    num_classes: int = 0

    def __len__(self) -> int:
        return len(self.rows)


def examples(pixels: Pixels, frame: pandas.DataFrame, class_names: list[str]) -> Examples:
    """Returns the rows of a split's frame as examples; the label comes from the row's own path."""
    index = {name: number for number, name in enumerate(class_names)}
    if len(frame) and isinstance(frame["label"].iloc[0], list):
        labels = np.zeros((len(frame), len(index)), np.float32)
        for row, names in enumerate(frame["label"]):
            labels[row, [index[name] for name in names]] = 1
    else:
        labels = frame["label"].map(index).to_numpy(np.int64)
    splits = frame["split"].unique()
    split = str(splits[0]) if len(splits) == 1 else None
    return Examples(
        pixels.array,
        pixels.rows_of(frame["path"]),
        labels,
        None,
        split,
        len(class_names),
    )


class Batches(keras.utils.PyDataset):
    """Yields (images, labels[, weights]) batches of `Examples`.

    With a seed the order and the augmentation of each epoch follow from (seed, epoch);
    without one the order is that of the rows. The last batch may be smaller. Images come as uint8;
    the model rescales them. With `mix` the labels are one share a class, float32 (batch, classes).
    `multiple_of` fills a last batch up with images of weight 0, so that several devices can share
    it; the weights of the others make its mean loss that of the real images.
    """

    def __init__(
        self,
        given: Examples,
        *,
        batch_size: int,
        seed: int | None = None,
        policy: str = "none",
        mix: str = "none",
        mix_alpha: float = 0.4,
        first_epoch: int = 0,
        multiple_of: int = 1,
    ) -> None:
        augmentation.check_mix(mix)
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self._given = given
        self._batch_size = batch_size
        self._seed = seed
        self._policy = augmentation.policy(policy)
        self._mix, self._mix_alpha = mix, mix_alpha
        self._multiple_of = multiple_of
        self._epoch = first_epoch
        self._begin()

    def __len__(self) -> int:
        return -(-len(self._given) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        rows = self._given.rows[chosen]
        # Ascending reads walk through the mapped file forwards; a random walk would fault in every
        # page twice.
        ascending = np.argsort(rows, kind="stable")
        images = np.empty((len(rows), *self._given.images.shape[1:]), self._given.images.dtype)
        images[ascending] = self._given.images[rows[ascending]]
        if self._policy is not None:
            images = augmentation.augment(images, self._policy, self._draws[chosen])
        labels = self._given.labels[chosen]
        weights = None if self._given.weights is None else self._given.weights[chosen]
        if self._mix != "none":
            truth = labels  # (batch, classes)
            if labels.ndim == 1:
                truth = np.eye(self._given.num_classes, dtype=np.float32)[labels]
            images, labels, own = augmentation.mix(images, truth, self._mix, self._mixes[chosen])
            weights = None if weights is None else own * weights + (1 - own) * np.roll(weights, 1)
        if self._multiple_of > 1:  # all batches of an epoch must be alike, so all have weights
            weights = np.ones(len(images), np.float32) if weights is None else weights
            images, labels, weights = _filled(
                images, labels, weights, multiple_of=self._multiple_of
            )
        return (images, labels) if weights is None else (images, labels, weights)

    def on_epoch_end(self) -> None:
        """Draws the next epoch's order and augmentation."""
        self._epoch += 1
        self._begin()

    def _begin(self) -> None:
        num_images = len(self._given)
        if self._seed is None:
            self._order = np.arange(num_images)
            return
        self._order = np.random.default_rng([self._seed, self._epoch, 1]).permutation(num_images)
        if self._policy is not None:
            self._draws = augmentation.draws(num_images, seed=self._seed, epoch=self._epoch)
        if self._mix != "none":
            self._mixes = augmentation.mix_draws(
                num_images, alpha=self._mix_alpha, seed=self._seed, epoch=self._epoch
            )


def _filled(
    images: np.ndarray, labels: np.ndarray, weights: np.ndarray, *, multiple_of: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    missing = -len(images) % multiple_of
    images, labels = (
        np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
        for array in (images, labels)
    )
    scaled = weights * (len(images) / len(weights))
    return images, labels, np.concatenate([scaled, np.zeros(missing)]).astype(np.float32)
