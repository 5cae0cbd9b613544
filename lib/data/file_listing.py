"""Lists the files of a raw folder, with a problem for those that cannot be read."""

# ruff: noqa: SIM905  word lists read best as text
from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"})
"""Files of operating systems, which are skipped, as are files whose name starts with a dot."""

HIDDEN_LITTER = frozenset(
    ".git .svn .hg .dvc .cache .huggingface .ipynb_checkpoints .idea .vscode .thumbnails .trash "
    ".trashes "
    ".spotlight-v100 .fseventsd .temporaryitems .appledouble .venv .tox .pytest_cache".split()
)
"""Hidden folders that programs keep for themselves; pictures of a data set lie in none of them."""

_HIDDEN_PICTURE = re.compile(
    r"\.[^_.].*\.(jpe?g|png|tiff?|bmp|gif|webp)", re.IGNORECASE
)  # `._x.jpg` is a note of macOS


@dataclass(frozen=True)
class ListedFile:
    """One file of a raw folder. `path` is relative and POSIX; `problem` says why the file cannot be
    read, or is None.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    problem: str | None = None
    detail: str = ""


def files(
    raw: Path,
    *,
    leave_out: Iterable[str] = (),
    links: str | None = None,
    hidden: Literal["skip", "report", "use"] = "skip",
) -> list[ListedFile]:
    """Returns every file below `raw`, sorted by path; what cannot be read is in the list too, with
    its problem.

    Problems: `unreadable` (no permission, deleted meanwhile, broken link), `link_folder` and
        `link_outside` (a link to a folder, or to a file outside `raw`), `special` (pipe, socket,
        device), `name_not_text` (a name that is not UTF-8; the path then shows it as `\\xe9`),
        `hidden` (in a folder whose name starts with a dot).

    Args:
        raw: the folder.
        leave_out: entries directly in `raw` that are not part of the data.
        links: None follows no link that leads out; `follow` follows all; a folder follows those
            that lead below it.
        hidden: whether files in hidden folders are skipped, reported as a problem, or used.
    """
    base, left_out = os.fspath(raw), frozenset(leave_out)
    listed: list[ListedFile] = []
    folders: list[tuple[str, bool, frozenset[str]]] = [("", False, frozenset())]
    while folders:
        folder, is_hidden, linked = folders.pop()
        try:
            with os.scandir(os.path.join(base, folder)) as scan:  # noqa: PTH118  strings: this runs for every file
                entries = list(scan)
        except OSError as error:
            listed.append(
                ListedFile(_readable(folder) or ".", problem="unreadable", detail=_reason(error))
            )
            continue
        for entry in entries:
            name = entry.name
            if name.casefold() in LITTER or (not folder and name in left_out):
                continue
            path = f"{folder}/{name}" if folder else name
            if entry.is_dir(follow_symlinks=False):
                if not name.startswith("."):
                    folders.append((path, is_hidden, linked))
                elif hidden != "skip" and name.casefold() not in HIDDEN_LITTER:
                    folders.append((path, hidden == "report", linked))
            elif name.startswith("."):
                if hidden == "skip" or not _HIDDEN_PICTURE.fullmatch(name):
                    continue
                listed.append(_look(entry, path, raw, links, hidden=hidden))
            elif links is not None and (target := _linked_folder(entry, links)) is not None:
                if target not in linked:  # else the link leads back to a folder above itself
                    folders.append((path, is_hidden, linked | {target}))
            else:
                listed.append(
                    _look(entry, path, raw, links, hidden="report" if is_hidden else "use")
                )
    return sorted(listed, key=lambda item: item.path)


def _look(
    entry: os.DirEntry[str], path: str, raw: Path, links: str | None, *, hidden: str
) -> ListedFile:
    name = _readable(path)
    try:
        if entry.is_symlink():
            problem, detail = _link_problem(Path(entry.path), raw, links)
            if problem:
                return ListedFile(name, problem=problem, detail=detail)
        elif not entry.is_file(follow_symlinks=False):
            detail = "a pipe, socket or device, not a file"
            return ListedFile(name, problem="special", detail=detail)
        stat = entry.stat()
    except OSError as error:
        return ListedFile(name, problem="unreadable", detail=_reason(error))
    problem, detail = None, ""
    if name != path:
        problem, detail = "name_not_text", "rename the file so that its name is UTF-8"
    elif hidden == "report":
        problem, detail = "hidden", "its name, or that of a folder above, starts with a dot"
    return ListedFile(name, stat.st_size, stat.st_mtime_ns, problem, detail)


def _linked_folder(entry: os.DirEntry[str], links: str) -> str | None:
    """The folder that a link to a folder leads to, where it may be followed."""
    if not entry.is_symlink():
        return None
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    if not target.is_dir() or not _is_allowed(target, links):
        return None
    is_above = Path(entry.path).parent.resolve().is_relative_to(target)  # it would never end
    return None if is_above else str(target)


def _link_problem(link: Path, raw: Path, links: str | None) -> tuple[str | None, str]:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        return "unreadable", f"a link that leads nowhere ({_reason(error)})"
    way = "is not followed; copy it, or use the option links=follow"
    if target.is_dir():
        return "link_folder", f"a link to a folder {way}"
    if not target.is_relative_to(raw.resolve()) and not _is_allowed(target, links):
        return "link_outside", f"a link out of the data set {way}"
    return (None, "") if target.is_file() else ("special", "a link to something that is not a file")


def _is_allowed(target: Path, links: str | None) -> bool:
    if links is None:
        return False
    return links == "follow" or target.is_relative_to(Path(links).expanduser().resolve())


def _readable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
