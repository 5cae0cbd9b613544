"""The walk over a raw folder: which files there are, and what stands in the way of the others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"})
"""What operating systems leave in folders; it is passed over in silence, as is every name that
starts with a dot.
"""


@dataclass(frozen=True)
class Found:
    """One file of a raw folder. `path` is relative and POSIX; `problem` names why the file cannot
    be read, else None.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    problem: str | None = None
    detail: str = ""


def files(raw: Path, *, leave_out: Iterable[str] = ()) -> list[Found]:
    """Returns every file below `raw`, sorted by path; what cannot be read is in the list too, with
    its problem.

    Problems: `unreadable` (no permission, gone while we looked, broken link), `link_folder` (a link
        to a folder is never followed, so that loops end), `link_outside` (a link to a file outside
        `raw`), `special` (pipe, socket, device), `name_not_text` (bytes in the name that are not
        UTF-8; the path then shows them as `\\xe9`). `leave_out` names entries directly in `raw`
        that are not part of the data.
    """
    base, left_out = os.fspath(raw), frozenset(leave_out)
    found: list[Found] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(base, folder)) as scan:  # noqa: PTH118  strings: this runs for every file
                entries = list(scan)
        except OSError as error:
            found.append(Found(_shown(folder) or ".", problem="unreadable", detail=_why(error)))
            continue
        for entry in entries:
            if (
                entry.name.startswith(".")
                or entry.name.casefold() in LITTER
                or (not folder and entry.name in left_out)
            ):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                found.append(_look(entry, path, raw))
    return sorted(found, key=lambda item: item.path)


def _look(entry: os.DirEntry[str], path: str, raw: Path) -> Found:
    shown = _shown(path)
    try:
        if entry.is_symlink():
            problem, detail = _link(Path(entry.path), raw)
            if problem:
                return Found(shown, problem=problem, detail=detail)
        elif not entry.is_file(follow_symlinks=False):
            return Found(shown, problem="special", detail="a pipe, socket or device, not a file")
        stat = entry.stat()
    except OSError as error:
        return Found(shown, problem="unreadable", detail=_why(error))
    if shown != path:
        return Found(
            shown,
            stat.st_size,
            stat.st_mtime_ns,
            "name_not_text",
            "rename the file so that its name is UTF-8",
        )
    return Found(shown, stat.st_size, stat.st_mtime_ns)


def _link(link: Path, raw: Path) -> tuple[str | None, str]:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        return "unreadable", f"a link that leads nowhere ({_why(error)})"
    if target.is_dir():
        return (
            "link_folder",
            "a link to a folder is not followed; copy the folder here or refer to it itself",
        )
    if not target.is_relative_to(raw.resolve()):
        return "link_outside", "a link out of the data set is not followed; copy the file here"
    return (None, "") if target.is_file() else ("special", "a link to what is not a file")


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
