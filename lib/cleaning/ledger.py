"""`ledger.jsonl`: every decision about a data set, one line each, never changed or deleted.

A line holds `entry` (1, 2, ...), `at`, `by` (`clean`, or who decided by hand), `action` (clean,
label, verdict, undo), `changes` (a list of {path, before, after}) and, for an undo, `of`. The
acts that have not been undone apply, later ones over earlier ones and those by hand over automatic
ones. An undo is a line too, and can itself be undone.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lib import files, hashing
from lib.data import manifest
from lib.errors import DarkroomError

if TYPE_CHECKING:
    import pandas

FILE = "ledger.jsonl"
MACHINE = "clean"

_ends: dict[Path, tuple[int, int]] = {}
"""Ledger -> its size and number of entries after this process's last write."""


def read(folder: Path) -> list[dict[str, Any]]:
    """Returns all entries in order; a torn last line is skipped.

    Raises DarkroomError where a line is damaged, or where the manifest was written from more lines.
    """
    path = folder / FILE
    reflected = manifest.ledger_bytes(folder)
    if whole_bytes(folder) < reflected:
        raise DarkroomError(
            f"{path} is shorter than when {manifest.FILE} was written ({reflected:,} bytes): "
            "decisions are missing. Restore it from a backup. To clean the data set again without "
            f"them, delete {manifest.FILE} in the same folder."
        )
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if b"\\u" in line:  # half a character is no text: it could not be written again
                json.dumps(entry, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            if number == len(lines):  # without its line end: torn while it was written
                continue
            entry = None
        entry = hashing.unsealed(entry) if isinstance(entry, dict) else None
        if not _is_entry(entry):
            raise DarkroomError(
                f"Line {number} of {path} is damaged; restore the file from a backup."
            )
        entries.append(entry)
    return entries


def _is_entry(entry: Any) -> bool:
    kinds = {"entry": int, "at": str, "by": str, "action": str, "changes": list}
    if not _has(entry, kinds) or (entry["action"] == "undo" and not _has(entry, {"of": int})):
        return False
    return all(_has(row, {"path": str, "before": dict, "after": dict}) for row in entry["changes"])


def _has(record: Any, kinds: dict[str, type]) -> bool:
    is_record = isinstance(record, dict)
    return is_record and all(type(record.get(name)) is kind for name, kind in kinds.items())


def standing(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the acts that have not been undone, in order, without the undoing lines."""
    undone: set[int] = set()
    for entry in reversed(entries):  # a later undo may undo an earlier one
        if entry["action"] == "undo" and entry["entry"] not in undone:
            undone.add(entry["of"])
    acts = [entry for entry in entries if entry["action"] != "undo"]
    return [act for act in acts if act["entry"] not in undone]


def state(entries: list[dict[str, Any]], *, by_hand: bool = False) -> dict[str, dict[str, Any]]:
    """Returns path -> what the standing acts say about it (`verdict`, `reasons`, `label`); only
    those `by_hand` if so asked.
    """
    decisions: dict[str, dict[str, Any]] = {}
    for act in sorted(standing(entries), key=lambda act: act["by"] != MACHINE):
        if act["by"] != MACHINE or not by_hand:
            for change in act["changes"]:
                decisions.setdefault(change["path"], {}).update(change["after"])
    return decisions


def by_hand(folder: Path) -> pandas.DataFrame:
    """Returns the acts by hand that stand, one row a file: `entry`, `at`, `by`, `path`, `was` and
    `is`.
    """
    import pandas

    rows = [
        {
            "entry": act["entry"],
            "at": act["at"],
            "by": act["by"],
            "path": change["path"],
            "was": ", ".join(map(str, change["before"].values())),
            "is": ", ".join(map(str, change["after"].values())),
        }
        for act in standing(read(folder))
        if act["by"] != MACHINE
        for change in act["changes"]
    ]
    columns = ["entry", "at", "by", "path", "was", "is"]
    return pandas.DataFrame(rows, columns=columns).set_index("entry")


def append(
    folder: Path, *, by: str, action: str, changes: list[dict[str, Any]], **noted: Any
) -> dict[str, Any]:
    """Adds an act, flushed to the disk, and returns its entry.

    The file is not read again as long as no other process has written to it, so that deciding by
    keyboard takes the same time whatever the ledger's length.
    """
    path = folder / FILE
    with FileLock(folder / f".{FILE}.lock"):
        size, number = _ends.get(path, (-1, 0))
        if size != num_bytes(folder):
            entries = read(folder)
            number = len(entries)
            if path.is_file() and not path.read_bytes().endswith(b"\n"):
                files.write_text(path, "".join(_line(old) + "\n" for old in entries))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"entry": number + 1, "at": at, "by": by, "action": action, **noted}
        entry["changes"] = changes
        files.append_line(path, _line(entry))
        _ends[path] = num_bytes(folder), number + 1
    return entry


def size_of(entry: dict[str, Any]) -> int:
    """Returns the size in bytes of an entry's line."""
    return len(_line(entry).encode()) + 1


def num_bytes(folder: Path) -> int:
    """Returns the size of the ledger; 0 where there is none."""
    path = folder / FILE
    return path.stat().st_size if path.is_file() else 0


def whole_bytes(folder: Path) -> int:
    """Returns the size of the ledger without a torn last line; 0 where there is none."""
    size = num_bytes(folder)
    if not size:
        return 0
    with (folder / FILE).open("rb") as file:
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return size
    return (folder / FILE).read_bytes().rfind(b"\n") + 1


def undo(folder: Path, *, entry: int | None = None) -> dict[str, Any]:
    """Adds the undoing of `entry`, by default of the last act that stands, and returns the act that
    was undone.

    Raises DarkroomError when there is nothing to undo or no such standing act.
    """
    entries = read(folder)
    acts = {act["entry"]: act for act in standing(entries)}
    if not acts:
        raise DarkroomError(f"There is nothing to undo in {folder / FILE}.")
    number = max(acts) if entry is None else entry
    if number not in acts:
        there = ", ".join(map(str, sorted(acts)))
        raise DarkroomError(f"There is no act {number} to undo; those that stand are {there}.")
    append(folder, by="undo", action="undo", changes=[], of=number)
    return acts[number]


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(hashing.sealed(entry), ensure_ascii=False)
