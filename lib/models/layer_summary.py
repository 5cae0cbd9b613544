"""Layers of a model as a table, and as boxes for `lib.reporting.architecture_diagram`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    import pandas

_MOST_SINGLE_CONVOLUTIONS = 10
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


@dataclass(frozen=True)
class Block:
    """One box of the drawing: `kind` is input, maps, vector or head; `side` is 0 for vectors."""

    kind: str
    title: str
    side: int
    channels: int
    num_parameters: int


def layer_table(model: keras.Model) -> pandas.DataFrame:
    """Returns one row a layer, in order: layer, type, output_shape (without the batch),
    num_parameters, trainable.
    """
    import pandas

    rows = [
        {
            "layer": layer.name,
            "type": type(layer).__name__,
            "output_shape": tuple(_shape(layer)),
            "num_parameters": layer.count_params(),
            "trainable": bool(layer.trainable and layer.count_params()),
        }
        for layer in model.layers
    ]
    return pandas.DataFrame(rows)


def blocks(model: keras.Model) -> list[Block]:
    """Returns the boxes of the drawing from input to head.

    Up to ten convolutions are shown one by one; of longer networks all layers of one map size
    become one stage.
    """
    side = model.input_shape[1]
    maps = [
        layer for layer in model.layers if len(_shape(layer)) == 3 and layer is not model.layers[0]
    ]
    convolutions = [layer for layer in maps if isinstance(layer, _CONVOLUTIONS)]
    folded = len(convolutions) > _MOST_SINGLE_CONVOLUTIONS
    body = _stages(maps) if folded else [_single(layer, maps) for layer in convolutions]
    return [Block("input", "images", side, 3, 0), *body, *_tail(model)]


def _stages(maps: list[keras.layers.Layer]) -> list[Block]:
    stages = []
    convolutions = [layer for layer in maps if isinstance(layer, _CONVOLUTIONS)]
    for side in sorted({_shape(layer)[0] for layer in convolutions}, reverse=True):
        inside = [layer for layer in maps if _shape(layer)[0] == side]
        counts = Counter(
            "convolution" if isinstance(layer, _CONVOLUTIONS) else type(layer).__name__.lower()
            for layer in inside
        )
        title = _counted(counts["convolution"], "convolution")
        if counts["add"]:
            title += "\n" + _counted(counts["add"], "shortcut")
        elif counts["concatenate"]:
            title += "\n" + _counted(counts["concatenate"], "junction")
        num_parameters = sum(layer.count_params() for layer in inside)
        # The merged maps are the stage's result; of a stage without any it is the widest.
        merged = [
            layer
            for layer in inside
            if isinstance(layer, keras.layers.Add | keras.layers.Concatenate)
        ]
        channels = _shape(merged[-1])[2] if merged else max(_shape(layer)[2] for layer in inside)
        stages.append(Block("maps", title, side, channels, num_parameters))
    return stages


def _single(layer: keras.layers.Layer, maps: list[keras.layers.Layer]) -> Block:
    side, _, channels = _shape(layer)
    kernel = "x".join(str(length) for length in layer.kernel_size)
    after = maps[maps.index(layer) + 1 :]
    followers = []
    for follower in after:
        if isinstance(follower, _CONVOLUTIONS):
            break
        followers.append(follower)
    words = {
        "BatchNormalization": "batch norm",
        "MaxPooling2D": "max pooling",
        "AveragePooling2D": "average pooling",
    }
    extra = [words.get(type(one).__name__, "") for one in followers]
    extra += [f"dropout {one.rate:g}" for one in followers if isinstance(one, keras.layers.Dropout)]
    num_parameters = layer.count_params() + sum(one.count_params() for one in followers)
    title = "\n".join([f"convolution {kernel}", *(text for text in extra if text)])
    return Block("maps", title, side, channels, num_parameters)


def _tail(model: keras.Model) -> list[Block]:
    tail: list[Block] = []
    for layer in model.layers[[layer.name for layer in model.layers].index("pool") :]:
        last = layer is model.layers[-1]
        if layer.name != "pool" and not isinstance(layer, keras.layers.Dense):
            continue
        words = {
            "Flatten": "flattened",
            "GlobalAveragePooling2D": "average\nof each map",
            "GlobalMaxPooling2D": "max\nof each map",
        }
        title = (
            getattr(layer, "kind", "logits") if last else words.get(type(layer).__name__, "dense")
        )
        tail.append(
            Block("head" if last else "vector", title, 0, _shape(layer)[-1], layer.count_params())
        )
    return tail


def _shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    output = layer.output
    return tuple(output.shape[1:])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
