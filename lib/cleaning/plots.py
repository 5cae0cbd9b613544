"""Figures of the findings of cleaning."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from lib.data import thumbnails
from lib.data.decode import ImageError
from lib.data.thumbnails import SIDE
from lib.reporting import run_figures

if TYPE_CHECKING:
    from lib.cleaning.clean import Cleaned
    from lib.reporting.style import Drawing

_COLUMNS, _ROWS = 6, 6
_CHARACTERS = 24  # of a caption's line


def counts(cleaned: Cleaned) -> Drawing:
    """Returns bars of how many files each finding touches, in the colour of its verdict."""
    table = cleaned.counts
    if table.empty:
        return run_figures.message("Cleaning found nothing that speaks against any file.")
    reasons = table.rename_axis("reason").reset_index()
    numbers = reasons.pivot(index="reason", columns="verdict", values="files").fillna(0).astype(int)
    drawing = run_figures.class_distribution(numbers, title="Files of each finding")
    drawing.axes[0].set_xlabel("files")
    words = ", ".join(f"{row.Index} {row.files:,} ({row.verdict})" for row in table.itertuples())
    drawing.alt = f"Files of each finding: {words}."
    return drawing


def classes(cleaned: Cleaned) -> Drawing:
    """Returns bars of the files of each class, split into kept, to review and rejected."""
    numbers = cleaned.classes[["keep", "review", "reject"]]
    return run_figures.class_distribution(numbers, title="Files of each class, by verdict")


def worst(cleaned: Cleaned, reason: str, *, number: int = 12) -> Drawing:
    """Returns thumbnails of the files that a finding speaks against most; what does not decode is
    crossed out.

    Raises ValueError when there is no such finding, naming those there are.
    """
    every = cleaned.findings[cleaned.findings["reason"] == reason].sort_values(["score", "path"])
    shown, files = every[:number], every["path"].nunique()
    if shown.empty:
        there = ", ".join(cleaned.counts.index) or "none"
        raise ValueError(
            f"there is no finding {reason!r} in {cleaned.dataset.name!r}; there is {there}."
        )
    some = f"the worst {len(shown)} of " if files > len(shown) else ""
    verdicts, plural = ", ".join(sorted(every["verdict"].unique())), "" if files == 1 else "s"
    title = f"{reason} ({verdicts}): {some}{files:,} file{plural}"
    captions = [_caption(row.path, row.detail) for row in shown.itertuples()]
    return run_figures.pictures(
        [_picture(cleaned, path) for path in shown["path"]], captions, title=title
    )


def groups(cleaned: Cleaned) -> Drawing:
    """Returns the largest groups of duplicates, a row each, with the class below every name."""
    table = cleaned.manifest[cleaned.manifest["pixels"].notna()]
    sizes = table["copy_group"].value_counts(sort=False).sort_index()
    chosen = sizes[sizes > 1].sort_values(ascending=False, kind="stable")[:_ROWS]
    if chosen.empty:
        return run_figures.message("No two pictures show the same.")
    pictures, captions, width = [], [], min(_COLUMNS, int(chosen.max()))
    for number in chosen.index:
        members = table[table["copy_group"] == number][:width].fillna({"label": "no label"})
        free = width - len(members)
        pictures += [*(_picture(cleaned, path) for path in members["path"]), *[None] * free]
        captions += [*map(_caption, members["path"], members["label"]), *[""] * free]
    title = "The largest groups of duplicates, a row each"
    drawing = run_figures.pictures(pictures, captions, title=title, num_columns=width)
    listed = ", ".join(f"{size:,}" for size in chosen)
    drawing.alt = f"The {len(chosen)} largest groups of duplicates, of {listed} files."
    return drawing


def _caption(path: str, text: str) -> str:
    """The path as `clean.decide` takes it, and the text below it."""
    return "\n".join([path, *textwrap.wrap(str(text), _CHARACTERS, max_lines=5)])


def _picture(cleaned: Cleaned, path: str) -> np.ndarray:
    manifest = cleaned.manifest
    try:
        if manifest.loc[manifest["path"] == path, "pixels"].notna().any():  # else it may be a pipe
            return thumbnails.of(cleaned.dataset, path)
    except (OSError, ImageError):
        pass  # it has gone since
    cross = np.eye(SIDE, dtype=bool) | np.eye(SIDE, dtype=bool)[::-1]
    return np.where(cross, 120, 235).astype(np.uint8)
