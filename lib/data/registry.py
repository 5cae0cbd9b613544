"""The registered data sets: listed, renamed, forgotten, and relinked to a moved folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lib import files, paths
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.dataset import Dataset
from lib.errors import DarkroomError, suggest

FORGOTTEN = ".forgotten"
"""Folder of forgotten data sets; nothing is deleted."""

ENOUGH_FILES = 0.9
"""Share of the manifest's files that a folder must hold, of the same size, to be the
same data set.
"""


def overview() -> list[dict[str, Any]]:
    """Returns one row a data set: `name`, `from`, `raw` (None where it is gone), `files`, `kept`,
    `classes`.
    """
    rows = []
    for name in datasets.names():
        folder = paths.dataset(name)
        source = files.read_json(folder / datasets.SOURCE)
        source = source if isinstance(source, dict) else {}
        raw = folder / str(source.get("path") or "raw")
        row: dict[str, Any] = {"name": name, "from": source.get("from", source.get("kind"))}
        row |= {
            "raw": str(raw) if raw.is_dir() else None,
            "files": None,
            "kept": None,
            "classes": None,
        }
        try:
            table = manifest.read(folder, name=name)
            kept = table[table["verdict"] == "keep"]
            row |= {"files": len(table), "kept": len(kept), "classes": int(kept["label"].nunique())}
        except DarkroomError:
            pass  # not cleaned yet
        rows.append(row)
    return rows


def rename(name: str, new: str) -> None:
    """Gives a data set another name; runs that were made under the old one keep it.

    Raises DarkroomError when it is not there, or the new name is taken or none.
    """
    folder = _known(name)
    target = paths.dataset(new)
    if target.exists():
        raise DarkroomError(f"The name {new!r} is taken; choose another.")
    source = files.read_json(folder / datasets.SOURCE) or {}
    folder.rename(target)
    if source.get("from") == str(folder / "raw"):
        files.write_json(target / datasets.SOURCE, {**source, "from": str(target / "raw")})


def forget(name: str) -> Path:
    """Takes a data set out of the list and returns where its folder went; the pictures stay where
    they are.

    Raises DarkroomError when it is not there.
    """
    folder = _known(name)
    target = paths.datasets() / FORGOTTEN / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return target


def relink(name: str, place: Path) -> Dataset:
    """Points a data set to the folder that its pictures have moved to, and returns it.

    Raises DarkroomError unless the folder holds nine in ten of the manifest's files, of the same
    size.
    """
    folder, place = _known(name), place.expanduser().resolve()
    source = files.read_json(folder / datasets.SOURCE) or {}
    if not place.is_dir():
        raise DarkroomError(
            f"There is no folder {str(place)!r}; give the one that the pictures moved to."
        )
    if source.get("mode") == "copy":
        raise DarkroomError(
            f"The data set {name!r} has its own copy in {folder / 'raw'}; there is nothing to "
            "relink."
        )
    table = manifest.read(folder, name=name)
    table = table[table["bytes"] > 0]
    same = sum(
        _has_size(place / path, size)
        for path, size in zip(table["path"], table["bytes"], strict=True)
    )
    if same < ENOUGH_FILES * len(table):
        raise DarkroomError(
            f"The folder {place} holds {same:,} of the {len(table):,} files of {name!r}; it is "
            "another data set, which "
            f"darkroom clean {place} brings in."
        )
    files.write_json(
        folder / datasets.SOURCE, {**source, "path": place.as_posix(), "from": str(place)}
    )
    return datasets.load(name)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except (OSError, ValueError):
        return False


def _known(name: str) -> Path:
    there = datasets.names()
    if name not in there:
        raise DarkroomError(
            f"There is no data set {name!r}; there is "
            f"{', '.join(there) or 'none'}.{suggest(name, there)}"
        )
    return paths.dataset(name)
