"""The event log of a search, `journal.jsonl`: one line an event, flushed before the next step.

The log is the only record: trials and the state of the method are restored by reading it. It is our
own because Optuna's storages cannot hold grids, halving, KerasTuner's Hyperband or sampler states.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from lib import files, paths
from lib.errors import DarkroomError
from lib.runs import Run

NAME = "journal.jsonl"
BEGUN, SESSION, ASKED = "begun", "session", "asked"
REPORTED, TOLD, ENDED = "reported", "told", "ended"
"""Kinds of events: the search with its key, a process that continues it, a trial's proposal, its
epochs and its outcome, the end."""

_MOVED = ("trials", "retrain", "probe")


class EventLog:
    """The events of one search; without a folder they are kept in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / NAME
        self.events: list[dict[str, Any]] = [] if self.path is None else _read(self.path)

    def add(self, kind: str, **about: Any) -> dict[str, Any]:
        """Appends an event with the time; returns it when it is on disk."""
        event = {"event": kind, **about, "time": round(time.time(), 3)}
        if self.path is not None:
            line = json.dumps(event, ensure_ascii=False, allow_nan=False)
            files.append_line(self.path, line)
        self.events.append(event)
        return event

    def begin(self, key: dict[str, Any], *, slots: int) -> None:
        """Starts a session of the search with this key, which runs `slots` trials at once.

        Raises DarkroomError if the log is that of another search.
        """
        key = json.loads(json.dumps(key))  # as it will be read
        if not self.events:
            self.add(BEGUN, key=key)
        known = self.events[0].get("key", {})
        changed = [name for name in {**known, **key} if known.get(name) != key.get(name)]
        if changed:
            changes = ", ".join(
                f"{name}: {known.get(name)!r} → {key.get(name)!r}" for name in sorted(changed)
            )
            raise DarkroomError(
                f"{self.path.parent if self.path else 'Memory'} holds a different search "
                f"({changes[:600]}). Use another study or arm for this one, or delete that folder."
            )
        self.add(SESSION, slots=slots)

    def seconds(self) -> float:
        """Returns the time of all sessions together, each up to its last event."""
        total = 0.0
        for event, later in itertools.pairwise(self.events):
            if later["event"] != SESSION:
                total += max(0.0, later["time"] - event["time"])
        return total


@contextlib.contextmanager
def lock(folder: Path | None) -> Iterator[None]:
    """Locks the search in `folder`, if any. Raises DarkroomError if another process has it."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(folder / ".lock", is_singleton=False)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        raise DarkroomError(
            f"Another process is searching in {folder}. Wait until it ends, or stop it."
        ) from None
    try:
        yield
    finally:
        held.release()


def resume(run: Run, key: dict[str, Any]) -> str:
    """Copies the latest search with this key from a run that was moved aside; returns a message.

    A run is moved aside when any of its parameters change, but a larger budget or other seeds for
    the retraining change no trial. Returns "" if the run has a search or there is none to copy.
    """
    if (run.folder / NAME).exists():
        return ""
    place = run.folder.relative_to(paths.logs())
    moved = (paths.logs() / ".earlier" / place.parent).glob(f"{place.name}-[0-9]*")
    for earlier in sorted(moved, reverse=True):
        if not _has_key(earlier / NAME, key):
            continue
        checkpoints = paths.checkpoints() / earlier.relative_to(paths.logs())
        copies = [(earlier / name, run.folder / name) for name in _MOVED]
        for source, target in [(checkpoints, run.checkpoint_folder), *copies]:
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
        for path in run.folder.rglob("events.out.earlier.*"):  # renamed when it was moved aside
            path.rename(path.with_name(path.name.replace("earlier", "tfevents", 1)))
        shutil.copy2(earlier / NAME, run.folder / NAME)  # last: without it nothing counts
        return f"Continuing the search of {earlier.name}, which is equal to this one."
    return ""


def _has_key(path: Path, key: dict[str, Any]) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return json.loads(file.readline())["key"] == json.loads(json.dumps(key))
    except (OSError, ValueError, KeyError):
        return False


def _read(path: Path) -> list[dict[str, Any]]:
    """All whole events. A torn last line is cut off, so that the next event is not glued to it."""
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
                f"Line {number} of {path} is not valid: the file is damaged. Restore it from a "
                "copy, or delete its folder."
            ) from None
    return events
