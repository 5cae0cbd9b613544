"""Inference backends: Keras itself, or the same network exported to OpenVINO,
much faster on a CPU.

An exported network is held against Keras before it is believed. Predictions of a run always come
from Keras.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from lib import processes
from lib.errors import DarkroomError, check_choice, first_line
from lib.models import distribution

ENGINES = ("auto", "keras", "openvino")
PRECISIONS = ("bf16", "f32")
"""Tried in this order: bfloat16 is faster, and kept where what comes out agrees."""
NUM_COMPARED = 64
LEAST_COSINE = 0.995
_converting = threading.Lock()  # the converter is not made for two threads


@dataclass(frozen=True)
class Agreement:
    """Agreement of an exported network's outputs with Keras', over the first images.

    `cosine` is the smallest cosine between the two outputs of an image.
    """

    num_images: int
    cosine: float

    @property
    def holds(self) -> bool:
        """Whether the export may be used."""
        return self.cosine >= LEAST_COSINE


@dataclass(frozen=True)
class Engine:
    """A network ready to be applied: `name` and `precision` say by what, `agreement` how it agreed
    (None for Keras).

    Call it with a batch (n, height, width, 3) of 0 to 255; it returns float32 outputs (n, ...).
    """

    name: str
    precision: str
    apply: Callable[[np.ndarray], np.ndarray]
    agreement: Agreement | None = None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Returns the network's outputs."""
        return self.apply(batch)

    def facts(self) -> dict[str, Any]:
        """Returns name, precision and agreement as plain values."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "agreement": self.agreement and asdict(self.agreement),
        }


def resolve(engine: str) -> str:
    """Returns `keras` or `openvino` for a wish.

    `auto` takes OpenVINO where it is installed and there is no GPU; under the backend JAX it takes
    Keras, since the export goes through TensorFlow. Raises DarkroomError for an unknown engine, and
    for `openvino` where it cannot be.
    """
    check_choice("engine", engine, ENGINES)
    installed = importlib.util.find_spec("openvino") is not None
    exports = keras.backend.backend() == "tensorflow"
    if engine == "auto":
        return "openvino" if installed and exports and not distribution.has_gpu() else "keras"
    if engine == "openvino" and not installed:
        raise DarkroomError(
            "engine = 'openvino' needs OpenVINO: run `pip install openvino`, or use "
            "engine = 'auto'."
        )
    if engine == "openvino" and not exports:
        raise DarkroomError(
            "engine = 'openvino' exports through TensorFlow. Set KERAS_BACKEND=tensorflow, or use "
            "'keras'."
        )
    return engine


def prepare(model: keras.Model, images: np.ndarray, *, engine: str = "auto") -> Engine:
    """Returns the model ready to be applied, exported if that is requested, possible and found to
    agree.

    Args:
        model: a model or the part of one, as `predictor.up_to` gives it; its weights of this moment
            are taken.
        images: RGB of 0 to 255 in the model's size; the export is compared on the first of them.
        engine: `auto`, `keras` or `openvino`.

    Raises:
        DarkroomError: for an engine that cannot be, and with `openvino` for a network whose export
            does not agree.
    """
    by_keras = Engine(
        "keras", keras.config.dtype_policy().name, lambda batch: _by_keras(model, batch)
    )
    if resolve(engine) == "keras":
        return by_keras
    some = np.asarray(images[:NUM_COMPARED])
    try:
        exported, traced = _export(model)
    except (
        Exception
    ) as error:  # the converter raises classes of its own for a layer it does not know
        if engine == "openvino":
            raise DarkroomError(
                f"OpenVINO cannot take {model.name!r}: {first_line(error)}. Use 'keras'."
            ) from error
        return by_keras
    expected = traced(some) if len(some) else np.zeros((0, 1), np.float32)
    for precision in PRECISIONS:
        apply = _compile(exported, precision)
        agreement = compare(expected, apply(some) if len(some) else expected)
        if agreement.holds:
            return Engine("openvino", precision, apply, agreement)
    if engine == "openvino":
        raise DarkroomError(
            f"OpenVINO's outputs of {model.name!r} do not agree with Keras': the smallest cosine "
            f"is {agreement.cosine:.4f}. Use engine = 'keras'."
        )
    return by_keras


def compare(expected: np.ndarray, received: np.ndarray) -> Agreement:
    """Returns how near `received` comes to what Keras gave, both (n, ...)."""
    flat, other = (
        array.reshape(len(array), -1).astype(np.float64) for array in (expected, received)
    )
    norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(other, axis=1)
    # Two vectors of zeros agree; a vector of zeros and another do not.
    alike = np.where(
        norms > 0,
        (flat * other).sum(axis=1) / np.where(norms > 0, norms, 1),
        np.all(flat == other, axis=1),
    )
    alike = np.where(np.isfinite(alike), alike, -1.0)
    return Agreement(len(expected), float(alike.min(initial=1.0)))


def _by_keras(model: keras.Model, batch: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model.predict_on_batch(batch)).astype(np.float32)


def _export(model: keras.Model) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Returns OpenVINO's network, whose weights are copied so that training on does not reach it,
    and Keras' own to compare.

    Both come from one trace, since tracing a large network takes longer than to compute the images
    that are compared.
    """
    import openvino
    import tensorflow

    shape = (None, *model.input_shape[1:])
    with _converting, warnings.catch_warnings(), processes.without_native_messages():
        warnings.simplefilter("ignore")  # the converter and TensorFlow warn of their own old names
        traced = tensorflow.function(
            lambda images: model(images, training=False),
            input_signature=[tensorflow.TensorSpec(shape, "float32")],
        )
        function = traced.get_concrete_function()
        exported = openvino.convert_model(function, share_weights=False)
    return exported, lambda batch: np.asarray(
        function(tensorflow.constant(batch, "float32"))
    ).astype(np.float32)


def _compile(exported: Any, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    # One batch at a time with all cores; "throughput" would keep cores free for batches that never
    # come.
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(exported, "CPU", hints)
    return lambda batch: np.array(
        compiled([np.ascontiguousarray(batch, np.float32)])[0], np.float32
    )
