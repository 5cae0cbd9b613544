"""The journal of a search, `journal.jsonl`: one line an event, appended and flushed before anything
follows from it.

It is the truth. What a search knows, and what its method will propose next, is brought back by
reading it from the start.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from lib import files
from lib.errors import DarkroomError

NAME = "journal.jsonl"
BEGUN, SESSION, ASKED, REPORTED, TOLD, ENDED = (
    "begun",
    "session",
    "asked",
    "reported",
    "told",
    "ended",
)
"""The kinds of events: the project with its key, a process that goes on with it, and a trial's
proposal, epochs and outcome.
"""


class Journal:
    """The events of one search; without a folder they are kept in memory alone."""

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / NAME
        self.events: list[dict[str, Any]] = [] if self.path is None else _read(self.path)

    def add(self, kind: str, **about: Any) -> dict[str, Any]:
        """Appends an event with the time of day, and returns it when it is on the disk."""
        event = {"event": kind, **about, "time": round(time.time(), 3)}
        if self.path is not None:
            files.append_line(self.path, json.dumps(event, ensure_ascii=False, allow_nan=False))
        self.events.append(event)
        return event

    def begin(self, key: dict[str, Any]) -> bool:
        """Opens the project with this key; returns whether it had been begun before.

        Raises DarkroomError when the journal is that of another search.
        """
        key = json.loads(json.dumps(key))  # as it will be read
        if not self.events:
            self.add(BEGUN, key=key)
        known = self.events[0].get("key", {})
        if changed := [name for name in {**known, **key} if known.get(name) != key.get(name)]:
            told = ", ".join(
                f"{name}: {known.get(name)!r} → {key.get(name)!r}" for name in sorted(changed)
            )
            raise DarkroomError(
                f"The search in {self.path.parent if self.path else 'memory'} is another one "
                f"({told[:600]}). Its trials do not "
                "count for this one: give this one another study or arm, or delete that folder."
            )
        self.add(SESSION)
        return any(event["event"] == ASKED for event in self.events)

    def seconds(self) -> float:
        """Returns how long the search has been at work, all sessions together, up to the last event
        of each.
        """
        total, began, last = 0.0, None, 0.0
        for event in self.events:
            if event["event"] == SESSION:
                total += max(0.0, last - began) if began is not None else 0.0
                began = event["time"]
            last = event["time"]
        return total + (max(0.0, last - began) if began is not None else 0.0)


@contextlib.contextmanager
def holding(folder: Path | None) -> Iterator[None]:
    """Holds the search in `folder`, if there is one, against every other process. Raises
    DarkroomError when one has it.
    """
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DarkroomError(
            f"Another process searches in {folder} now. Wait for it, or stop it there."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _read(path: Path) -> list[dict[str, Any]]:
    """All whole events; what a dying disk left of a last line is cut off, or the next line would be
    glued to it.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        files.write_bytes(path, whole)
    events = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            events.append(json.loads(line))
        except ValueError:
            raise DarkroomError(
                f"Line {number} of {path} is no event: the file is damaged. Put it back from a "
                "copy, or delete its folder."
            ) from None
    return events
