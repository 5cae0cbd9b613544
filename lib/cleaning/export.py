"""A clean copy of a data set: the accepted files in class folders that any tool can read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from lib import files, paths
from lib.cleaning.findings import ENDINGS
from lib.data.dataset import Dataset
from lib.data.sources import checks
from lib.errors import DarkroomError

_FORBIDDEN = re.compile(
    r'[<>:"/\\|?*\x00-\x1f]'
)  # what Windows refuses, so that the copy can travel


def export(dataset: Dataset, target: Path, *, by_split: bool = False) -> int:
    """Copies the accepted files to `target/<label>/` and returns how many there were; raw files are
    only read.

    With `by_split` the source's own split becomes the outer folder: `target/train/<label>/`. A
    wrong extension is corrected, and files of one name are numbered. The copy is written aside and
    renamed, so `target` is complete or absent.

    Raises DarkroomError when `target` exists or is inside the data set, when a file
    changed since it was cleaned, and when the disk has no room.
    """
    target = paths.typed(target).resolve()
    if target.exists():
        raise DarkroomError(
            f"{target} exists and is not overwritten; give a folder that does not exist yet."
        )
    if target.is_relative_to(dataset.raw.resolve()):
        raise DarkroomError(
            f"{target} is inside the raw files, which are never written; give a folder elsewhere."
        )
    table = dataset.accepted()
    if by_split and table["source_split"].isna().all():
        raise DarkroomError(
            f"The data set {dataset.name!r} has no split of its own; export it without the split."
        )
    checks.room(target, needed=int(table["bytes"].sum()), what=f"the clean copy of {dataset.name}")
    taken: set[str] = set()
    with files.directory(target) as aside:
        for row in table.itertuples():
            data = (dataset.raw / row.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != row.sha256:
                raise DarkroomError(
                    f"{row.path} has changed since it was cleaned; run `darkroom clean "
                    f"{dataset.name}` again."
                )
            split = (
                "unsplit"
                if row.source_split != row.source_split or row.source_split is None
                else row.source_split
            )
            place = Path(split, _safe(row.label)) if by_split else Path(_safe(row.label))
            file = aside / place / _free(place, _named(row.path, row.format), taken)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return len(table)


def _safe(label: str) -> str:
    plain = _FORBIDDEN.sub("_", str(label)).strip().rstrip(".")
    return (
        f"_{plain}" if not plain or plain.startswith(".") else plain
    )  # a folder with a dot in front is passed over


def _named(path: str, format: str) -> str:
    name = _FORBIDDEN.sub("_", path.rsplit("/", 1)[-1])
    stem, _, ending = name.rpartition(".")
    right = ENDINGS[format]
    return name if ending.lower() in right else f"{stem or ending}.{right[0]}"


def _free(place: Path, name: str, taken: set[str]) -> str:
    """The name, numbered where the folder has it already; case does not count, since some disks do
    not tell it apart.
    """
    stem, _, ending = name.rpartition(".")
    number, chosen = 1, name
    while str(place / chosen).casefold() in taken:
        number += 1
        chosen = f"{stem} ({number}).{ending}"
    taken.add(str(place / chosen).casefold())
    return chosen
