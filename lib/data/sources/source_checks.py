"""Checks that refuse an unusable folder in one sentence, before any work."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.data import decode
from lib.data.file_listing import ListedFile
from lib.data.sources import vocabulary
from lib.errors import DarkroomError

PROBED = 400
"""Largest number of files opened to find an image among them."""

_OTHER = tuple(f".{ending}" for ending in vocabulary.OTHER_ENDINGS)


def usable(rows: pd.DataFrame, *, where: Path) -> None:
    """Returns when there are at least two classes of at least two files each.

    `rows` as `sources.rows` returns them; `where` is what the message names.
    Raises DarkroomError otherwise.
    """
    if rows.empty:
        raise DarkroomError(
            f"The folder {where} is empty; expected one folder for each class with images in it."
        )
    readable = rows[rows["problem"].isna()]
    pictures = readable[~readable["path"].str.lower().str.endswith(_OTHER)]
    counts = pictures["label"].dropna().value_counts()
    if len(counts) < 2:
        there = (
            f"only the class {counts.index[0]!r}"
            if len(counts)
            else "images, but none in a class folder"
        )
        raise DarkroomError(
            f"The folder {where} holds {there}; a classifier needs at least two classes, a folder "
            "for each."
        )
    lonely = sorted(str(name) for name in counts.index[counts < 2])
    if lonely:
        raise DarkroomError(
            f"The class {lonely[0]!r} in {where} has only one image; a class needs at least two to "
            "be trained and tested, so add images or take its folder out."
        )


def room(folder: Path, *, needed: int, what: str) -> None:
    """Returns when the disk of `folder` has `needed` bytes and a tenth more. Raises DarkroomError
    otherwise.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed * 1.1:
        raise DarkroomError(
            f"Copying {what} needs {needed * 1.1 / 1e6:,.0f} MB, but the disk of {folder} has "
            f"{free / 1e6:,.0f} MB free; make room, or refer to a folder in place (copy=False)."
        )


def some_image(files: Sequence[ListedFile], *, where: Path, raw: Path) -> None:
    """Returns when a file whose name promises a picture holds one, or when no name promises any.

    Reads the first bytes of at most 400 files. Raises DarkroomError otherwise.
    """
    readable = [file for file in files if file.problem is None]
    promising = [file for file in readable if not file.path.lower().endswith(_OTHER)]
    probed = promising[:: max(1, len(promising) // PROBED)]
    if promising and all(decode.kind_of_file(raw / file.path) is None for file in probed):
        raise DarkroomError(
            f"None of the {len(files):,} files in {where} is an image; expected one folder for "
            "each class with images in it."
        )
