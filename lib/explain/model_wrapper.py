"""Scores and gradients of a model in batches: a network on any backend, or a black box.

A layer is observed by a hook: while the model is traced, the layer's output passes through a
function of ours. So it does not matter whether the layer is in the model itself or in a nested one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np
from keras import ops

from lib.errors import DarkroomError, check_choice, suggest
from lib.explain import heat_maps
from lib.models import heads

SCORES = ("logit", "log_odds", "probability")
"""The explained score: the class's logit, its log odds against all other classes, its probability.
"""

_tracing = threading.RLock()  # no other thread may see a hooked layer


@functools.lru_cache(maxsize=8)
def compile_function(
    model: keras.Model, score: str = "", layer: keras.layers.Layer | None = None
) -> Callable:
    """Returns a compiled function of images (n, side, side, 3) and targets (n,), cached.

    Without a score it returns logits (n, units). With one, it returns the maps of `layer` (n,
    height, width, channels), or the images, and the gradients of the scores in them.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise DarkroomError(
            f"Explanations run on the backends {', '.join(_BACKENDS)}. Received: "
            f"KERAS_BACKEND={backend}."
        )
    return _BACKENDS[backend](model, score, layer)


def class_scores(model: keras.Model, logits, targets, *, score: str):
    """Returns (n,): the score of each row's target class, from logits (n, units)."""
    logits = ops.cast(logits, "float32")
    kind, positive = kind_of(model)
    if kind == "sigmoid":
        odds = ops.where(ops.equal(targets, positive), 1.0, -1.0) * logits[:, 0]
    else:
        hot = ops.one_hot(targets, logits.shape[-1], dtype="float32")
        odds = ops.sum(logits * hot, axis=-1)
        if kind == "softmax" and score != "logit":
            odds = odds - ops.logsumexp(ops.where(hot > 0, -1e30, logits), axis=-1)
    return ops.sigmoid(odds) if score == "probability" else odds


def kind_of(model: keras.Model) -> tuple[str, int]:
    """Returns the kind of head, and the index of the positive class of a single sigmoid unit.

    The kind of a model without a `heads.Head` follows from its last activation.
    """
    last = last_layer(model)
    if isinstance(last, heads.Head):
        return last.kind, last.positive_index if last.kind == "sigmoid" else 1
    if model.output_shape[-1] == 1:
        return "sigmoid", 1
    is_sigmoid = getattr(last, "activation", None) is keras.activations.sigmoid
    return "multilabel" if is_sigmoid else "softmax", 1


def last_layer(model: keras.Model) -> keras.layers.Layer:
    """Returns the layer that gives the output, also inside nested models."""
    layer = model.layers[-1]
    while isinstance(layer, keras.Model):
        layer = layer.layers[-1]
    return layer


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    # Past Keras' own __setattr__, which would count what it is given among the layer's parts.
    own = name in vars(owner)
    before = getattr(owner, name)
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        if own:
            object.__setattr__(owner, name, before)
        else:
            object.__delattr__(owner, name)


def _linear(model: keras.Model):
    """A context in which the model gives logits, whatever activation it ends in."""
    squashing = (keras.activations.softmax, keras.activations.sigmoid)
    last = last_layer(model)
    if isinstance(last, keras.layers.Softmax):
        return _replaced(last, "call", lambda values, **_: values)
    if getattr(last, "activation", None) in squashing:
        return _replaced(last, "activation", keras.activations.linear)
    return nullcontext()


def _logits(
    call: Callable, model: keras.Model, images, layer: keras.layers.Layer | None, observe: Callable
):
    """The model's logits, where `observe` replaces the output of the layer, or the images."""
    with _tracing, _linear(model):
        if layer is None:
            return call(observe(images))
        before = layer.call
        with _replaced(layer, "call", lambda *args, **kwargs: observe(before(*args, **kwargs))):
            return call(images)


def _tensorflow(model: keras.Model, score: str, layer: keras.layers.Layer | None) -> Callable:
    import tensorflow

    def run(images, targets):
        observed = []

        def observe(values):
            tape.watch(values)
            observed.append(values)
            return values

        with tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            logits = _logits(
                functools.partial(model, training=False), model, images, layer, observe
            )
            if not score:
                return logits
            scores = class_scores(model, logits, targets, score=score)
        return observed[-1], tape.gradient(scores, observed[-1], unconnected_gradients="zero")

    # Any number of images, so that the function is traced once.
    shapes = [
        tensorflow.TensorSpec((None, *model.input_shape[1:]), "float32"),
        tensorflow.TensorSpec((None,), "int32"),
    ]
    return tensorflow.function(run, autograph=False, input_signature=shapes)


def _jax(model: keras.Model, score: str, layer: keras.layers.Layer | None) -> Callable:
    import jax

    def forward(nudge, weights, images, targets):
        observed = []

        def observe(values):
            observed.append(values)
            return values + nudge

        def call(images):
            return model.stateless_call(*weights, images, training=False)[0]

        logits = _logits(call, model, images, layer, observe)
        if not score:
            return logits
        return class_scores(model, logits, targets, score=score).sum(), observed[-1]

    @jax.jit
    def run(weights, images, targets):
        if not score:
            return forward(0.0, weights, images, targets)
        _, maps = jax.eval_shape(forward, 0.0, weights, images, targets)
        # The gradient in the maps is that in something added to them.
        nudge = jax.numpy.zeros(maps.shape, maps.dtype)
        gradients, maps = jax.grad(forward, has_aux=True)(nudge, weights, images, targets)
        return maps, gradients

    def run_with_weights(images, targets):
        groups = (model.trainable_variables, model.non_trainable_variables)
        return run([[variable.value for variable in group] for group in groups], images, targets)

    return run_with_weights


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax}


class BlackBox(Protocol):
    """A model without gradients, such as `lib.baselines.model.Model`."""

    class_names: tuple[str, ...]
    size: tuple[int, int]
    """Height and width of the images."""

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Returns (n, classes) of uint8 RGB images (n, height, width, 3)."""


@dataclass(frozen=True)
class _Wrapper:
    """A model whose `score`, one of `SCORES`, is explained, `batch_size` images at once."""

    model: keras.Model | BlackBox
    score: str = "logit"
    batch_size: int = 32

    def targets(self, images: np.ndarray, target: int | str | Sequence | None) -> np.ndarray:
        """Returns int32 (n,): the class to explain for each image; the predicted one if None.

        Raises DarkroomError for an unknown class, or another number of targets than images.
        """
        if target is None:
            return self.predicted(images)
        is_list = isinstance(target, Sequence | np.ndarray) and not isinstance(target, str)
        output = list(target) if is_list else [target] * len(images)
        if len(output) != len(images):
            raise DarkroomError(
                f"`target` must be one class, or one for each of {len(images)} images. Received "
                f"{len(output)}."
            )
        return np.array([self._class(value) for value in output], np.int32)

    def _class(self, target: int | str) -> int:
        names = self.class_names
        if isinstance(target, str) and target in names:
            return names.index(target)
        is_number = isinstance(target, int | np.integer) and not isinstance(target, bool)
        if is_number and 0 <= target < len(names):
            return int(target)
        known = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        hint = suggest(target, list(names)) if isinstance(target, str) else ""
        raise DarkroomError(
            f"`target` must be a class name or its number: {known}. Received: {target!r}.{hint}"
        )


class NetworkWrapper(_Wrapper):
    """A Keras model."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return tuple(self.model.input_shape[1:3])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; numbers as text if the model has none."""
        last = last_layer(self.model)
        if isinstance(last, heads.Head):
            return last.class_names
        kind, _ = kind_of(self.model)
        return tuple(map(str, range(2 if kind == "sigmoid" else self.model.output_shape[-1])))

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        (logits,) = self._run(compile_function(self.model), images, targets)
        return ops.convert_to_numpy(class_scores(self.model, logits, targets, score=self.score))

    def predicted(self, images: np.ndarray) -> np.ndarray:
        """Returns int32 (n,): the predicted class."""
        no_targets = np.zeros(len(images), np.int32)
        (logits,) = self._run(compile_function(self.model), images, no_targets)
        kind, positive = kind_of(self.model)
        if kind == "sigmoid":
            return np.where(logits[:, 0] >= 0, positive, 1 - positive).astype(np.int32)
        return logits.argmax(axis=1).astype(np.int32)

    def gradients(
        self, images: np.ndarray, targets: np.ndarray, layer: keras.layers.Layer | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns a layer's maps, or the images, and the gradients of the scores in them."""
        return self._run(compile_function(self.model, self.score, layer), images, targets)

    def _run(
        self, run: Callable, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        # Powers of two, so that any number of images compiles a few batch lengths at most.
        size = min(self.batch_size, 1 << max(0, len(images) - 1).bit_length())
        parts = []
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            results = run(
                _padded(images[rows], size).astype(np.float32), _padded(targets[rows], size)
            )
            results = results if isinstance(results, tuple | list) else (results,)
            # Mixed precision has maps in half precision.
            parts.append([ops.convert_to_numpy(ops.cast(array, "float32")) for array in results])
        return tuple(np.concatenate(column)[: len(images)] for column in zip(*parts, strict=True))


class BlackBoxWrapper(_Wrapper):
    """A model with probabilities only; its logit is the log of the odds."""

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

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(np.clip(np.rint(images), 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Batch:
    """Images, float32 (n, height, width, 3), with the class to explain for each of them, (n,)."""

    wrapper: NetworkWrapper | BlackBoxWrapper
    images: np.ndarray
    targets: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.wrapper.size

    def __getitem__(self, rows: slice) -> Batch:
        """Returns some of the images."""
        return Batch(self.wrapper, self.images[rows], self.targets[rows])

    def scores(self, images: np.ndarray | None = None) -> np.ndarray:
        """Returns the targets' scores of these images, or of changed ones, (n,)."""
        return self.wrapper.scores(self.images if images is None else images, self.targets)

    def masked(self, masks: np.ndarray, baseline: str) -> np.ndarray:
        """Returns (n, masks): the score of every image under every mask.

        Where a mask is 1 the image is visible, where it is 0 the baseline. `masks` is (masks,
        height, width) for all images, or (n, masks, height, width).
        """
        images, fills = self.images, heat_maps.fill(self.images, baseline)
        num_masks = masks.shape[-3]
        rows, places = (index.ravel() for index in np.indices((len(images), num_masks)))
        scores = np.empty(len(rows), np.float32)
        length = min(self.wrapper.batch_size, len(rows))
        for start in range(0, len(rows), length):
            # A last batch of another length would be compiled again.
            row, place = (
                _padded(index[start : start + length], length) for index in (rows, places)
            )
            mask = (masks[row, place] if masks.ndim == 4 else masks[place])[..., None]
            visible = fills[row] + mask.astype(np.float32) * (images[row] - fills[row])
            part = self.wrapper.scores(visible, self.targets[row])  # (length,)
            scores[start : start + length] = part[: len(rows) - start]
        return scores.reshape(len(images), num_masks)

    def gradients(
        self, images: np.ndarray | None = None, layer: keras.layers.Layer | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns a layer's maps, or the images, and the gradients of the scores in them."""
        images = self.images if images is None else images
        return self.wrapper.gradients(images, self.targets, layer)


def wrap(
    model: keras.Model | BlackBox, score: str = "logit", batch_size: int = 32
) -> NetworkWrapper | BlackBoxWrapper:
    """Returns the model with its score. Raises DarkroomError for an unknown score."""
    check_choice("score", score, SCORES)
    kind = NetworkWrapper if isinstance(model, keras.Model) else BlackBoxWrapper
    return kind(model, score, batch_size)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
