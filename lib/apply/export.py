"""A model for other programs: ONNX, TFLite or a SavedModel that takes pixels and gives calibrated
probabilities.

The exported network ends in the probabilities themselves, so nobody adds a second softmax; the
classes, the picture's side and the thresholds lie beside it in `<name>.json`. Before anything is
left on disk, the exported network answers some pictures and must agree with Keras.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib import files, quiet
from lib.apply import classifier as models
from lib.errors import DarkroomError, suggest

if TYPE_CHECKING:
    import keras

FORMATS = {"onnx": "onnx", "tflite": "litert", "saved_model": "tf_saved_model"}
"""What can be written, and Keras' name for it."""
TOLERANCE = 1e-3
"""How far an exported probability may be from Keras' own."""

_ENDINGS = {"onnx": ".onnx", "tflite": ".tflite", "saved_model": ""}
_NEEDS = {
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "tflite": ("tensorflow", "ai_edge_litert"),
    "saved_model": ("tensorflow",),
}
_PICTURES = 8


def export(model: str | Path, format: str, *, folder: Path | None = None) -> tuple[Path, float]:
    """Writes the model in another format and returns its path and how far its probabilities were
    from Keras' at most.

    Args:
        model: a trained run, a study or a `.keras` file, as for `classifier.load`.
        format: `onnx`, `tflite` or `saved_model` (a folder).
        folder: where it goes; by default the folder of the saved model.

    Raises:
        DarkroomError: an unknown format, a package that is missing, a model that is not Keras', or
            answers that differ.
    """
    if format not in FORMATS:
        known = tuple(FORMATS)
        raise DarkroomError(
            f"`format` must be one of {', '.join(known)}. Received: "
            f"{format!r}.{suggest(format, known)}"
        )
    _require(format)
    path, _ = models.find(str(model))
    if path.suffix != ".keras":
        raise DarkroomError(f"Only Keras models can be exported. Received: {path.name}.")
    found = models.load(model)
    target = Path(folder or path.parent) / f"model{_ENDINGS[format]}"
    pixels = np.random.default_rng(0).integers(0, 256, (_PICTURES, *found.size, 3), dtype=np.uint8)
    expected = found.probabilities(pixels)
    writing = files.directory(target) if format == "saved_model" else files.replacing(target)
    with writing as aside:
        answers = _write(_whole(path, found.temperature), aside, format)
        apart = float(np.abs(answers(pixels.astype(np.float32)) - expected).max())
        if not apart <= TOLERANCE:
            told = f"differs from Keras by {apart:.4f} in probability"
            raise DarkroomError(f"The {format} export of {found.name} {told}; it is not kept.")
    files.write_json(target.with_suffix(".json"), {**_about(found), "differs_from_keras_by": apart})
    return target, apart


def _about(found: models.Classifier) -> dict[str, Any]:
    about = {
        "model": found.name,
        "class_names": list(found.class_names),
        "temperature": found.temperature,
        "pixels": "RGB, 0 to 255, float32",
        "height_width": list(found.size),
        "resize": found.resize,
    }
    if found.known is not None or found.advice:
        about["thresholds"] = {f"{wish:.0%}": found.threshold(wish) for wish in (0.9, 0.95, 0.99)}
    return about


def _whole(path: Path, temperature: float) -> keras.Model:
    """The saved model with one more layer, from logits to calibrated probabilities in the order of
    the classes.
    """
    import keras

    from lib.models import heads, serialization

    model = serialization.load(path)
    head = heads.of(model)
    logits = keras.layers.Rescaling(1 / temperature, name="calibrated")(model.output)
    if head.kind == "sigmoid":
        yes = keras.layers.Activation("sigmoid", name="yes")(logits)
        no = keras.layers.Rescaling(-1.0, offset=1.0, name="no")(yes)
        pair = [no, yes] if head.positive_index == 1 else [yes, no]
        return keras.Model(model.input, keras.layers.Concatenate(name="probabilities")(pair))
    return keras.Model(model.input, keras.layers.Softmax(name="probabilities")(logits))


def _write(whole: keras.Model, aside: Path, format: str) -> Callable[[np.ndarray], np.ndarray]:
    """Exports and returns a function that asks the exported network."""
    suffixed = aside.with_name(
        aside.name + _ENDINGS[format]
    )  # Keras and the converters look at the ending
    whole(
        np.zeros((1, *whole.input_shape[1:]), np.float32)
    )  # Keras exports only what has been called
    with quiet.loading(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters speak of their own old NumPy names
        whole.export(suffixed, format=FORMATS[format], verbose=False)
    if suffixed != aside:
        suffixed.replace(aside)
    return {"onnx": _ask_onnx, "tflite": _ask_tflite, "saved_model": _ask_saved_model}[format](
        aside
    )


def _ask_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def _ask_tflite(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    with quiet.loading():
        interpreter = Interpreter(model_content=path.read_bytes())
    (given,), (told,) = interpreter.get_input_details(), interpreter.get_output_details()

    def ask(pixels: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(told["index"])

    return ask


def _ask_saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    served: Any = tf.saved_model.load(str(path))
    return lambda pixels: served.serve(pixels).numpy()


def _require(format: str) -> None:
    missing = [name for name in _NEEDS[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise DarkroomError(
            f"To write {format} takes {', '.join(_NEEDS[format])}. "
            "Install what is missing with: python -m pip install "
            f"{' '.join(name.replace('_', '-') for name in missing)}"
        )
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if format == "tflite" and backend != "tensorflow":
        raise DarkroomError(
            f"To write tflite takes KERAS_BACKEND=tensorflow. Received: {backend!r}."
        )
