"""Diagram of a network: a box a layer or stage, with its shape and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

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


class Block(Protocol):
    """A box of the diagram; `lib.models.layer_summary.Block` is one."""

    kind: str
    """input, maps, vector or head."""
    title: str
    side: int
    """Height and width of the maps; 0 for vectors."""
    channels: int
    num_parameters: int


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
