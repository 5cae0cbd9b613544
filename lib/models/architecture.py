"""A model to look at: its layers as a table, and its shape as a drawing that needs no Graphviz."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

_MOST_SINGLE_CONVOLUTIONS = 10
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_COLOURS = {"input": "#999999", "maps": "#0072b2", "vector": "#e69f00", "head": "#009e73"}  # Okabe and Ito's palette


@dataclass(frozen=True)
class Block:
    """One box of the drawing: `kind` is input, maps, vector or head; `side` is 0 for vectors."""

    kind: str
    title: str
    side: int
    channels: int
    num_parameters: int


def layer_table(model: keras.Model) -> pandas.DataFrame:
    """Returns one row a layer, in order: layer, type, output_shape (without the batch), num_parameters, trainable."""
    import pandas

    rows = []
    for layer in model.layers:
        row = {"layer": layer.name, "type": type(layer).__name__, "output_shape": tuple(_shape(layer))}
        num_parameters = layer.count_params()
        rows.append(row | {"num_parameters": num_parameters, "trainable": bool(layer.trainable and num_parameters)})
    return pandas.DataFrame(rows)


def blocks(model: keras.Model) -> list[Block]:
    """Returns the boxes of the drawing from input to head.

    Up to ten convolutions are shown one by one; of longer networks all layers of one map size become one stage.
    """
    side = model.input_shape[1]
    maps = [layer for layer in model.layers if len(_shape(layer)) == 3 and layer is not model.layers[0]]
    convolutions = [layer for layer in maps if isinstance(layer, _CONVOLUTIONS)]
    folded = len(convolutions) > _MOST_SINGLE_CONVOLUTIONS
    body = _stages(maps) if folded else [_single(layer, maps) for layer in convolutions]
    return [Block("input", "images", side, 3, 0), *body, *_tail(model)]


def drawing(model: keras.Model) -> matplotlib.figure.Figure:
    """Returns a figure of the architecture: boxes as high as their maps and as wide as their channels, left to right."""
    from matplotlib.figure import Figure

    shown = blocks(model)
    figure = Figure(figsize=(max(6.0, 1.25 * len(shown) + 0.6), 4.2), layout="constrained")
    axes = figure.add_subplot()
    end = box_end = 0.0
    for number, block in enumerate(shown):
        # Boxes stand in slots of at least one unit, so that the words below them have room.
        start = end + (0.45 if number else 0.0) + max(0.0, (1.0 - _width(block)) / 2)
        if number:
            arrow = {"arrowstyle": "-|>", "color": "0.4", "shrinkA": 3, "shrinkB": 3}
            axes.annotate("", (start, 0), (box_end, 0), arrowprops=arrow)
        box_end = _draw(axes, block, left=start, largest=shown[0].side)
        end = box_end + max(0.0, (1.0 - _width(block)) / 2)
    axes.set_xlim(-0.2, end + 0.2)
    axes.set_ylim(-2.3, 1.7)
    axes.set_axis_off()
    axes.set_title(f"{model.name}: {model.count_params():,} parameters", loc="left", fontsize=11)
    return figure


def _width(block: Block) -> float:
    return 0.12 + 0.09 * math.log2(block.channels + 1) if block.side else 0.16


def _stages(maps: list[keras.layers.Layer]) -> list[Block]:
    stages = []
    convolutions = [layer for layer in maps if isinstance(layer, _CONVOLUTIONS)]
    for side in sorted({_shape(layer)[0] for layer in convolutions}, reverse=True):
        inside = [layer for layer in maps if _shape(layer)[0] == side]
        counts = Counter(
            "convolution" if isinstance(layer, _CONVOLUTIONS) else type(layer).__name__.lower() for layer in inside
        )
        title = _counted(counts["convolution"], "convolution")
        if counts["add"]:
            title += "\n" + _counted(counts["add"], "shortcut")
        elif counts["concatenate"]:
            title += "\n" + _counted(counts["concatenate"], "junction")
        num_parameters = sum(layer.count_params() for layer in inside)
        # The merged maps are the stage's result; of a stage without any it is the widest.
        merged = [layer for layer in inside if isinstance(layer, keras.layers.Add | keras.layers.Concatenate)]
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
    words = {"BatchNormalization": "batch norm", "MaxPooling2D": "max pooling", "AveragePooling2D": "average pooling"}
    extra = [words.get(type(each).__name__, "") for each in followers]
    extra += [f"dropout {each.rate:g}" for each in followers if isinstance(each, keras.layers.Dropout)]
    num_parameters = layer.count_params() + sum(each.count_params() for each in followers)
    title = "\n".join([f"convolution {kernel}", *(text for text in extra if text)])
    return Block("maps", title, side, channels, num_parameters)


def _tail(model: keras.Model) -> list[Block]:
    found: list[Block] = []
    for layer in model.layers[[layer.name for layer in model.layers].index("pool") :]:
        last = layer is model.layers[-1]
        if layer.name != "pool" and not isinstance(layer, keras.layers.Dense):
            continue
        words = {
            "Flatten": "flattened",
            "GlobalAveragePooling2D": "average\nof each map",
            "GlobalMaxPooling2D": "max\nof each map",
        }
        title = getattr(layer, "kind", "logits") if last else words.get(type(layer).__name__, "dense")
        found.append(Block("head" if last else "vector", title, 0, _shape(layer)[-1], layer.count_params()))
    return found


def _draw(axes: matplotlib.axes.Axes, block: Block, *, left: float, largest: int) -> float:
    """Draws one box and returns where it ends."""
    from matplotlib.patches import Polygon

    height = 0.25 + 1.75 * math.sqrt(block.side / largest) if block.side else 0.9
    depth = 0.18 * height if block.side else 0.05
    low, high, right = -height / 2, height / 2, left + _width(block)
    faces = (
        ([(left, low), (right, low), (right, high), (left, high)], 0.85),
        ([(left, high), (right, high), (right + depth, high + depth), (left + depth, high + depth)], 0.55),
        ([(right, low), (right + depth, low + depth), (right + depth, high + depth), (right, high)], 0.7),
    )
    for corners, alpha in faces:
        axes.add_patch(Polygon(corners, facecolor=_COLOURS[block.kind], edgecolor="white", linewidth=0.8, alpha=alpha))
    shape = f"{block.side}x{block.side}x{block.channels}" if block.side else f"{block.channels:,}"
    middle = left + (_width(block) + depth) / 2
    axes.text(middle, -1.25, shape, ha="center", va="top", fontsize=8, weight="bold")
    weights = f"\n{_short(block.num_parameters)} weights" if block.num_parameters else ""
    axes.text(middle, -1.47, block.title + weights, ha="center", va="top", fontsize=7, color="0.25", linespacing=1.3)
    return right + depth


def _shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    output = layer.output
    return tuple(output.shape[1:])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(number: int) -> str:
    for size, sign in ((1_000_000, " M"), (1_000, " k")):
        if number >= size:
            return f"{number / size:.3g}{sign}"
    return str(number)
