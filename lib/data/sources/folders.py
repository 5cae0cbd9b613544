"""Class folders: `<class>/*`, also below `train/`, `test/`, `val/`, and below one wrapping folder
such as `images/`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.data import file_listing
from lib.data.sources import naming

NAME = "folders"
ABOUT = "a folder for each class"
LICENCE = None
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
}
"""Folder names that are a source's own split, lower case, and what we call it."""


def rows(raw: Path) -> pd.DataFrame:
    """Returns one row for every file below `raw`; see `label`."""
    return label(file_listing.files(raw))


def label(found: list[file_listing.Found]) -> pd.DataFrame:
    """Returns one row a file: the label is its class folder's name, the split that of the folder
    above or below it.

    A name counts as a split only where every folder beside it is one too, so a class may be called
    `train`. Files that lie in no class folder have no label. Class names "Make Model Type Year"
    also give `attr_*` (see `naming`).
    """
    parts = [tuple(file.path.split("/")[:-1]) for file in found]
    depth = _wrapping(parts)
    inner = [part[depth:] for part in parts]
    inner, splits = _take_split(inner, 0)
    if not any(splits):
        inner, splits = _take_split(inner, 1)
    labels = [part[0] if part else None for part in inner]
    told = pd.DataFrame(
        {"path": [file.path for file in found], "label": labels, "source_split": splits}
    )
    return pd.concat([told, naming.columns(labels)], axis=1)


def _wrapping(parts: list[tuple[str, ...]]) -> int:
    """How many outer folders hold everything and nothing but folders: `images/<class>/*` has one."""
    depth = 0
    while True:
        names = {part[depth] for part in parts if len(part) > depth}
        inside = [part for part in parts if len(part) > depth]
        own_split = any(name.casefold() in SPLITS for name in names)
        if len(names) != 1 or own_split or any(len(part) == depth + 1 for part in inside):
            return depth
        depth += 1


def _take_split(
    parts: list[tuple[str, ...]], level: int
) -> tuple[list[tuple[str, ...]], list[str | None]]:
    """Takes the split's name out of each path at `level`, where all names of that level are splits."""
    names = {part[level] for part in parts if len(part) > level}
    deep_enough = all(len(part) > level for part in parts if part)
    if not names or not deep_enough or any(name.casefold() not in SPLITS for name in names):
        return parts, [None] * len(parts)
    splits = [SPLITS[part[level].casefold()] if len(part) > level else None for part in parts]
    return [part[:level] + part[level + 1 :] for part in parts], splits
