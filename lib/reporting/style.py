"""The style of all figures: colour-blind-safe colours, fonts, alt texts.

A figure is a `Drawing`: matplotlib's Figure plus `.alt`, its numbers as one or two sentences. It
shows itself in a notebook with that text, and writes the text into the PNG or SVG it is saved as
(`alt_of` reads it back), so no figure is ever without it.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito, Color Universal Design (2008), without its yellow, which is too pale for lines on
# white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5F4B8B", "#000000")
RIGHT, WRONG = COLOURS[0], COLOURS[1]
INK, MUTED, FAINT, PAPER = "#1F2933", "#5B6770", "#E3E7EB", "#FFFFFF"
ON_DARK = "#FEFEFE"
"""Text on a coloured area: these stay as they are when a page is dark."""
AXIS = "#A7B0B8"
_DARK = {
    INK: "#E6EAED", MUTED: "#A3AFB8", FAINT: "#2B343B", PAPER: "#14181C", AXIS: "#5B6770",
    "#0072B2": "#56B4E9", "#D55E00": "#FF8C32", "#009E73": "#2FCB9F", "#5F4B8B": "#B8A4E3",
    "#000000": "#FFFFFF",
}  # fmt: skip
"""Colours of a figure on a dark page."""
MAX_PIXELS = 6_000
"""Longest side of a figure in pixels; a larger one is drawn with fewer pixels an inch."""
DPI = 192
"""Two pixels for each pixel of a page, so that figures are sharp on every screen."""
PART_COLOURS = {
    **{"train": COLOURS[0], "val": COLOURS[4], "test": COLOURS[1]},
    **{"keep": COLOURS[2], "review": COLOURS[4], "reject": COLOURS[1]},
}
"""Of the parts of a class: by split, or by the verdict of cleaning."""

_PREFERRED_FONTS = """
DejaVu Sans, Noto Sans, Noto Sans CJK JP, Noto Sans CJK SC, Noto Sans JP, Noto Sans SC, Noto
Sans KR, WenQuanYi Micro Hei, IPAexGothic, Hiragino Sans, PingFang SC, Apple SD Gothic Neo,
Microsoft YaHei, Yu Gothic, Malgun Gothic, Arial Unicode MS, Noto Sans Arabic, Noto Sans
Hebrew, Noto Sans Devanagari, Noto Sans Thai, Noto Sans Symbols, Noto Sans Symbols2, Noto
Emoji, Symbola, Segoe UI Emoji, Segoe UI Symbol
"""
_LONGEST = 28
_LARGEST_SVG = 900_000


class Drawing(Figure):
    """A figure in the house style; `alt` says in words what it shows. A notebook shows the PNG file
    `saved`, where there is one, so that a figure of a run is drawn once.
    """

    def __init__(self, width: float, height: float, *, title: str = "", alt: str = "") -> None:
        with matplotlib.rc_context(settings()):
            super().__init__(figsize=(width, height), layout="constrained", facecolor=PAPER)
            set_title(self, title)
        self.alt = alt
        self.saved: Path | None = None

    def draw(self, renderer: Any) -> None:
        """Draws; ticks that matplotlib makes as late as this get the house style too."""
        with matplotlib.rc_context(settings()):
            super().draw(renderer)

    def savefig(self, fname: str | os.PathLike | io.BytesIO, **options: Any) -> None:
        """Saves as matplotlib does, with `alt` in the file's own description."""
        name = fname if isinstance(fname, str | os.PathLike) else options.get("format", "png")
        key = {"png": "Description", "svg": "Description", "pdf": "Subject"}.get(
            str(name).rsplit(".", 1)[-1].lower()
        )
        if key:
            options["metadata"] = {key: self.alt} | (options.get("metadata") or {})
        options["dpi"] = self._bounded(options.get("dpi") or DPI)
        with matplotlib.rc_context(settings()):
            super().savefig(fname, **options)

    def png(self, *, dpi: int = DPI) -> bytes:
        """The figure as PNG."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()

    def svg(self) -> str:
        """The figure as SVG, sharp at every size, in the colours of a light or a dark page.

        The colours follow the reader's setting through a style sheet inside the file.
        """
        buffer = io.BytesIO()
        self.savefig(buffer, format="svg")
        text = buffer.getvalue().decode("utf-8")
        text = text[text.index("<svg") :]
        light, dark = [], []
        for colour, other in _DARK.items():
            variable = f"--c{colour[1:].lower()}"
            text = text.replace(colour.lower(), f"var({variable})")
            light.append(f"{variable}:{colour}")
            dark.append(f"{variable}:{other}")
        sheet = (
            f"<style>:root{{{';'.join(light)}}}"
            f"@media (prefers-color-scheme:dark){{:root{{{';'.join(dark)}}}}}</style>"
        )
        end = text.index(">") + 1
        return text[:end] + sheet + text[end:]

    def embedded(self) -> dict[str, str]:
        """Returns the figure as the attributes of an `img`: `src`, `alt` and `width`."""
        width = str(int(self.get_figwidth() * 96))
        return {"src": self.data_uri(), "alt": self.alt, "width": width}

    def data_uri(self) -> str:
        """The figure as the address of an embedded picture: SVG, or PNG where that is smaller."""
        text = self.svg()
        if len(text) <= _LARGEST_SVG:
            return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
        return "data:image/png;base64," + base64.b64encode(self.png()).decode()

    def _bounded(self, dpi: float) -> float:
        longest = max(self.get_figwidth(), self.get_figheight()) * dpi
        return dpi * min(1.0, MAX_PIXELS / longest)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        content = self.saved.read_bytes() if self.saved else self.png()
        picture = base64.b64encode(content).decode()
        size = {"width": int(self.get_figwidth() * 96), "alt": self.alt}
        return {"image/png": picture, "text/plain": self.alt}, {"image/png": size}


def settings() -> dict[str, Any]:
    """matplotlib's settings of the house style."""
    return {
        "font.family": list(families()),
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 10,
        "axes.edgecolor": AXIS,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.8,
        "lines.linewidth": 2,
        "lines.solid_capstyle": "round",
        "xtick.color": AXIS,
        "ytick.color": AXIS,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "svg.fonttype": "path",
    }


def in_style(draw: Callable[..., Drawing]) -> Callable[..., Drawing]:
    """Makes a function draw in the house style."""

    @functools.wraps(draw)
    def styled(*args: Any, **options: Any) -> Drawing:
        with matplotlib.rc_context(settings()):
            return draw(*args, **options)

    return styled


@cache
def families() -> tuple[str, ...]:
    """The preferred font families that this machine has; DejaVu Sans comes with matplotlib and is
    always first.
    """
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in re.split(r",\s+", _PREFERRED_FONTS.strip()) if name in there)


@cache
def _drawable() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset().union(*(get_font(findfont(name)).get_charmap() for name in families()))


def label(text: str, *, most: int = _LONGEST) -> str:
    """`text` as the fonts of this machine can draw it, at most `most` characters, shortened in the
    middle.

    Characters without a glyph are spelt: ":cat:" for an emoji, the sound of a kana or Hangul
    syllable, "⟨732B⟩" for what has no name of its own; control characters are escaped. Nothing is
    ever a box.
    """
    spelt: list[str] = []
    characters = unicodedata.normalize("NFC", str(text))
    for is_unnamed, part in itertools.groupby(characters, lambda one: _spelt(one) is None):
        if is_unnamed:
            spelt.append(f"⟨{'·'.join(f'{ord(character):04X}' for character in part)}⟩")
        else:
            spelt += map(_spelt, part)
    whole = "".join(spelt)
    if len(whole) <= most:
        return whole
    head = (most - 1) * 2 // 3
    return f"{whole[:head]}…{whole[-(most - 1 - head) :]}"


def wrapped(text: str, *, width: int = 26) -> str:
    """`label` in lines of at most `width` characters, so that a name is not cut."""
    lines = textwrap.wrap(label(text, most=3 * width), width, break_on_hyphens=False)
    return "\n".join(lines)


def alt_of(path: Path) -> str:
    """The alt text inside a PNG that a `Drawing` was saved as; "" where there is none."""
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get("Description", ""))


def set_title(drawing: Drawing, text: str) -> None:
    """Writes the title at the drawing's left edge, in as many lines as its width asks for."""
    if text:
        lines = textwrap.wrap(label(text, most=140), max(16, int(drawing.get_figwidth() / 0.108)))
        drawing.suptitle(
            "\n".join(lines), x=0.012, ha="left", fontsize=11.5, fontweight="bold", color=INK
        )


def show_percent(*shares: Axis) -> None:
    """Makes the ticks of axes of shares percent, with decimals only where they differ."""
    for axis in shares:
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 4):g} %"))


def logarithmic(*axes: Axis) -> None:
    """Makes axes logarithmic, with plain numbers at the ticks, and 2 and 5 of each decade where
    there are at most three.
    """
    for axis in axes:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def name_bars(axes: Axes, names: Sequence[str], *, fontsize: float = 9) -> None:
    """Names the horizontal bars at 0, 1, …, from below."""
    axes.set_yticks(range(len(names)), names, fontsize=fontsize)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="x")


def line(index: int, num_points: int) -> dict[str, Any]:
    """The colour and marks of one of several curves, so that they differ not by colour alone."""
    mark = {"marker": "os^DvPX*"[index % 8], "markersize": 4.5}
    return {"color": colour(index), "markevery": max(1, num_points // 8), **mark}


def colour(index: int) -> str:
    """The colour of the arm at this place; after eight they come again, so figures also use place
    and label.
    """
    return COLOURS[index % len(COLOURS)]


def _spelt(character: str) -> str | None:
    # None: a character that neither the fonts nor a short name can show.
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return repr(character)[1:-1]
    if ord(character) in _drawable():
        return character
    if category in ("Cf", "Mn"):
        return ""  # joiners and variation selectors have no shape of their own
    name = unicodedata.name(character, "")
    plain = unicodedata.normalize("NFKD", character)
    if plain != character and all(ord(part) in _drawable() for part in plain):
        return plain
    if category == "So":
        return f":{name.lower().replace(' ', '_')}:"
    words = name.split()
    return words[-1].lower() if words[-2:-1] in (["LETTER"], ["SYLLABLE"]) else None
