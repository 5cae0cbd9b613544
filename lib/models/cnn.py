"""Convolutional networks from a short description, with presets of the source projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import keras
from keras import layers

from lib.errors import DarkroomError, check_choice


@dataclass(frozen=True)
class Cnn:
    """What stands between the preprocessing and the head.

    A block is convolution, batch normalisation, activation, pooling, residual units, dropout, each
    where it is asked for; then the maps become one vector (`summary`), then come the dense layers.
    """

    filters: tuple[int, ...] = (32, 64, 128)
    """One block each."""
    kernel: int = 3
    first_stride: int = 1
    """Stride of the first convolution; 2 quarters the work of all that follows."""
    padding: str = "same"
    """same or valid, of convolutions and pooling."""
    pooling: str = "max"
    """max or average, over 2 x 2 pixels."""
    pool_after: tuple[int, ...] = (1, 2, 3)
    """Numbers of the blocks, from 1, that end in pooling."""
    residual_units: int = 0
    """Of two convolutions around a shortcut, at the end of each block."""
    summary: str = "average"
    """flatten, or the average or max of each map."""
    dense_units: tuple[int, ...] = ()
    activation: str = "relu"
    dense_activation: str | None = None
    """None takes `activation`."""
    batch_normalization: tuple[str, ...] = ()
    """Any of block (before the activation), flat (after the summary), dense (after the activation).
    """
    dropout: Mapping[str, float] = field(default_factory=dict)
    """Rate by place: block1, block2, ..., flat, dense (after each dense layer)."""
    l2: float = 0.0
    """Weight of the squared kernels in the loss."""
    initializer: str = "glorot_uniform"


PRESETS = {
    # Widens as the side halves. The first block leaves a sixteenth of the pixels, because most of
    # the time is spent before
    # the maps are small.
    "compact": Cnn(
        filters=(16, 32, 64, 128, 192),
        first_stride=2,
        pool_after=(1, 2, 3, 4),
        batch_normalization=("block",),
        dropout={"flat": 0.2},
        initializer="he_normal",
    ),
    # As many operations in each block: channels double as the side halves.
    "residual": Cnn(
        filters=(32, 64, 128, 256),
        first_stride=2,
        pool_after=(2, 3, 4),
        residual_units=1,
        batch_normalization=("block",),
        dropout={"flat": 0.2},
        initializer="he_normal",
    ),
    # Source: the document-triage project, chapter 8.1.
    "triage": Cnn(filters=(16, 32, 64), pool_after=(1,), summary="flatten", dense_units=(128,)),
    # Source: the same, chapter 10.2.
    "triage_dropout": Cnn(
        filters=(16, 32, 64),
        pool_after=(1,),
        summary="flatten",
        dense_units=(128,),
        dropout={"block1": 0.25, "block3": 0.25, "dense": 0.5},
    ),
    # Source: the Simpsons project, its first CNN, at 64 px.
    "simpsons": Cnn(
        filters=(32, 64, 64),
        padding="valid",
        pool_after=(),
        summary="flatten",
        dense_units=(64,),
        dense_activation="leaky_relu",
        batch_normalization=("flat", "dense"),
        initializer="he_normal",
    ),
    # Source: the same, its final CNN, at 128 px; the rate of L2 is not given there.
    "simpsons_final": Cnn(
        filters=(32, 64, 64),
        padding="valid",
        pool_after=(),
        summary="flatten",
        dense_units=(128,),
        dense_activation="leaky_relu",
        batch_normalization=("flat", "dense"),
        dropout={"flat": 0.2, "dense": 0.7},
        l2=0.001,
        initializer="he_normal",
    ),
}


def describe(preset: str = "compact", **changes: object) -> Cnn:
    """Returns a preset with some fields changed; lists become tuples, one number for a tuple
    becomes a tuple of one.

    Raises DarkroomError for an unknown preset and for a value that would not act.
    """
    check_choice("preset", preset, PRESETS)
    base = PRESETS[preset]
    if "filters" in changes and "pool_after" not in changes:
        changes["pool_after"] = tuple(
            n for n in base.pool_after if n <= len(_as_field(changes["filters"], "filters"))
        )
    cnn = replace(base, **{name: _as_field(value, name) for name, value in changes.items()})
    check(cnn)
    return cnn


def graph(images: keras.KerasTensor, cnn: Cnn) -> keras.KerasTensor:
    """Returns the features (batch, d) that the head sees; `images` are already preprocessed.

    The layer `pool` holds the summary of the last maps. Raises DarkroomError for a side too small
    for the description.
    """
    _check_side(images.shape[1], cnn)
    x = images
    for number, filters in enumerate(cnn.filters, start=1):
        x = _block(x, cnn, number=number, filters=filters)
    x = _SUMMARIES[cnn.summary](name="pool")(x)  # (batch, d)
    if "flat" in cnn.batch_normalization:
        x = layers.BatchNormalization(name="flat_bn")(x)
    x = _dropout(x, cnn, place="flat", name="flat_dropout")
    for number, units in enumerate(cnn.dense_units, start=1):
        x = layers.Dense(units, name=f"dense{number}", **_kernel(cnn))(x)
        x = _activation(cnn.dense_activation or cnn.activation, name=f"dense{number}_activation")(x)
        if "dense" in cnn.batch_normalization:
            x = layers.BatchNormalization(name=f"dense{number}_bn")(x)
        x = _dropout(x, cnn, place="dense", name=f"dense{number}_dropout")
    return x


_SUMMARIES = {
    "flatten": layers.Flatten,
    "average": layers.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
}
_POOLINGS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def check(cnn: Cnn) -> None:
    """Raises DarkroomError for a description of which a part would not act.

    Keras refuses other values where it builds the layer.
    """
    blocks = range(1, len(cnn.filters) + 1)
    allowed = {
        "pooling": tuple(_POOLINGS),
        "summary": tuple(_SUMMARIES),
        "pool_after": tuple(blocks),
        "batch_normalization": ("block", "flat", "dense"),
        "dropout": ("flat", "dense", *(f"block{number}" for number in blocks)),
    }
    for name, choices in allowed.items():
        value = getattr(cnn, name)
        for item in [value] if isinstance(value, str) else value:
            check_choice(name, str(item), map(str, choices))


def _block(x: keras.KerasTensor, cnn: Cnn, *, number: int, filters: int) -> keras.KerasTensor:
    normalized = "block" in cnn.batch_normalization
    x = layers.Conv2D(
        filters,
        cnn.kernel,
        strides=cnn.first_stride if number == 1 else 1,
        padding=cnn.padding,
        use_bias=not normalized,  # the normalisation that follows has its own
        name=f"block{number}_conv",
        **_kernel(cnn),
    )(x)
    if normalized:
        # 0.9: a short training must have good running statistics after a few hundred steps.
        x = layers.BatchNormalization(momentum=0.9, name=f"block{number}_bn")(x)
    x = _activation(cnn.activation, name=f"block{number}_activation")(x)
    if number in cnn.pool_after:
        pooling = _POOLINGS[cnn.pooling]
        x = pooling(2, padding=cnn.padding, name=f"block{number}_pool")(x)
    for unit in range(1, cnn.residual_units + 1):
        x = _residual_unit(x, cnn, name=f"block{number}_unit{unit}")
    return _dropout(x, cnn, place=f"block{number}", name=f"block{number}_dropout")


def _residual_unit(x: keras.KerasTensor, cnn: Cnn, *, name: str) -> keras.KerasTensor:
    """Source: He et al. 2015, figure 2; it begins as the identity (Goyal et al. 2017, 5.1)."""
    shortcut, filters = x, x.shape[-1]
    for number, gamma in ((1, "ones"), (2, "zeros")):
        x = layers.Conv2D(
            filters,
            cnn.kernel,
            padding="same",
            use_bias=False,
            name=f"{name}_conv{number}",
            **_kernel(cnn),
        )(x)
        x = layers.BatchNormalization(
            momentum=0.9, gamma_initializer=gamma, name=f"{name}_bn{number}"
        )(x)
        if number == 1:
            x = _activation(cnn.activation, name=f"{name}_activation1")(x)
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return _activation(cnn.activation, name=f"{name}_activation2")(x)


def _dropout(x: keras.KerasTensor, cnn: Cnn, *, place: str, name: str) -> keras.KerasTensor:
    rate = cnn.dropout.get(place, 0)
    return layers.Dropout(rate, name=name)(x) if rate else x


def _activation(activation: str, *, name: str) -> layers.Layer:
    # The layer's slope, 0.3, is the sources'; Keras' function of the same name has 0.2.
    return (
        layers.LeakyReLU(name=name)
        if activation == "leaky_relu"
        else layers.Activation(activation, name=name)
    )


def _kernel(cnn: Cnn) -> dict:
    penalty = keras.regularizers.L2(cnn.l2) if cnn.l2 else None
    return {"kernel_initializer": cnn.initializer, "kernel_regularizer": penalty}


def _as_field(value: object, name: str) -> object:
    if name not in ("filters", "pool_after", "dense_units", "batch_normalization"):
        return value
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _check_side(image_side: int, cnn: Cnn) -> None:
    if cnn.padding == "same":
        return  # rounds up, so that a pixel is always left
    side = image_side
    for number in range(1, len(cnn.filters) + 1):
        side = (side - cnn.kernel) // (cnn.first_stride if number == 1 else 1) + 1
        side = side // 2 if number in cnn.pool_after else side
        if side < 1:
            raise DarkroomError(
                f"`image_side` is too small: of {image_side} px nothing is left after block "
                f"{number} of {len(cnn.filters)}. Use a larger side, fewer blocks, less pooling or "
                "padding='same'."
            )
