"""Scores and gradients of a model in batches: a network on any backend, or a black box.

A layer is observed by a hook: while the model is traced, the layer's output passes through a
function of ours. So it does not matter whether the layer is in the model itself or in a nested one.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np
from keras import ops

from lib.errors import DarkroomError, check_choice, suggest
from lib.explain import heatmap
from lib.models import heads
from lib.models import inference as engines

SCORES = ("logit", "log_odds", "probability")
"""The explained score: the class's logit, its log odds against all other classes, its probability.
"""

_compiled: weakref.WeakKeyDictionary[keras.Model, dict[tuple, Callable]] = (
    weakref.WeakKeyDictionary()
)
_tracing = threading.RLock()  # no other thread may see a hooked layer


def compile_function(
    model: keras.Model,
    output: str,
    *,
    score: str = "logit",
    layer: keras.layers.Layer | None = None,
) -> Callable:
    """Returns a compiled function of images (n, side, side, 3) and targets (n,), cached.

    `output` is "logits" (n, units); "scores" (n,); "input", the scores and their gradients in the
    images; or "layer", the maps of `layer` (n, height, width, channels) and the scores' gradients
    in them.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise DarkroomError(
            f"Explanations run on the backends {', '.join(_BACKENDS)}. Received: "
            f"KERAS_BACKEND={backend}."
        )
    check_choice("score", score, SCORES)
    cache = _compiled.setdefault(model, {})
    key = (output, score, id(layer))
    if key not in cache:
        cache[key] = _BACKENDS[backend](
            weakref.ref(model), output, score, layer and weakref.ref(layer)
        )
    return cache[key]


def class_scores(model: keras.Model, logits, targets, *, score: str):
    """Returns (n,): the score of each row's target class, from logits (n, units)."""
    logits = ops.cast(logits, "float32")
    kind, positive = kind_of(model)
    if kind == "sigmoid":
        sign = ops.where(ops.equal(targets, positive), 1.0, -1.0)
        chosen = sign * logits[:, 0]
        return ops.sigmoid(chosen) if score == "probability" else chosen
    hot = ops.one_hot(targets, logits.shape[-1], dtype="float32")
    chosen = ops.sum(logits * hot, axis=-1)
    if score == "logit" or (kind == "multilabel" and score == "log_odds"):
        return chosen
    odds = (
        chosen
        if kind == "multilabel"
        else chosen - ops.logsumexp(ops.where(hot > 0, -1e30, logits), axis=-1)
    )
    return ops.sigmoid(odds) if score == "probability" else odds


def kind_of(model: keras.Model) -> tuple[str, int]:
    """Returns the kind of head, and the index of the positive class of a single sigmoid unit.

    The kind of a model without a `heads.Head` follows from its last activation.
    """
    last = last_layer(model)
    if isinstance(last, heads.Head):
        return last.kind, last.positive_index if last.kind == "sigmoid" else 1
    units = model.output_shape[-1]
    if units == 1:
        return "sigmoid", 1
    return (
        "multilabel"
        if getattr(last, "activation", None) is keras.activations.sigmoid
        else "softmax"
    ), 1


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


def _layer_hook(layer: keras.layers.Layer | None, receive: Callable):
    """A context in which `receive` replaces the layer's output for the next layer."""
    if layer is None:
        return nullcontext()
    call = layer.call
    return _replaced(layer, "call", lambda *inputs, **options: receive(call(*inputs, **options)))


def _tensorflow(model_ref, output: str, score: str, layer_ref) -> Callable:
    import tensorflow

    def run(images, targets):
        model, layer = model_ref(), layer_ref and layer_ref()
        observed = []
        with _tracing, tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            if output == "input":
                tape.watch(images)

            def receive(maps):
                tape.watch(maps)
                observed.append(maps)
                return maps

            with _linear(model), _layer_hook(layer, receive):
                logits = model(images, training=False)
            if output == "logits":
                return logits
            scores = class_scores(model, logits, targets, score=score)
        if output == "scores":
            return scores
        if output == "input":
            return scores, tape.gradient(scores, images, unconnected_gradients="zero")
        gradients = tape.gradient(scores, observed[-1], unconnected_gradients="zero")
        return ops.cast(observed[-1], "float32"), ops.cast(gradients, "float32")

    # Any number of images, so that the function is traced once.
    shapes = [
        tensorflow.TensorSpec((None, *model_ref().input_shape[1:]), "float32"),
        tensorflow.TensorSpec((None,), "int32"),
    ]
    return tensorflow.function(run, autograph=False, input_signature=shapes)


def _jax(model_ref, output: str, score: str, layer_ref) -> Callable:
    import jax

    def wrapper(weights, images, targets, nudge):
        model, layer = model_ref(), layer_ref and layer_ref()
        observed = []

        def receive(maps):
            observed.append(maps)
            return maps if nudge is None else maps + nudge

        with _tracing, _linear(model), _layer_hook(layer, receive):
            logits, _ = model.stateless_call(*weights, images, training=False)
        scores = class_scores(model, logits, targets, score=score)
        return scores.sum(), (logits, scores, observed[-1] if observed else None)

    def run(weights, images, targets):
        if output in ("logits", "scores"):
            _, (logits, scores, _) = wrapper(weights, images, targets, None)
            return logits if output == "logits" else scores
        if output == "input":
            gradients, (_, scores, _) = jax.grad(wrapper, argnums=1, has_aux=True)(
                weights, images, targets, None
            )
            return scores, gradients
        maps = jax.eval_shape(wrapper, weights, images, targets, None)[1][2]
        nudge = jax.numpy.zeros(
            maps.shape, maps.dtype
        )  # the maps' gradient is that of something added to them
        gradients, (_, _, maps) = jax.grad(wrapper, argnums=3, has_aux=True)(
            weights, images, targets, nudge
        )
        return maps.astype("float32"), gradients.astype("float32")

    compiled = jax.jit(run)

    def call(images, targets):
        model = model_ref()
        weights = [
            [variable.value for variable in group]
            for group in (model.trainable_variables, model.non_trainable_variables)
        ]
        return compiled(weights, images, targets)

    return call


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax}


_engines: weakref.WeakKeyDictionary[keras.Model, tuple[bytes, engines.Engine]] = (
    weakref.WeakKeyDictionary()
)


class BlackBox(Protocol):
    """A model without gradients, such as `lib.baselines.model.Model`."""

    class_names: tuple[str, ...]
    size: tuple[int, int]
    """Height and width of the images."""

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Returns (n, classes) of uint8 RGB images (n, height, width, 3)."""


@dataclass(frozen=True)
class _Wrapper:
    """Scores of partly hidden images, and the choice of the explained class."""

    model: keras.Model | BlackBox
    score: str = "logit"
    batch_size: int = 32

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        raise NotImplementedError

    def masked(
        self, images: np.ndarray, fills: np.ndarray, masks: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """Returns (n, masks): the score of every image under every mask.

        Where a mask is 1 the image is visible, where it is 0 its fill. `masks` is (masks, height,
        width) for all images, or (n, masks, height, width).
        """
        per_image, num_masks = masks.ndim == 4, masks.shape[-3]
        rows, columns = (indices.ravel() for indices in np.indices((len(images), num_masks)))
        scores = np.empty(len(rows), np.float32)
        length = min(self.batch_size, len(rows))
        for start in range(0, len(rows), length):
            # A last batch of another length would be compiled again.
            row, place = (
                _padded(indices[start : start + length], length) for indices in (rows, columns)
            )
            mask = (masks[row, place] if per_image else masks[place])[..., None].astype(np.float32)
            visible = fills[row] + mask * (images[row] - fills[row])  # (length, height, width, 3)
            scores[start : start + length] = self.scores(visible, targets[row])[: len(rows) - start]
        return scores.reshape(len(images), num_masks)

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
class NetworkWrapper(_Wrapper):
    """A Keras model whose `score`, one of `SCORES`, is explained, `batch_size` images at once."""

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
        return self._run("scores", images, targets)[0]

    def predicted(self, images: np.ndarray) -> np.ndarray:
        """Returns int32 (n,): the predicted class."""
        logits = self._run("logits", images, np.zeros(len(images), np.int32))[0]
        kind, positive = kind_of(self.model)
        if kind == "sigmoid":
            return np.where(logits[:, 0] >= 0, positive, 1 - positive).astype(np.int32)
        return logits.argmax(axis=1).astype(np.int32)

    def input_gradients(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the gradients of the target's score in the pixels, float32 of the
        images' shape.
        """
        return self._run("input", images, targets)[1]

    def layer_gradients(
        self, layer: keras.layers.Layer, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns feature maps and the score's gradients, float32 (n, height, width, channels)."""
        return self._run("layer", images, targets, layer=layer)

    def _run(
        self,
        output: str,
        images: np.ndarray,
        targets: np.ndarray,
        layer: keras.layers.Layer | None = None,
    ) -> tuple[np.ndarray, ...]:
        run: Callable = compile_function(self.model, output, score=self.score, layer=layer)
        # Powers of two, so that any number of images compiles a few batch lengths at most.
        size = min(self.batch_size, 1 << max(0, len(images) - 1).bit_length())
        parts = []
        for start in range(0, len(images), size):
            batch, classes = (
                _padded(array[start : start + size], size) for array in (images, targets)
            )
            results = run(batch.astype(np.float32), classes)
            results = results if isinstance(results, tuple | list) else (results,)
            parts.append(
                [
                    np.asarray(keras.ops.convert_to_numpy(array))[: len(images) - start]
                    for array in results
                ]
            )
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@dataclass(frozen=True)
class ExportedWrapper(NetworkWrapper):
    """A network exported for faster scores; gradients still come from Keras."""

    engine: engines.Engine | None = None

    def scores(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the score of each image's target class, (n,)."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            logits = self.engine(images[start : start + self.batch_size])
            part = class_scores(
                self.model, logits, targets[start : start + self.batch_size], score=self.score
            )
            parts.append(keras.ops.convert_to_numpy(part))
        return np.concatenate(parts)


@dataclass(frozen=True)
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

    def input_gradients(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Raises DarkroomError: there are none."""
        raise _no_gradients()

    def layer_gradients(
        self, layer: object, images: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raises DarkroomError: there are none."""
        raise _no_gradients()

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(np.clip(np.rint(images), 0, 255).astype(np.uint8))


def with_engine(wrapper: NetworkWrapper, images: np.ndarray, engine: str) -> NetworkWrapper:
    """Returns the model with scores computed by `engine` ("keras", "auto" or "openvino").

    The export is cached until the weights change. It is in float32, because small differences of
    scores would be lost in bfloat16. A model without a `heads.Head` stays with Keras.
    """
    if engines.resolve(engine) == "keras" or not isinstance(last_layer(wrapper.model), heads.Head):
        return wrapper
    digest = hashlib.blake2b(digest_size=16)
    for weight in wrapper.model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    cache = _engines.get(wrapper.model)
    if cache is None or cache[0] != digest.digest():
        made = engines.prepare(
            wrapper.model, images, engine=engine, scores=True, precisions=("f32",)
        )
        if made.name == "keras":
            return wrapper
        cache = _engines[wrapper.model] = (digest.digest(), made)
    return ExportedWrapper(wrapper.model, wrapper.score, wrapper.batch_size, cache[1])


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
        """Returns (n, masks): the scores where what a mask hides is replaced by the baseline."""
        fills = heatmap.fill(self.images, baseline)
        return self.wrapper.masked(self.images, fills, masks, self.targets)

    def input_gradients(self, images: np.ndarray) -> np.ndarray:
        """Returns the gradients of the targets' scores in changed images."""
        return self.wrapper.input_gradients(images, self.targets)

    def layer_gradients(self, layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
        """Returns the maps of a layer and the gradients of the targets' scores in them."""
        return self.wrapper.layer_gradients(layer, self.images, self.targets)


def wrap(
    model: keras.Model | BlackBox, score: str = "logit", batch_size: int = 32
) -> NetworkWrapper | BlackBoxWrapper:
    """Returns the model with its score. Raises DarkroomError for an unknown score."""
    check_choice("score", score, SCORES)
    kind = NetworkWrapper if isinstance(model, keras.Model) else BlackBoxWrapper
    return kind(model, score, batch_size)


def _no_gradients() -> DarkroomError:
    return DarkroomError(
        "This model is not a network and has no gradients. Use occlusion, rise, lime or "
        "kernel_shap, which only hide parts of the image."
    )


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
