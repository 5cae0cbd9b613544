"""Probabilities, and features of any layer. `predict_proba` is the only public way to
probabilities.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import keras
import numpy as np

from lib.errors import DarkroomError, suggest
from lib.models import distribution, heads
from lib.models import inference as engines

_parts: weakref.WeakKeyDictionary[keras.Model, dict[str, keras.Model]] = weakref.WeakKeyDictionary()


def predict_proba(model: keras.Model, images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Returns float32 (n, num_classes), columns in the order of `heads.of(model).class_names`.

    `images` are RGB of the model's side, (n, side, side, 3), uint8 or float of 0 to 255; a
    memory-mapped array is read batch by batch. Rows sum to 1 to 1e-6, except for a multi-label
    head. Raises DarkroomError for other images.
    """
    head = heads.of(model)
    logits = _logits(model, images, batch_size)
    if head.average_mirrored and len(images):
        logits = (logits + _logits(model, images[:, :, ::-1], batch_size)) / 2
    return heads.probabilities(head, logits)


def averaged(model: keras.Model) -> keras.Model:
    """Returns the model whose logits `predict_proba` decodes, as one graph: the model itself, or
    the mean over an image and its mirror image where the head asks for it.
    """
    if not heads.of(model).average_mirrored:
        return model
    images = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype)
    both = [model(images), model(keras.ops.flip(images, axis=2))]
    return keras.Model(images, keras.layers.Average()(both), name=f"{model.name}_mirrored")


def _logits(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    logits = np.empty((len(images), heads.of(model).units), np.float32)
    for start, values in _batches(model, images, batch_size=batch_size):
        logits[start : start + len(values)] = values
    return logits


def features(
    model: keras.Model,
    images: np.ndarray,
    *,
    layer: str = "pool",
    batch_size: int = 64,
    dtype: str = "float32",
    engine: str = "keras",
) -> np.ndarray:
    """Returns what `layer` gives for each image, (n, d), as float32 or float16; maps are averaged
    over height and width.

    Images as for `predict_proba`; `engine` is one of `engine.ENGINES` (an export takes seconds, so
    few images are faster by Keras). Raises DarkroomError for an unknown layer, other images,
    another dtype and an engine that cannot be.
    """
    part = up_to(model, layer)
    output = np.empty((len(images), part.output_shape[-1]), feature_dtype(dtype))
    computing = engines.prepare(part, images, engine=engine)
    for start, values in feature_batches(
        model, images, layer=layer, batch_size=batch_size, engine=computing
    ):
        output[start : start + len(values)] = values
    return output


def feature_batches(
    model: keras.Model,
    images: np.ndarray,
    *,
    layer: str = "pool",
    batch_size: int = 64,
    engine: engines.Engine | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index of the first image, features (at most batch_size, d)), so that no more than a
    batch is in memory.

    `engine` is what `engine.prepare` made of the part up to `layer`; None for Keras.
    """
    for start, values in _batches(
        up_to(model, layer), images, batch_size=batch_size, engine=engine
    ):
        values = values.astype(np.float32)
        yield start, values.mean(axis=(1, 2)) if values.ndim == 4 else values


def up_to(model: keras.Model, layer: str) -> keras.Model:
    """Returns the part of the model that ends at `layer`; it shares the weights. Raises
    DarkroomError for an unknown layer.
    """
    names = [inner.name for inner in model.layers]
    if layer not in names:
        raise DarkroomError(
            f"`layer` must name a layer of {model.name!r}, as layer_table lists them. Received: "
            f"{layer!r}.{suggest(layer, names)}"
        )
    parts = _parts.setdefault(model, {})
    if layer not in parts:
        # A model that holds itself through its parts would never be freed; the part does not hold
        # the whole.
        parts[layer] = keras.Model(
            model.inputs, model.get_layer(layer).output, name=f"{model.name}_up_to_{layer}"
        )
    return parts[layer]


def feature_dtype(dtype: str) -> np.dtype:
    """Returns the numpy dtype. Raises DarkroomError for another than float32 and float16."""
    if dtype not in ("float32", "float16"):
        raise DarkroomError(
            f"`dtype` of features must be 'float32' or 'float16'. Received: {dtype!r}."
        )
    return np.dtype(dtype)


def _batches(
    model: keras.Model, images: np.ndarray, *, batch_size: int, engine: engines.Engine | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    if batch_size < 1:
        raise DarkroomError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    _check_images(images, side=model.input_shape[1])
    batch_size = min(batch_size, max(len(images), 1))
    batch_size += -batch_size % distribution.count()
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        _check_range(batch)
        missing = batch_size - len(batch)
        # A last batch of another length would be compiled again.
        filled = (
            np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
        )
        values = (
            engine(filled) if engine else keras.ops.convert_to_numpy(model.predict_on_batch(filled))
        )
        yield start, values[: len(batch)]


def _check_images(images: np.ndarray, *, side: int) -> None:
    if (
        not isinstance(images, np.ndarray)
        or images.ndim != 4
        or images.shape[1:] != (side, side, 3)
    ):
        received = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        raise DarkroomError(
            f"`images` must be an RGB array of the shape (n, {side}, {side}, 3). Received: "
            f"{received}."
        )
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise DarkroomError(
            f"`images` must be uint8, or float of 0 to 255. Received: {images.dtype}."
        )


def _check_range(batch: np.ndarray) -> None:
    if batch.dtype == np.uint8:
        return
    low, high = float(batch.min()), float(batch.max())
    if not (low >= 0 and high <= 255):  # NaN fails as well
        raise DarkroomError(
            f"`images` of float must lie between 0 and 255. Received: {low:g} to {high:g}."
        )
    if 0 < high <= 1 and (batch % 1).any():
        raise DarkroomError(
            "`images` must hold pixels of 0 to 255; the model scales them itself. "
            f"Received: {low:g} to {high:g}, which looks scaled to 0 to 1 already. Multiply by 255 "
            "or hand in the bytes."
        )
