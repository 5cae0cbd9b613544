"""One model and the score to be explained, asked in batches: a network with gradients, or a black
box without.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np

from lib.errors import DarkroomError, suggest
from lib.explain import compiled
from lib.models import heads
from lib.models import inference as engines

_engines: weakref.WeakKeyDictionary[keras.Model, tuple[bytes, engines.Engine]] = (
    weakref.WeakKeyDictionary()
)


class BlackBox(Protocol):
    """What a model without gradients must offer; `lib.baselines.model.Model` does."""

    class_names: tuple[str, ...]
    size: tuple[int, int]
    """Height and width of the images."""

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Returns (n, classes) of uint8 RGB images (n, height, width, 3)."""


@dataclass(frozen=True)
class _Asked:
    """What both kinds share: questions about parts of an image, and which class is meant."""

    model: keras.Model | BlackBox
    score: str = "logit"
    batch_size: int = 32

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        raise NotImplementedError

    def masked(
        self, images: np.ndarray, fills: np.ndarray, masks: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """Returns (n, masks): the score of every image under every mask, seen where a mask is 1,
        its fill where it is 0.

        `masks` is (masks, height, width), the same for all images, or (n, masks, height, width).
        """
        several, num_masks = masks.ndim == 4, masks.shape[-3]
        rows, places = (each.ravel() for each in np.indices((len(images), num_masks)))
        found = np.empty(len(rows), np.float32)
        length = min(self.batch_size, len(rows))
        for start in range(0, len(rows), length):
            # A last batch of another length would be compiled anew.
            row, place = (_filled(each[start : start + length], length) for each in (rows, places))
            mask = (masks[row, place] if several else masks[place])[..., None].astype(np.float32)
            seen = fills[row] + mask * (images[row] - fills[row])  # (length, height, width, 3)
            found[start : start + length] = self.scores(seen, targets[row])[: len(rows) - start]
        return found.reshape(len(images), num_masks)

    def targets(self, images: np.ndarray, target: int | str | Sequence | None) -> np.ndarray:
        """Returns int32 (n,): the class to be explained for each image; None takes the one that the
        model predicts.

        Raises DarkroomError for a class that the model does not have, and for another number of
        targets than images.
        """
        if target is None:
            return self.predicted(images)
        several = isinstance(target, Sequence | np.ndarray) and not isinstance(target, str)
        wanted = list(target) if several else [target] * len(images)
        if len(wanted) != len(images):
            raise DarkroomError(
                f"`target` must be one class, or one for each of {len(images)} images. Received "
                f"{len(wanted)}."
            )
        return np.array([self._class(each) for each in wanted], np.int32)

    def _class(self, target: int | str) -> int:
        names = self.class_names
        if isinstance(target, str) and target in names:
            return names.index(target)
        if (
            isinstance(target, int | np.integer)
            and not isinstance(target, bool)
            and 0 <= target < len(names)
        ):
            return int(target)
        known = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        hint = suggest(target, list(names)) if isinstance(target, str) else ""
        raise DarkroomError(
            f"`target` must be a class name or its number: {known}. Received: {target!r}.{hint}"
        )


@dataclass(frozen=True)
class Scored(_Asked):
    """A Keras model whose `score` (one of `compiled.SCORES`) is explained; `batch_size` images are
    computed at once.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return tuple(self.model.input_shape[1:3])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; numbers as text where the model does not know them."""
        last = compiled.last_layer(self.model)
        if isinstance(last, heads.Head):
            return last.class_names
        kind, _ = compiled.kind_of(self.model)
        return tuple(map(str, range(2 if kind == "sigmoid" else self.model.output_shape[-1])))

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        return self._run("scores", images, targets)[0]

    def predicted(self, images: np.ndarray) -> np.ndarray:
        """Returns int32 (n,): the class that the model names."""
        logits = self._run("logits", images, np.zeros(len(images), np.int32))[0]
        kind, positive = compiled.kind_of(self.model)
        if kind == "sigmoid":
            return np.where(logits[:, 0] >= 0, positive, 1 - positive).astype(np.int32)
        return logits.argmax(axis=1).astype(np.int32)

    def input_gradients(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the gradients of the target's score in the pixels, float32 of the images' shape."""
        return self._run("input", images, targets)[1]

    def layer_gradients(
        self, layer: keras.layers.Layer, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the layer's maps and the score's gradients in them, each float32 (n, height,
        width, channels).
        """
        return self._run("layer", images, targets, layer=layer)

    def _run(
        self,
        wanted: str,
        images: np.ndarray,
        targets: np.ndarray,
        layer: keras.layers.Layer | None = None,
    ) -> tuple[np.ndarray, ...]:
        run: Callable = compiled.function(self.model, wanted, score=self.score, layer=layer)
        # Powers of two, so that any number of images is compiled for a handful of lengths at most.
        size = min(self.batch_size, 1 << max(0, len(images) - 1).bit_length())
        parts = []
        for start in range(0, len(images), size):
            batch, classes = (
                _filled(each[start : start + size], size) for each in (images, targets)
            )
            found = run(batch.astype(np.float32), classes)
            found = found if isinstance(found, tuple | list) else (found,)
            parts.append(
                [
                    np.asarray(keras.ops.convert_to_numpy(each))[: len(images) - start]
                    for each in found
                ]
            )
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@dataclass(frozen=True)
class ScoredByEngine(Scored):
    """A network exported for inference, for methods that ask for many scores; gradients still come
    from Keras.
    """

    engine: engines.Engine | None = None

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        found = []
        for start in range(0, len(images), self.batch_size):
            logits = self.engine(images[start : start + self.batch_size])
            part = compiled.class_scores(
                self.model, logits, targets[start : start + self.batch_size], score=self.score
            )
            found.append(keras.ops.convert_to_numpy(part))
        return np.concatenate(found)


@dataclass(frozen=True)
class ScoredBlackBox(_Asked):
    """A model of which only probabilities are known: its logit is taken for the log of the odds."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return tuple(self.model.size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names."""
        return tuple(self.model.class_names)

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        shares = self._probabilities(images)[np.arange(len(images)), targets]
        if self.score == "probability":
            return shares
        shares = np.clip(shares.astype(np.float64), 1e-6, 1 - 1e-6)
        return np.log(shares / (1 - shares)).astype(np.float32)

    def predicted(self, images: np.ndarray) -> np.ndarray:
        """Returns int32 (n,): the class of the highest probability."""
        return self._probabilities(images).argmax(axis=1).astype(np.int32)

    def input_gradients(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Raises DarkroomError: there are none."""
        raise _without_gradients()

    def layer_gradients(
        self, layer: object, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raises DarkroomError: there are none."""
        raise _without_gradients()

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(np.clip(np.rint(images), 0, 255).astype(np.uint8))


def by_engine(scored: Scored, images: np.ndarray, engine: str) -> Scored:
    """Returns the same model asked through `engine` ("keras", "auto", "openvino"), exported once
    for the weights it has.

    In float32: falls of a score are small, and bfloat16 would drown them. A model without a head of
    ours stays with Keras.
    """
    if engines.resolve(engine) == "keras" or not isinstance(
        compiled.last_layer(scored.model), heads.Head
    ):
        return scored
    digest = hashlib.blake2b(digest_size=16)
    for weight in scored.model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    kept = _engines.get(scored.model)
    if kept is None or kept[0] != digest.digest():
        made = engines.prepare(
            scored.model, images, engine=engine, scores=True, precisions=("f32",)
        )
        if made.name == "keras":
            return scored
        kept = _engines[scored.model] = (digest.digest(), made)
    return ScoredByEngine(scored.model, scored.score, scored.batch_size, kept[1])


def of(
    model: keras.Model | BlackBox, score: str = "logit", batch_size: int = 32
) -> Scored | ScoredBlackBox:
    """Returns the model ready to be asked. Raises DarkroomError for an unknown score."""
    if score not in compiled.SCORES:
        raise DarkroomError(
            f"`score` must be one of {', '.join(compiled.SCORES)}. Received: {score!r}."
        )
    return (Scored if isinstance(model, keras.Model) else ScoredBlackBox)(model, score, batch_size)


def _without_gradients() -> DarkroomError:
    return DarkroomError(
        "This model is no network and has no gradients. Use a method that only hides parts of the "
        "image: occlusion, rise, lime "
        "or kernel_shap."
    )


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
