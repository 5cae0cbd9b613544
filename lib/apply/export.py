"""Export of a model to ONNX, OpenVINO, TFLite or SavedModel, from pixels to calibrated
probabilities.

The exported network ends in the probabilities, so no second softmax is possible; classes, image
size and thresholds are in `<name>.json` next to it. Before anything stays on disk, the export is
compared with Keras on random pixels.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lib import files, processes
from lib.apply import classifier as models
from lib.errors import DarkroomError, check_choice

if TYPE_CHECKING:
    import keras


class _Format(NamedTuple):
    keras: str
    file: str
    needs: tuple[str, ...]
    suffix: str = ""
    is_folder: bool = False


FORMATS = {
    "onnx": _Format("onnx", "model.onnx", ("tf2onnx", "onnx", "onnxruntime"), ".onnx"),
    "openvino": _Format("openvino", "model_openvino", ("openvino",), is_folder=True),
    "tflite": _Format("litert", "model.tflite", ("tensorflow", "ai_edge_litert"), ".tflite"),
    "saved_model": _Format("tf_saved_model", "model", ("tensorflow",), is_folder=True),
}
"""The formats: Keras' names for them, what is written, and the packages that it takes."""
TOLERANCE = 1e-3
"""The largest difference of an exported probability to Keras'."""

_NUM_COMPARED = 8


def export(model: str | Path, format: str, *, folder: Path | None = None) -> tuple[Path, float]:
    """Writes the model in another format; returns its path and the largest difference to Keras.

    Args:
        model: a trained run, a study or a `.keras` file, as for `classifier.load`.
        format: `onnx`, `openvino` (a folder), `tflite` or `saved_model` (a folder).
        folder: the target folder; by default that of the saved model.

    Raises:
        DarkroomError: an unknown format, a missing package, a model that is not Keras', or an
            export whose probabilities differ.
    """
    check_choice("format", format, FORMATS)
    _require(format)
    path, _ = models.find(str(model))
    if path.suffix != ".keras":
        raise DarkroomError(f"Only Keras models can be exported. Received: {path.name}.")
    classifier = models.load(model)
    target = Path(folder or path.parent) / FORMATS[format].file
    shape = (_NUM_COMPARED, *classifier.size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = classifier.probabilities(pixels)
    writing = files.directory if FORMATS[format].is_folder else files.replacing
    with writing(target) as aside:
        answers = _write(_with_probabilities(path, classifier.temperature), aside, format)
        difference = float(np.abs(answers(pixels.astype(np.float32)) - expected).max())
        if not difference <= TOLERANCE:
            message = f"differs from Keras by {difference:.4f} in probability"
            raise DarkroomError(
                f"The {format} export of {classifier.name} {message}; it is not kept."
            )
    facts = _facts(classifier) | {"differs_from_keras_by": difference}
    files.write_json(target.with_suffix(".json"), facts)
    return target, difference


def hub_folder(model: str | Path, *, folder: Path | None = None) -> Path:
    """Writes a folder for a model hub, by default `model_hub` beside the saved model.

    It holds the saved model, its card as `README.md` and `model.json`; `classifier.load` reads the
    model from there, with its calibration.
    """
    path, _ = models.find(str(model))
    classifier = models.load(model)
    target = Path(folder or path.parent / "model_hub")
    if target.exists() and folder:
        raise DarkroomError(f"{target} exists and is not overwritten; give a folder to create.")
    with files.directory(target) as aside:
        shutil.copyfile(path, aside / path.name)
        shutil.copyfile(path.with_suffix(".md"), aside / "README.md")
        files.write_json(aside / "model.json", _facts(classifier))
    return target


def _facts(classifier: models.Classifier) -> dict[str, Any]:
    facts = {
        "model": classifier.name,
        "class_names": list(classifier.class_names),
        "temperature": classifier.temperature,
        "pixels": "RGB, 0 to 255, float32",
        "height_width": list(classifier.size),
        "resize": classifier.resize,
    }
    if classifier.multilabel:
        limits = map(float, classifier.class_thresholds)
        facts["class_thresholds"] = dict(zip(classifier.class_names, limits, strict=True))
    if classifier.known is not None or classifier.advice is not None:
        targets = (0.9, 0.95, 0.99)
        facts["thresholds"] = {f"{target:.0%}": classifier.threshold(target) for target in targets}
    return facts


def _with_probabilities(path: Path, temperature: float) -> keras.Model:
    """The saved model with a last layer from logits to calibrated probabilities by class."""
    import keras

    from lib.models import heads, predictor, serialization

    saved = serialization.load(path)
    head, model = heads.of(saved), predictor.averaged(saved)
    if head.kind == "multilabel":
        shares = keras.layers.Activation("sigmoid", name="probabilities")(model.output)
        return keras.Model(model.input, shares)
    logits = keras.layers.Rescaling(1 / temperature, name="calibrated")(model.output)
    if head.kind == "sigmoid":
        yes = keras.layers.Activation("sigmoid", name="yes")(logits)
        no = keras.layers.Rescaling(-1.0, offset=1.0, name="no")(yes)
        pair = [no, yes] if head.positive_index == 1 else [yes, no]
        return keras.Model(model.input, keras.layers.Concatenate(name="probabilities")(pair))
    return keras.Model(model.input, keras.layers.Softmax(name="probabilities")(logits))


def _write(
    model_with_probabilities: keras.Model, aside: Path, format: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Exports and returns a function that computes probabilities by the exported network."""
    # Keras and the converters look at the suffix.
    suffixed = aside.with_name(aside.name + FORMATS[format].suffix)
    path = aside / "model.xml" if format == "openvino" else suffixed
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (1, *model_with_probabilities.input_shape[1:])
    model_with_probabilities(np.zeros(shape, np.float32))  # Keras exports what has been called
    with processes.without_native_messages(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters warn of their own old NumPy names
        model_with_probabilities.export(str(path), format=FORMATS[format].keras, verbose=False)
    if path != aside and format != "openvino":
        path.replace(aside)
    return _LOADERS[format](aside)


def _load_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def _load_tflite(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    with processes.without_native_messages():
        interpreter = Interpreter(model_content=path.read_bytes())
    (given,), (message,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(pixels: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(message["index"])

    return predict


def _load_saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    served: Any = tf.saved_model.load(str(path))
    return lambda pixels: served.serve(pixels).numpy()


def _load_openvino(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    # On some processors OpenVINO computes in bfloat16 by default.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path / "model.xml", "CPU", exact)
    return lambda pixels: np.array(compiled([pixels])[0])


_LOADERS = {
    "onnx": _load_onnx,
    "openvino": _load_openvino,
    "tflite": _load_tflite,
    "saved_model": _load_saved_model,
}


def _require(format: str) -> None:
    needs = FORMATS[format].needs
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(missing).replace("_", "-")
        raise DarkroomError(
            f"To write {format} takes {', '.join(needs)}. Install what is missing with: "
            f"python -m pip install {packages}"
        )
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if format == "tflite" and backend != "tensorflow":
        raise DarkroomError(
            f"To write tflite takes KERAS_BACKEND=tensorflow. Received: {backend!r}."
        )
