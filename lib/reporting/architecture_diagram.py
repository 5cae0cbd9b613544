"""The layers of a network: as a table, and as a diagram of boxes with shapes and weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas
from matplotlib.patches import Polygon

from lib.reporting.style import INK, MUTED, Drawing, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "input": "#999999",
    "maps": "#0072b2",
    "vector": "#e69f00",
    "head": "#009e73",
}  # Okabe and Ito's palette
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_MOST_SINGLE_CONVOLUTIONS = 10
_WORDS = {
    "BatchNormalization": "batch norm",
    "MaxPooling2D": "max pooling",
    "AveragePooling2D": "average pooling",
    "Flatten": "flattened",
    "GlobalAveragePooling2D": "average\nof each map",
    "GlobalMaxPooling2D": "max\nof each map",
}


@dataclass(frozen=True)
class Block:
    """One box of the diagram; `kind` is input, maps, vector or head."""

    kind: str
    title: str
    side: int
    """Height and width of the maps; 0 for vectors."""
    channels: int
    num_parameters: int


def layer_table(model: Any) -> pandas.DataFrame:
    """Returns one row a layer of a Keras model, in order: layer, type, output_shape (without the
    batch), num_parameters, trainable.
    """
    rows = [
        {
            "layer": layer.name,
            "type": _type(layer),
            "output_shape": _output(layer),
            "num_parameters": layer.count_params(),
            "trainable": bool(layer.trainable and layer.count_params()),
        }
        for layer in model.layers
    ]
    return pandas.DataFrame(rows)


def blocks(model: Any) -> list[Block]:
    """Returns the boxes of a Keras model from input to head.

    Up to ten convolutions are shown one by one; of longer networks all layers of one map size
    become one stage.
    """
    side = model.input_shape[1]
    maps = [layer for layer in model.layers[1:] if len(_output(layer)) == 3]
    convolutions = [layer for layer in maps if _type(layer) in _CONVOLUTIONS]
    if len(convolutions) > _MOST_SINGLE_CONVOLUTIONS:
        sides = sorted({_output(layer)[0] for layer in convolutions}, reverse=True)
        body = [_stage([layer for layer in maps if _output(layer)[0] == one]) for one in sides]
    else:
        body = [_single(layer, maps) for layer in convolutions]
    return [Block("input", "images", side, 3, 0), *body, *_tail(model)]


def _stage(layers: list[Any]) -> Block:
    counts = Counter(
        "convolution" if _type(layer) in _CONVOLUTIONS else _type(layer) for layer in layers
    )
    title = _counted(counts["convolution"], "convolution")
    if counts["Add"]:
        title += "\n" + _counted(counts["Add"], "shortcut")
    elif counts["Concatenate"]:
        title += "\n" + _counted(counts["Concatenate"], "junction")
    # The merged maps are the stage's result; of a stage without any it is the widest.
    merged = [layer for layer in layers if _type(layer) in ("Add", "Concatenate")]
    channels = _output(merged[-1])[2] if merged else max(_output(layer)[2] for layer in layers)
    num_parameters = sum(layer.count_params() for layer in layers)
    return Block("maps", title, _output(layers[0])[0], channels, num_parameters)


def _single(layer: Any, maps: list[Any]) -> Block:
    side, _, channels = _output(layer)
    lines, num_parameters = [f"convolution {'x'.join(map(str, layer.kernel_size))}"], 0
    for follower in maps[maps.index(layer) + 1 :]:
        if _type(follower) in _CONVOLUTIONS:
            break
        dropout = f"dropout {follower.rate:g}" if _type(follower) == "Dropout" else ""
        lines.append(_WORDS.get(_type(follower), dropout))
        num_parameters += follower.count_params()
    title = "\n".join(filter(None, lines))
    return Block("maps", title, side, channels, layer.count_params() + num_parameters)


def _tail(model: Any) -> list[Block]:
    *layers, head = model.layers[[layer.name for layer in model.layers].index("pool") :]
    tail = [
        Block(
            "vector", _WORDS.get(_type(layer), "dense"), 0, _output(layer)[-1], layer.count_params()
        )
        for layer in layers
        if layer.name == "pool" or _type(layer) == "Dense"
    ]
    kind = getattr(head, "kind", "logits")
    return [*tail, Block("head", kind, 0, _output(head)[-1], head.count_params())]


def _type(layer: Any) -> str:
    return type(layer).__name__


def _output(layer: Any) -> tuple[int, ...]:
    return tuple(layer.output.shape[1:])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def drawing(blocks: Sequence[Block], *, title: str) -> Drawing:
    """Returns a figure of a network: boxes as high as their maps and as wide as their channels,
    from input to head.
    """
    figure = Drawing(max(6.0, 1.25 * len(blocks) + 0.6), 4.2, alt=f"{title}. {_described(blocks)}")
    axes = figure.add_subplot()
    end = box_end = 0.0
    for number, block in enumerate(blocks):
        # Boxes stand in slots of at least one unit, so that the words below them have room.
        start = end + (0.45 if number else 0.0) + max(0.0, (1.0 - _width(block)) / 2)
        if number:
            arrow = {"arrowstyle": "-|>", "color": MUTED, "shrinkA": 3, "shrinkB": 3}
            axes.annotate("", (start, 0), (box_end, 0), arrowprops=arrow)
        box_end = _draw(axes, block, left=start, largest=blocks[0].side)
        end = box_end + max(0.0, (1.0 - _width(block)) / 2)
    axes.set_xlim(-0.2, end + 0.2)
    axes.set_ylim(-2.3, 1.7)
    axes.set_axis_off()
    set_title(figure, title)
    return figure


def _width(block: Block) -> float:
    return 0.12 + 0.09 * math.log2(block.channels + 1) if block.side else 0.16


def _draw(axes: Axes, block: Block, *, left: float, largest: int) -> float:
    """Draws one box and returns where it ends."""
    height = 0.25 + 1.75 * math.sqrt(block.side / largest) if block.side else 0.9
    depth = 0.18 * height if block.side else 0.05
    low, high, right = -height / 2, height / 2, left + _width(block)
    slanted = [(right, high), (right + depth, high + depth)]
    faces = {
        0.85: [(left, low), (right, low), (right, high), (left, high)],
        0.55: [(left, high), *slanted, (left + depth, high + depth)],
        0.7: [(right, low), (right + depth, low + depth), *slanted[::-1]],
    }
    look = {"facecolor": _COLOURS[block.kind], "edgecolor": "white", "linewidth": 0.8}
    for alpha, corners in faces.items():
        axes.add_patch(Polygon(corners, alpha=alpha, **look))
    middle = left + (_width(block) + depth) / 2
    place = {"ha": "center", "va": "top"}
    axes.text(middle, -1.25, _shape(block), fontsize=8, weight="bold", color=INK, **place)
    weights = f"\n{_short(block.num_parameters)} weights" if block.num_parameters else ""
    look = {"fontsize": 7, "color": MUTED, "linespacing": 1.3}
    axes.text(middle, -1.47, block.title + weights, **place, **look)
    return right + depth


def _shape(block: Block) -> str:
    return (
        f"{block.side} × {block.side} × {block.channels}" if block.side else f"{block.channels:,}"
    )


def _described(blocks: Sequence[Block]) -> str:
    return ", then ".join(
        f"{block.title.replace(chr(10), ' ')} ({_shape(block)})" for block in blocks
    )


def _short(number: int) -> str:
    for size, sign in ((1_000_000, " M"), (1_000, " k")):
        if number >= size:
            return f"{number / size:.3g}{sign}"
    return str(number)
