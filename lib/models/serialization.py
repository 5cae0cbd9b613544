"""Saved models: a self-contained `.keras` file, and a model card next to it."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from lib import files, model_card, paths, processes
from lib.errors import DarkroomError, first_line
from lib.models import heads

_HEAD = "darkroom>Head"
_OURS = (_HEAD, "darkroom>Preprocess", "darkroom>StagePooling")
_WEIGHTS = "model.weights.h5"
_MEMBERS = ("metadata.json", "config.json", _WEIGHTS)
_MOST_CONFIG_BYTES = 64 << 20
_MOST_INFLATION = 20  # Keras stores weights as they are, and trained ones hardly shrink
_MOST_VALUES = 1 << 28  # between two layers, for one image: a gigabyte in float32
_CPU_S, _MEMORY = 60, 4 << 30
"""What building a foreign model may take."""

# Layers that only compute. Those that run code or read files (Lambda, TFSMLayer, StringLookup, ...)
# are not among them.
_LAYER_NAMES = """
    InputLayer Activation LeakyReLU ReLU PReLU ELU Softmax
    Conv2D Conv2DTranspose DepthwiseConv2D SeparableConv2D Dense Dropout SpatialDropout2D
    BatchNormalization LayerNormalization GroupNormalization Rescaling Normalization
    MaxPooling2D AveragePooling2D GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling2D
    UpSampling2D ZeroPadding2D Cropping2D Flatten Reshape Permute
    Add Subtract Multiply Average Maximum Concatenate
"""
_LAYERS = frozenset(_LAYER_NAMES.split())
_PLAIN_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
_NAMED = frozenset(
    {
        ("keras.src.models.functional", "Functional"),
        ("keras", "DTypePolicy"),
        ("keras", "DTypePolicyMap"),
        ("keras.src.applications.inception_resnet_v2", "CustomScaleLayer"),
        ("keras.src.applications.convnext", "LayerScale"),
        ("keras.src.applications.convnext", "StochasticDepth"),
        ("keras.src.ops.numpy", "Add"),  # MobileNetV3 adds and multiplies constants
        ("keras.src.ops.numpy", "Multiply"),
        (None, "__keras_tensor__"),
    }
)


def save(model: keras.Model, path: Path, *, card: dict[str, Any]) -> None:
    """Writes the model to `path`, which ends in .keras, and its card as Markdown next to it
    (model.keras, model.md).

    `card` (plain JSON values: data, split, metrics, ...) goes inside the file as well; `card(path)`
    reads it back. The optimizer's state is left out.
    """
    head = heads.of(model)
    path = Path(path)
    if path.suffix != ".keras":
        raise DarkroomError(
            f"A model is saved under a name that ends in .keras. Received: {path.name!r}."
        )
    head.card = json.loads(json.dumps(card, default=str))
    with files.replacing(path) as aside:
        suffixed = aside.with_name(aside.name + ".keras")  # Keras writes under no other ending
        try:
            keras.saving.save_model(model, suffixed)
            suffixed.replace(aside)
        finally:
            suffixed.unlink(missing_ok=True)
    files.write_text(path.with_suffix(".md"), _markdown(model, head))


def load(path: Path) -> keras.Model:
    """Returns the model, not compiled; no code from the file runs.

    A model outside of `checkpoints/` is first built in a process with limited memory and CPU time.

    Raises DarkroomError for a file that is missing, broken, not one of this suite's models, holds
    a layer that could do more than compute, or declares more weights than it holds.
    """
    path = Path(path)
    config = _config(path)
    _check_layers(path, config)
    _check_members(path)
    if not path.resolve().is_relative_to(paths.checkpoints()):
        _check_apart(path)
    if "keras_hub>" in json.dumps(config):
        importlib.import_module("keras_hub")  # which registers its layers
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras, h5py and zipfile raise classes of every kind
        raise _unloadable(path, error) from error


def card(path: Path) -> dict[str, Any]:
    """Returns the card inside a saved model, with `class_names` and `head`, without building the
    model.
    """
    path = Path(path)
    head = _head_settings(path, _config(path))
    return {"class_names": head["class_names"], "head": head["kind"], **(head.get("card") or {})}


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DarkroomError(f"There is no saved model {str(path)!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MOST_CONFIG_BYTES:
                raise DarkroomError(
                    f"{path.name} describes itself in more than {_MOST_CONFIG_BYTES >> 20} MiB; it "
                    "is refused."
                )
            config = json.loads(archive.read("config.json"))
    except (
        zipfile.BadZipFile,
        KeyError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        ValueError,  # a number of more digits than Python reads
        NotImplementedError,  # a way to compress that zipfile has not
        RuntimeError,  # an encrypted file
        RecursionError,
        OSError,
    ) as error:
        raise DarkroomError(
            f"{path.name} is not a saved Keras model ({type(error).__name__})."
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise DarkroomError(f"{path.name} is hostile or damaged: it describes no model.")
    return config


def _head_settings(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    matches = [
        node["config"]
        for node in _nodes(config.get("config"))
        if node.get("registered_name") == _HEAD and isinstance(node.get("config"), dict)
    ]
    if len(matches) != 1 or not {"class_names", "kind"} <= matches[0].keys():
        raise DarkroomError(
            f"{path.name} was not saved by this suite: it holds no class names. "
            "Build a model with lib.models.build and hand the file to it as `weights`."
        )
    return matches[0]


def _check_layers(path: Path, config: dict[str, Any]) -> None:
    _head_settings(path, config)
    outer = {name: config.get(name) for name in ("module", "class_name", "registered_name")}
    for node in (outer, *_nodes(config.get("config"))):
        module, name, registered = (
            node.get("module"),
            node.get("class_name"),
            node.get("registered_name"),
        )
        ours = registered in _OURS and name == registered.removeprefix("darkroom>")
        ours = ours or _is_of_keras_hub(registered, name)
        plain = (
            (module == "keras.layers" and name in _LAYERS)
            or module in _PLAIN_MODULES
            or (module, name) in _NAMED
        )
        if not ours and not (plain and registered in (None, name)):
            raise DarkroomError(
                f"{path.name} holds {registered or f'{module}.{name}'}, which none of our models "
                "needs and which could run code; it is refused."
            )


def _check_members(path: Path) -> None:
    """Refuses an archive with more than Keras writes for our models, or that inflates too far."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    strange = [entry.filename for entry in entries if entry.filename not in _MEMBERS]
    if strange or len({entry.filename for entry in entries}) < len(entries):
        raise DarkroomError(
            f"{path.name} is hostile or damaged: it holds {(strange or ['a file twice'])[0]!r}, "
            f"which no saved model does. It holds {', '.join(_MEMBERS)} alone."
        )
    if _WEIGHTS not in {entry.filename for entry in entries}:
        raise DarkroomError(f"{path.name} is not a saved Keras model: no weights.")
    for entry in entries:
        if entry.file_size > _MOST_INFLATION * entry.compress_size + (1 << 20):
            raise DarkroomError(
                f"{path.name} is hostile or damaged: {entry.filename} grows from "
                f"{entry.compress_size:,} to {entry.file_size:,} bytes."
            )


def _check_apart(path: Path) -> None:
    """Builds a model that came from elsewhere without its weights, in a process with limits."""
    environment = {**os.environ, "DARKROOM_LIMITED": "1"}  # a process of its own, kept for the next
    try:
        processes.call(check_build, str(path.absolute()), environment=environment)
    except (processes.WorkerDied, MemoryError):
        raise DarkroomError(
            f"{path.name} is hostile or damaged: building it takes more than {_CPU_S} s or "
            f"{_MEMORY >> 30} GiB."
        ) from None


def check_build(path: str) -> None:
    """Refuses a model that declares more weights than its file holds, or huge layer outputs.

    Runs in a process of its own, whose memory and CPU time it limits. Only shapes are computed.
    """
    place = Path(path)
    _limit_this_process()
    config = _config(place)
    if "keras_hub>" in json.dumps(config):
        importlib.import_module("keras_hub")
    try:
        with keras.StatelessScope(initialize_variables=False):  # nothing is allocated
            whole = {**config, "compile_config": None}
            model = keras.saving.deserialize_keras_object(whole, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # Keras raises classes of every kind
        raise _unloadable(place, error) from None
    largest = max(
        math.prod(side or 1 for side in tensor.shape)
        for layer in model._flatten_layers()
        for node in layer._inbound_nodes
        for tensor in node.output_tensors
    )
    if largest > _MOST_VALUES:
        raise DarkroomError(
            f"{place.name} is hostile or damaged: {largest:,} values an image between two layers."
        )
    declared = sum(math.prod(weight.shape) for weight in model.weights)
    held = _weights_held(place)
    if declared > held:
        raise DarkroomError(
            f"{place.name} is hostile or damaged: it declares {declared:,} weights and holds "
            f"{held:,}."
        )


def _weights_held(path: Path) -> int:
    """The number of weights in the file. Refuses links and values that lie elsewhere."""
    import h5py

    held, waiting, seen = 0, [], set()
    try:
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read(_WEIGHTS))
        with h5py.File(weights) as file:
            waiting.append(file)
            while waiting:
                group = waiting.pop()
                if group.id in seen:  # a group within itself
                    continue
                seen.add(group.id)
                for name in group:
                    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise DarkroomError(f"{path.name} is hostile: {name!r} is a link.")
                    item = group[name]
                    if isinstance(item, h5py.Dataset):
                        held += _values_held(path, item)
                    else:
                        waiting.append(item)
    except DarkroomError:
        raise
    except Exception as error:  # h5py and zipfile raise classes of every kind
        raise _unloadable(path, error) from None
    return held


def _values_held(path: Path, values: Any) -> int:
    stored = values.id.get_storage_size()
    if values.external or values.is_virtual or values.nbytes > _MOST_INFLATION * stored:
        raise DarkroomError(f"{path.name} is hostile: {values.name!r} holds less than it declares.")
    return values.size


def _limit_this_process() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    import psutil

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _CPU_S
    memory = psutil.Process().memory_info().vms + _MEMORY
    for kind, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


def _unloadable(path: Path, error: Exception) -> DarkroomError:
    return DarkroomError(
        f"{path.name} cannot be loaded, its weights are damaged or do not fit: {first_line(error)}"
    )


def _is_of_keras_hub(registered: object, name: object) -> bool:
    """Whether a layer is one of KerasHub's that only compute; tokenizers read files."""
    if not isinstance(registered, str) or registered != f"keras_hub>{name}":
        return False
    if any(word in registered for word in ("Tokenizer", "Preprocessor", "Converter", "Generator")):
        return False
    return importlib.util.find_spec("keras_hub") is not None


def _nodes(value: object) -> Iterator[dict[str, Any]]:
    """Yields every serialised object below `value`, whatever Keras would make of it.

    The card in a head's own config is left out: the head keeps it as data and builds nothing of it.
    """
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                yield node
            inner = node.get("config")
            if (node.get("registered_name"), node.get("class_name")) == (
                _HEAD,
                "Head",
            ) and isinstance(inner, dict):
                node = {**node, "config": {key: inner[key] for key in inner if key != "card"}}
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _markdown(model: keras.Model, head: heads.Head) -> str:
    side = model.input_shape[1]
    facts = [
        f"Takes: RGB images, {side} x {side} px, pixels of 0 to 255; preprocessing is inside",
        f"Gives: {head.kind} over {len(head.class_names)} classes",
        f"Parameters: {model.count_params():,}",
        f"Classes: {', '.join(head.class_names)}",
    ]
    return model_card.markdown(model.name, facts, head.card)
