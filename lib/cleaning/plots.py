"""Figures of the findings of cleaning."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from lib.data import decode
from lib.data.decode import ImageError
from lib.reporting import plots, style

if TYPE_CHECKING:
    from lib.cleaning.clean import Cleaned
    from lib.reporting.style import Drawing

COLOURS = {"keep": style.COLOURS[2], "review": style.COLOURS[4], "reject": style.COLOURS[1]}
SIDE = 128
_COLUMN = 1.75  # inches of a thumbnail with its margin
_CHARACTERS = 30  # of a caption's line, at its size of letters


def counts(cleaned: Cleaned) -> Drawing:
    """Returns bars of how many files each finding touches, in the colour of its verdict."""
    table = cleaned.counts
    if table.empty:
        return plots.message("Cleaning found nothing that speaks against any file.")
    words = ", ".join(f"{row.Index} {row.files:,} ({row.verdict})" for row in table.itertuples())
    drawing, axes = _bars(
        len(table), "Files that a finding speaks of", alt=f"Files a finding: {words}."
    )
    colours = table["verdict"].map(COLOURS)
    bars = axes.barh(table.index, table["files"], height=0.66, color=colours)
    labels = [f"{row.files:,} {row.verdict}" for row in table.itertuples()]
    axes.bar_label(bars, labels, padding=4, fontsize=8.5)
    axes.set_xlim(right=table["files"].max() * 1.3)
    return drawing


def classes(cleaned: Cleaned) -> Drawing:
    """Returns bars of the files of each class, split into kept, to review and rejected."""
    table = cleaned.classes
    before, after = int(table["before"].sum()), int(table["after"].sum())
    alt = f"{len(table)} classes with {before:,} files before and {after:,} after cleaning."
    drawing, axes = _bars(len(table), "Files of each class, by verdict", alt=alt)
    places, left = np.arange(len(table)), np.zeros(len(table))
    for verdict, colour in COLOURS.items():
        axes.barh(places, table[verdict], left=left, height=0.66, color=colour, label=verdict)
        left += table[verdict].to_numpy()
    for place, row in enumerate(table.itertuples()):
        text = f"{row.before:,}" if row.before == row.after else f"{row.before:,} to {row.after:,}"
        axes.annotate(
            text, (row.before, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5
        )
    axes.set_yticks(places, [style.label(str(name)) for name in table.index])
    axes.set_xlim(right=max(1, left.max()) * 1.25)
    with matplotlib.rc_context(style.settings()):
        drawing.legend(loc="outside lower center", ncols=3)
    return drawing


def worst(cleaned: Cleaned, reason: str, *, number: int = 12) -> Drawing:
    """Returns thumbnails of the files that a finding speaks against most; what does not decode is a
    crossed frame.

    Raises ValueError when there is no such finding, naming those there are.
    """
    every = cleaned.findings[cleaned.findings["reason"] == reason].sort_values(["score", "path"])
    shown, files = every[:number], every["path"].nunique()
    if shown.empty:
        there = ", ".join(cleaned.counts.index) or "none"
        raise ValueError(
            f"there is no finding {reason!r} in {cleaned.dataset.name!r}; there is {there}."
        )
    captions = list(zip(shown["path"], shown["detail"], strict=True))
    rows = [captions[at : at + 6] for at in range(0, len(captions), 6)]
    many = (
        f"the worst {len(shown)} of {files:,} files"
        if files > len(shown)
        else f"{files:,} file" + "s" * (files > 1)
    )
    title = f"{reason} ({', '.join(sorted(every['verdict'].unique()))}): {many}"
    return _thumbnails(
        cleaned,
        rows,
        title,
        alt=f"The {len(shown)} worst files of {reason}: {', '.join(shown['path'])}.",
    )


def groups(cleaned: Cleaned, *, number: int = 6, most: int = 6) -> Drawing:
    """Returns the largest groups of duplicates, a row each, side by side with the class below every
    name.
    """
    table = cleaned.manifest[cleaned.manifest["pixels"].notna()]
    sizes = table["copy_group"].value_counts()
    chosen = (
        sizes[sizes > 1].sort_index().sort_values(ascending=False, kind="stable").index[:number]
    )
    if chosen.empty:
        return plots.message("No two pictures show the same.")
    members = [table[table["copy_group"] == one][:most] for one in chosen]
    rows = [
        list(zip(part["path"], part["label"].fillna("no label"), strict=True)) for part in members
    ]
    sizes_told = ", ".join(f"{sizes[one]:,}" for one in chosen)
    alt = f"The {len(rows)} largest groups of duplicates, of {sizes_told} files."
    return _thumbnails(cleaned, rows, "The largest groups of duplicates, a row each", alt=alt)


def _bars(number: int, title: str, *, alt: str) -> tuple:
    """A drawing, and its axes for horizontal bars of files, the first on top."""
    drawing = style.Drawing(6.8, max(2.0, 1.3 + 0.3 * number), alt=alt)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("files")
        axes.invert_yaxis()
        style.set_title(drawing, title)
    return drawing, axes


def _thumbnails(
    cleaned: Cleaned, rows: list[list[tuple[str, str]]], title: str, *, alt: str
) -> Drawing:
    """A row of thumbnails for each list of (path, what to write below the path), each whole, in a
    square of the same size.
    """
    width = max(max(map(len, rows)), 2)
    captions = [[_caption(path, text) for path, text in row] for row in rows]
    most = max(caption.count("\n") for row in captions for caption in row)
    drawing = style.Drawing(
        _COLUMN * width, (_COLUMN + 0.2 + 0.12 * most) * len(rows) + 0.4, alt=alt
    )
    grid = drawing.subplots(len(rows), width, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, row, below in zip(grid, rows, captions, strict=True):
        for axes, (path, _), caption in zip(line, row, below, strict=False):
            pixels = _thumbnail(cleaned, path)
            axes.imshow(pixels)
            height, breadth = pixels.shape[:2]
            axes.set(
                xlim=(breadth / 2 - SIDE / 2, breadth / 2 + SIDE / 2),
                ylim=(height / 2 + SIDE / 2, height / 2 - SIDE / 2),
            )
            axes.set_title(caption, fontsize=6.5, fontweight="normal", pad=3)
    with matplotlib.rc_context(style.settings()):
        style.set_title(drawing, title)
    return drawing


def _caption(path: str, text: str) -> str:
    """The path as `clean.decide` takes it, and the caption, wrapped to the thumbnail's width."""
    return "\n".join(
        [
            style.label(path, most=_CHARACTERS),
            *textwrap.wrap(style.label(text, most=120), _CHARACTERS),
        ]
    )


def _thumbnail(cleaned: Cleaned, path: str) -> np.ndarray:
    try:
        if cleaned.manifest.loc[cleaned.manifest["path"] == path, "pixels"].isna().all():
            raise ImageError("not_an_image", "it may be a pipe, whose reading never ends")
        pixels = cleaned.dataset.image(path).pixels
    except (OSError, ImageError):
        empty = np.full((SIDE, SIDE, 3), 235, np.uint8)
        empty[np.eye(SIDE, dtype=bool) | np.eye(SIDE, dtype=bool)[::-1]] = (
            120  # a cross: there is nothing to show
        )
        return empty
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    return decode.resize(
        pixels, height=max(1, round(height * scale)), width=max(1, round(width * scale))
    )
