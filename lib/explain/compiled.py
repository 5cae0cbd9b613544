"""A model's score of a class and its gradients, compiled once for each model: the one place that
knows the backends.

A layer deep inside is reached by tapping it: while the compiler walks through the model, the
layer's output passes through our hands. So it does not matter whether the layer stands in the model
itself, in a model inside it or in a Sequential one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import keras
from keras import ops

from lib.errors import DarkroomError
from lib.models import heads

SCORES = ("logit", "log_odds", "probability")
"""What is explained: the class's own logit, its logit against all other classes together, or its
probability.
"""

_compiled: weakref.WeakKeyDictionary[keras.Model, dict[tuple, Callable]] = (
    weakref.WeakKeyDictionary()
)
_tracing = threading.RLock()  # a tapped layer must not be seen by another thread


def function(
    model: keras.Model,
    wanted: str,
    *,
    score: str = "logit",
    layer: keras.layers.Layer | None = None,
) -> Callable:
    """Returns a compiled function of images (n, side, side, 3) and target classes (n,), the same
    one at every call.

    It gives, by `wanted`: "logits" (n, units), "scores" (n,), "input" the scores and their
    gradients of the images' shape, or "layer" the maps of `layer` (n, height, width, channels) and
    the scores' gradients of the same shape.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise DarkroomError(
            f"Explanations run on the backends {', '.join(_BACKENDS)}. Received: "
            f"KERAS_BACKEND={backend}."
        )
    if score not in SCORES:
        raise DarkroomError(f"`score` must be one of {', '.join(SCORES)}. Received: {score!r}.")
    kept = _compiled.setdefault(model, {})
    key = (wanted, score, id(layer))
    if key not in kept:
        kept[key] = _BACKENDS[backend](
            weakref.ref(model), wanted, score, layer and weakref.ref(layer)
        )
    return kept[key]


def class_scores(model: keras.Model, logits, targets, *, score: str):
    """Returns (n,): the score of each row's target class, from logits (n, units); a tensor of the
    backend.
    """
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
    """Returns the head's kind, and the place of the positive class where the head is one sigmoid
    unit.

    A model that was not built here has no head with names; its last activation tells the kind.
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
    """Returns the layer that gives the output, inside the last of nested models."""
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


def _tapped(layer: keras.layers.Layer | None, receive: Callable):
    """A context in which the layer's output goes through `receive`, which returns what the next
    layer sees.
    """
    if layer is None:
        return nullcontext()
    call = layer.call
    return _replaced(layer, "call", lambda *inputs, **options: receive(call(*inputs, **options)))


def _tensorflow(model_ref, wanted: str, score: str, layer_ref) -> Callable:
    import tensorflow

    def run(images, targets):
        model, layer = model_ref(), layer_ref and layer_ref()
        seen = []
        with _tracing, tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            if wanted == "input":
                tape.watch(images)

            def receive(maps):
                tape.watch(maps)
                seen.append(maps)
                return maps

            with _linear(model), _tapped(layer, receive):
                logits = model(images, training=False)
            if wanted == "logits":
                return logits
            scores = class_scores(model, logits, targets, score=score)
        if wanted == "scores":
            return scores
        if wanted == "input":
            return scores, tape.gradient(scores, images, unconnected_gradients="zero")
        gradients = tape.gradient(scores, seen[-1], unconnected_gradients="zero")
        return ops.cast(seen[-1], "float32"), ops.cast(gradients, "float32")

    # Any number of images, so that the function is traced once.
    shapes = [
        tensorflow.TensorSpec((None, *model_ref().input_shape[1:]), "float32"),
        tensorflow.TensorSpec((None,), "int32"),
    ]
    return tensorflow.function(run, autograph=False, input_signature=shapes)


def _jax(model_ref, wanted: str, score: str, layer_ref) -> Callable:
    import jax

    def scored(weights, images, targets, nudge):
        model, layer = model_ref(), layer_ref and layer_ref()
        seen = []

        def receive(maps):
            seen.append(maps)
            return maps if nudge is None else maps + nudge

        with _tracing, _linear(model), _tapped(layer, receive):
            logits, _ = model.stateless_call(*weights, images, training=False)
        scores = class_scores(model, logits, targets, score=score)
        return scores.sum(), (logits, scores, seen[-1] if seen else None)

    def run(weights, images, targets):
        if wanted in ("logits", "scores"):
            _, (logits, scores, _) = scored(weights, images, targets, None)
            return logits if wanted == "logits" else scores
        if wanted == "input":
            gradients, (_, scores, _) = jax.grad(scored, argnums=1, has_aux=True)(
                weights, images, targets, None
            )
            return scores, gradients
        maps = jax.eval_shape(scored, weights, images, targets, None)[1][2]
        nudge = jax.numpy.zeros(
            maps.shape, maps.dtype
        )  # the maps' gradient is that of something added to them
        gradients, (_, _, maps) = jax.grad(scored, argnums=3, has_aux=True)(
            weights, images, targets, nudge
        )
        return maps.astype("float32"), gradients.astype("float32")

    compiled = jax.jit(run)

    def call(images, targets):
        model = model_ref()
        weights = [
            [each.value for each in group]
            for group in (model.trainable_variables, model.non_trainable_variables)
        ]
        return compiled(weights, images, targets)

    return call


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax}
