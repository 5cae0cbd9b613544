"""The folder of a run: how it stands, who works on it, and how it is made ready for another run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import filelock

from lib import files, paths
from lib.errors import DarkroomError

STATES = ("queued", "running", "finished", "stale", "failed", "killed")


def finished(folder: Path, wanted: dict[str, Any] | None = None) -> bool:
    """Whether a run has finished; with a key, whether it finished with just that key."""
    result = files.read_json(folder / "result.json")
    return result is not None and (wanted is None or result.get("key") == wanted)


def read(folder: Path) -> dict[str, Any]:
    """Returns a finished run's `result.json`. Raises DarkroomError where there is none."""
    result = files.read_json(folder / "result.json")
    if result is None:
        raise DarkroomError(
            f"The run {folder} has not finished: it has no readable result.json. Run its study "
            "again."
        )
    return result


def about(study: str) -> dict[str, Any]:
    """Returns what batch wrote about a study (`question`, `published`, `command`, …); empty for
    notebooks opened by hand.
    """
    return files.read_json(paths.logs() / study / "study.json") or {}


def state(folder: Path) -> str:
    """Returns `queued`, `running`, `finished`, `failed` or `killed` (started, not finished, and
    nobody works on it).

    Whether what has finished is `stale` by now, only the study can tell.
    """
    if locked(folder):
        return "running"
    for file, told in (
        ("result.json", "finished"),
        ("failure.json", "failed"),
        ("progress.json", "killed"),
    ):
        if (folder / file).is_file():
            return told
    return "queued"


def prepare(folder: Path, wanted: dict[str, Any]) -> bool:
    """Makes `folder` ready for a run with the key `wanted`; returns whether an interrupted one can
    go on there.

    A finished run, or one with another key, is moved aside to `logs/.earlier/` with its
    checkpoints, never overwritten.
    """
    known = files.read_json(folder / "key.json")
    resumable = known == wanted and not (folder / "result.json").exists()
    if folder.exists() and not resumable and known is not None:
        _move_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "key.json", wanted)
    (folder / "failure.json").unlink(missing_ok=True)
    return resumable


def acquire(folder: Path) -> filelock.BaseFileLock:
    """Takes the lock of a run. Raises DarkroomError when another process holds it."""
    lock = _lock(folder)
    try:
        lock.acquire(
            timeout=1, poll_interval=0.05
        )  # somebody who only asks how it stands holds it for a moment
    except filelock.Timeout:
        raise DarkroomError(
            f"Another process works on the run {folder.name} in {folder.parent} now. Wait for it, "
            "stop it, or give this "
            "one another study or arm."
        ) from None
    return lock


def locked(folder: Path) -> bool:
    """Whether a living process works on the run."""
    return held(_lock_file(folder))


def held(lock_file: Path) -> bool:
    """Whether a living process holds the lock that this file stands for; a file that is not there
    is nobody's.
    """
    if not lock_file.exists():
        return False
    lock = filelock.FileLock(lock_file, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def _lock_file(folder: Path) -> Path:
    # Beside the folder, because the folder itself may be moved, which Windows forbids while a file
    # in it is open.
    return folder.with_name(f".{folder.name}.lock")


def _lock(folder: Path) -> filelock.BaseFileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(_lock_file(folder), is_singleton=False)


def _move_aside(folder: Path) -> None:
    place = folder.relative_to(paths.logs())
    # one for both, so that they are found together
    name = f"{place.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns()}"
    for top in (paths.logs(), paths.checkpoints()):
        if not (top / place).exists():
            continue
        target = top / ".earlier" / place.with_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        (top / place).rename(target)
        for events in target.rglob(
            "events.out.tfevents.*"
        ):  # or TensorBoard would go on showing them
            events.rename(events.with_name(events.name.replace("tfevents", "earlier")))
