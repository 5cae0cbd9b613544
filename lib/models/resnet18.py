"""ResNet18, which Keras' applications do not include.

Source: He et al. 2015, table 1, with the projections of option B; layer order and padding as in
    KerasHub's `resnet_18_imagenet`, whose weights `load_keras_hub` takes over.
"""

from __future__ import annotations

import keras
from keras import layers

from lib.models import keras_hub_backbones

_FILTERS = (64, 128, 256, 512)
_EPSILON = 1e-5


def graph(images: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the last maps (batch, side/32, side/32, 512) of preprocessed images."""
    x = layers.ZeroPadding2D(3, name="stem_pad")(images)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="stem_conv")(x)
    x = layers.ReLU(name="stem_relu")(_normalized(x, name="stem_bn"))
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, filters in enumerate(_FILTERS, start=1):
        for block in (1, 2):
            stride = 2 if block == 1 and stage > 1 else 1
            x = _basic_block(x, filters=filters, stride=stride, name=f"stage{stage}_block{block}")
    return x


def _basic_block(
    x: keras.KerasTensor, *, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    shortcut = x
    if stride != 1:
        shortcut = layers.Conv2D(filters, 1, strides=stride, use_bias=False, name=f"{name}_conv0")(
            x
        )
        shortcut = _normalized(shortcut, name=f"{name}_bn0")
    x = _convolution(x, filters=filters, stride=stride, name=f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(_normalized(x, name=f"{name}_bn1"))
    x = _convolution(x, filters=filters, stride=1, name=f"{name}_conv2")
    x = layers.Add(name=f"{name}_add")([_normalized(x, name=f"{name}_bn2"), shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _convolution(
    x: keras.KerasTensor, *, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    # PyTorch's padding, one pixel all round: Keras' "same" pads only below and right where the
    # stride is 2.
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, 3, strides=stride, use_bias=False, name=name)(x)


def _normalized(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.9, epsilon=_EPSILON, name=name)(x)


def load_keras_hub(model: keras.Model) -> None:
    """Gives the backbone in `model` the ImageNet weights of KerasHub, whose layers stand in the
    same order, kind by kind.

    Raises DarkroomError where KerasHub is not installed or its download fails.
    """
    source = keras_hub_backbones.load("ResNetBackbone", "resnet_18_imagenet")
    for kind in (layers.Conv2D, layers.BatchNormalization):
        theirs = sorted((layer for layer in source.layers if isinstance(layer, kind)), key=_place)
        ours = sorted((layer for layer in model.layers if isinstance(layer, kind)), key=_place)
        for layer, other in zip(ours, theirs, strict=True):
            layer.set_weights(other.get_weights())


def _place(layer: layers.Layer) -> str:
    # stem before stages, then stage, block and number, in both naming schemes
    name = layer.name.replace("conv1_", "stem_").replace("stack", "stage")
    return "0" + name if name.startswith("stem") else "1" + name
