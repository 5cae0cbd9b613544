"""One model and the score to be explained, asked in batches of few different lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from lib.errors import DarkroomError, suggest
from lib.explain import compiled
from lib.models import heads


@dataclass(frozen=True)
class Scored:
    """A model whose `score` (one of `compiled.SCORES`) is explained; `batch_size` images are computed at once."""

    model: keras.Model
    score: str = "logit"
    batch_size: int = 32

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.model.input_shape[1]

    @property
    def num_classes(self) -> int:
        """The number of classes that can be a target."""
        return max(2, self.model.output_shape[-1]) if self._kind == "sigmoid" else self.model.output_shape[-1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; numbers as text where the model does not know them."""
        last = compiled.last_layer(self.model)
        return last.class_names if isinstance(last, heads.Head) else tuple(map(str, range(self.num_classes)))

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        return self._run("scores", images, targets)[0]

    def masked(self, images: np.ndarray, fills: np.ndarray, masks: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of every image under every mask, (n, masks): where a mask is 1 the image is seen, where 0 its fill.

        `masks` is (masks, side, side), the same for all images, or (n, masks, side, side).
        """
        num, several = len(images), masks.ndim == 4
        pairs = [(row, each) for row in range(num) for each in range(masks.shape[-3])]
        found = np.empty(len(pairs), np.float32)
        run, size = self._function("scores"), self._length(len(pairs))
        for start in range(0, len(pairs), size):
            part = np.array(pairs[start : start + size] + [pairs[-1]] * max(0, start + size - len(pairs)))
            rows = part[:, 0]
            mask = (masks[rows, part[:, 1]] if several else masks[part[:, 1]])[..., None].astype(np.float32)
            seen = fills[rows] + mask * (images[rows] - fills[rows])  # (size, side, side, 3)
            found[start : start + size] = _numpy(run(seen, targets[rows]))[: len(pairs) - start]
        return found.reshape(num, -1)

    def input_gradients(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the gradients of the target's score in the pixels, float32 of the images' shape."""
        return self._run("input", images, targets)[1]

    def layer_gradients(
        self, layer: keras.layers.Layer, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the layer's maps and the score's gradients in them, each float32 (n, height, width, channels)."""
        return self._run("layer", images, targets, layer=layer)

    def targets(self, images: np.ndarray, target: int | str | Sequence | None) -> np.ndarray:
        """Returns int32 (n,): the class to be explained for each image; None takes the one that the model predicts.

        Raises DarkroomError for a class that the model does not have, and for another number of targets than images.
        """
        if target is None:
            logits = self._run("logits", images, np.zeros(len(images), np.int32))[0]
            kind, positive = compiled.kind_of(self.model)
            if kind == "sigmoid":
                return np.where(logits[:, 0] >= 0, positive, 1 - positive).astype(np.int32)
            return logits.argmax(axis=1).astype(np.int32)
        several = isinstance(target, Sequence | np.ndarray) and not isinstance(target, str)
        wanted = list(target) if several else [target] * len(images)
        if len(wanted) != len(images):
            raise DarkroomError(f"`target` must be one class, or one for each of {len(images)} images. Received {len(wanted)}.")
        return np.array([self._class(each) for each in wanted], np.int32)

    def _class(self, target: int | str) -> int:
        names = self.class_names
        if isinstance(target, str) and target in names:
            return names.index(target)
        if isinstance(target, int | np.integer) and not isinstance(target, bool) and 0 <= target < len(names):
            return int(target)
        known = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        hint = suggest(target, list(names)) if isinstance(target, str) else ""
        raise DarkroomError(f"`target` must be a class name or its number: {known}. Received: {target!r}.{hint}")

    @property
    def _kind(self) -> str:
        return compiled.kind_of(self.model)[0]

    def _function(self, wanted: str, layer: keras.layers.Layer | None = None) -> Callable:
        return compiled.function(self.model, wanted, score=self.score, layer=layer)

    def _length(self, num: int) -> int:
        # Powers of two, so that any number of images is compiled for a handful of lengths at most.
        return min(self.batch_size, 1 << max(0, num - 1).bit_length())

    def _run(self, wanted: str, images: np.ndarray, targets: np.ndarray, **options: object) -> tuple[np.ndarray, ...]:
        run, size = self._function(wanted, **options), self._length(len(images))
        parts = []
        for start in range(0, len(images), size):
            batch, classes = (_filled(each[start : start + size], size) for each in (images, targets))
            found = run(batch.astype(np.float32), classes)
            found = found if isinstance(found, tuple | list) else (found,)
            parts.append([_numpy(each)[: len(images) - start] for each in found])
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def _numpy(tensor: object) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))
