"""What cleaning found, as figures in the house style."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lib.data import images
from lib.data.images import ImageError
from lib.evaluation import style

if TYPE_CHECKING:
    from lib.cleaning.clean import Cleaned
    from lib.evaluation.style import Drawing

COLOURS = {"keep": style.COLOURS[2], "review": style.COLOURS[4], "reject": style.COLOURS[1]}
SIDE = 128


def counts(cleaned: Cleaned) -> Drawing:
    """Returns bars of how many files each finding touches, in the colour of its verdict."""
    table = cleaned.counts
    if table.empty:
        return _sentence("Cleaning found nothing that speaks against any file.")
    told = ", ".join(f"{row.Index} {row.files:,} ({row.verdict})" for row in table.itertuples())
    drawing, axes = _bars(len(table), alt=f"Files a finding: {told}.")
    axes.barh(table.index, table["files"], color=table["verdict"].map(COLOURS))
    for at, (number, verdict) in enumerate(zip(table["files"], table["verdict"], strict=True)):
        axes.annotate(f"{number:,} {verdict}", (number, at), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.set_xlim(right=table["files"].max() * 1.3)
    axes.set_xlabel("files")
    axes.invert_yaxis()
    return drawing


def classes(cleaned: Cleaned) -> Drawing:
    """Returns bars of the files of each class, split into kept, to review and rejected."""
    table = cleaned.classes
    before, after = int(table["before"].sum()), int(table["after"].sum())
    drawing, axes = _bars(len(table), alt=f"{len(table)} classes with {before:,} files before and {after:,} after cleaning.")
    places, left = np.arange(len(table)), np.zeros(len(table))
    for verdict, colour in COLOURS.items():
        axes.barh(places, table[verdict], left=left, color=colour, label=verdict)
        left += table[verdict].to_numpy()
    for place, row in enumerate(table.itertuples()):
        text = f"{row.before:,}" if row.before == row.after else f"{row.before:,} to {row.after:,}"
        axes.annotate(text, (row.before, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.set_yticks(places, [style.label(str(name)) for name in table.index])
    axes.set_xlim(right=max(1, left.max()) * 1.25)
    axes.set_xlabel("files")
    axes.invert_yaxis()
    drawing.legend(loc="outside lower center", ncols=3)
    return drawing


def worst(cleaned: Cleaned, reason: str, *, number: int = 12) -> Drawing:
    """Returns thumbnails of the files that a finding speaks against most; what does not decode is a crossed frame.

    Raises ValueError when there is no such finding, naming those there are.
    """
    found = cleaned.findings[cleaned.findings["reason"] == reason].sort_values(["score", "path"])[:number]
    if found.empty:
        there = ", ".join(cleaned.counts.index) or "none"
        raise ValueError(f"there is no finding {reason!r} in {cleaned.dataset.name!r}; there is {there}.")
    told = list(zip(found["path"], found["detail"], strict=True))
    rows = [told[at : at + 6] for at in range(0, len(told), 6)]
    return _thumbnails(cleaned, rows, alt=f"The {len(found)} worst files of {reason}: {', '.join(found['path'])}.")


def groups(cleaned: Cleaned, *, number: int = 6, most: int = 6) -> Drawing:
    """Returns the largest groups of duplicates, a row each, side by side with the class below every name."""
    table = cleaned.manifest[cleaned.manifest["pixels"].notna()]
    sizes = table["group"].value_counts()
    chosen = sizes[sizes > 1].sort_index().sort_values(ascending=False, kind="stable").index[:number]
    if chosen.empty:
        return _sentence("No two pictures show the same.")
    members = [table[table["group"] == one][:most] for one in chosen]
    rows = [list(zip(part["path"], part["label"].fillna("no label"), strict=True)) for part in members]
    sizes_told = ", ".join(f"{sizes[one]:,}" for one in chosen)
    return _thumbnails(cleaned, rows, alt=f"The {len(rows)} largest groups of duplicates, of {sizes_told} files.")


def _bars(number: int, *, alt: str) -> tuple:
    drawing = style.Drawing(8, max(1.6, 0.9 + 0.3 * number), alt=alt)
    return drawing, drawing.subplots()


def _sentence(text: str) -> Drawing:
    drawing, axes = _bars(1, alt=text)
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
    return drawing


def _thumbnails(cleaned: Cleaned, rows: list[list[tuple[str, str]]], *, alt: str) -> Drawing:
    """A row of thumbnails for each list of (path, what to write below the file's name)."""
    width = max(map(len, rows))
    drawing = style.Drawing(1.75 * max(width, 2), 2.15 * len(rows), alt=alt)
    grid = drawing.subplots(len(rows), width, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, row in zip(grid, rows, strict=True):
        for axes, (path, told) in zip(line, row, strict=False):
            axes.imshow(_thumbnail(cleaned, path))
            title = f"{style.label(path.rsplit('/', 1)[-1], most=24)}\n{style.label(told, most=30)}"
            axes.set_title(title, fontsize=6.5, fontweight="normal", pad=3)
    return drawing


def _thumbnail(cleaned: Cleaned, path: str) -> np.ndarray:
    try:
        if cleaned.manifest.loc[cleaned.manifest["path"] == path, "pixels"].isna().all():
            raise ImageError("not_an_image", "it may be a pipe, whose reading never ends")
        pixels = images.decode((cleaned.dataset.raw / path).read_bytes()).pixels
    except (OSError, ImageError):
        empty = np.full((SIDE, SIDE, 3), 235, np.uint8)
        empty[np.eye(SIDE, dtype=bool) | np.eye(SIDE, dtype=bool)[::-1]] = 120  # a cross: there is nothing to show
        return empty
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    return images.resize(pixels, height=max(1, round(height * scale)), width=max(1, round(width * scale)))
