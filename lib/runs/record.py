"""The folder of a run: file names, reading, damage, and whether the run has finished.

Nothing else in `lib` spells these names. A run has finished where its `result.json`, which is
written last, can be read and fits the files whose SHA-256 it notes.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from lib import files, hashing, parameter_table, paths
from lib.errors import DarkroomError

STATES = ("queued", "running", "finished", "stale", "failed", "killed")

RESULT = "result.json"
REFUSED_RESULT = "result.refused.json"
FAILURE = "failure.json"
PROGRESS = "progress.json"
PARAMETERS = "parameters.json"
ENVIRONMENT = "environment.json"
KEY = "key.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.parquet"
NOTEBOOK = "notebook.ipynb"
FIGURES = "figures"
MODEL = "model.keras"
STUDY = "study.json"
"""In the folder of a study."""
_HASHED = (PREDICTIONS, HISTORY)
_PARTS = {
    "data": "the data",
    "inputs": "the runs it reads",
    "files": "files that its parameters name",
    "notebook": "the notebook",
    "code": "the code that decides its numbers",
}


def result(folder: Path) -> dict[str, Any] | None:
    """Returns the result of a finished run, or None where there is none that can be read and fits
    its files.
    """
    return None if damage(folder) else _content(folder)


def read(folder: Path) -> dict[str, Any]:
    """Returns the result of a finished run. Raises DarkroomError, which says why, where it has not
    finished.
    """
    problem = damage(folder)
    if problem:
        raise DarkroomError(f"The run {folder} has not finished: {problem}. Run its study again.")
    return _content(folder) or {}


def _content(folder: Path) -> dict[str, Any] | None:
    """What `result.json` holds; None where it is damaged or has been changed."""
    content = files.read_json(folder / RESULT)
    return hashing.unsealed(content) if isinstance(content, dict) else None


def finished(folder: Path, wanted: dict[str, Any] | None = None) -> bool:
    """Returns whether a run has finished; with a key, whether it finished with one that names the
    same numbers.
    """
    content = result(folder)
    return content is not None and (wanted is None or not changes(content.get("key") or {}, wanted))


TINY = "A tiny run, to see that everything works: its figures mean nothing."


def is_tiny(result: Mapping[str, Any]) -> bool:
    """Returns whether a result is that of a tiny run."""
    values = (result.get("key") or {}).get("parameters") or {}
    return bool(values.get("tiny"))


def damage(folder: Path) -> str:
    """Returns why a run does not count as finished, or "" where it does."""
    content = _content(folder)
    if content is None:
        return f"its {RESULT} is damaged" if (folder / RESULT).exists() else f"it has no {RESULT}"
    noted = content.get("files")  # runs of before noted none
    for name, expected in noted.items() if isinstance(noted, dict) else ():
        path = folder / name
        if not path.is_file():
            return f"its {name} is gone"
        stat = path.stat()
        if _sha256(path, stat.st_mtime_ns, stat.st_size) != expected:
            return f"its {name} is not the one that the run wrote"
    return ""


def hashes(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of the files that a result speaks of, for `result.json` to note."""
    return {name: hashing.file(folder / name) for name in _HASHED if (folder / name).is_file()}


def state(folder: Path) -> str:
    """Returns `queued`, `running`, `finished`, `failed` or `killed` (started, not finished, and no
    process works on it).

    Only its study can tell whether a finished run is `stale`.
    """
    if locked(folder):
        return "running"
    if result(folder) is not None:
        return "finished"
    if (folder / FAILURE).is_file():
        return "failed"
    return "killed" if (folder / PROGRESS).is_file() or (folder / RESULT).is_file() else "queued"


def parameters(folder: Path) -> dict[str, Any]:
    """Returns the parameters of a run under today's names, {} where they cannot be read."""
    content = _read(folder / PARAMETERS) or _read(folder / KEY).get("parameters", {})
    return parameter_table.renamed(content, folder.parent.name)


def progress(folder: Path) -> dict[str, Any]:
    """Returns how far a run is, as it noted last; {} where it noted nothing."""
    return _read(folder / PROGRESS)


def failure(folder: Path) -> dict[str, Any] | None:
    """Returns why a run failed, None where it did not."""
    return _read(folder / FAILURE) or None


def key(folder: Path) -> dict[str, Any] | None:
    """Returns the key that a run was started with, None where it never was."""
    return _read(folder / KEY) or None


def _read(path: Path) -> dict[str, Any]:
    content = files.read_json(path)
    return content if isinstance(content, dict) else {}


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns what differs between two keys, in words: `epochs 12 → 20`, `the data`; [] where they
    decide the same numbers.

    A parameter that the old key does not know yet had its default.
    """
    before, after = old.get("parameters", {}), new.get("parameters", {})
    today = parameter_table.of_stage(new.get("stage", ""))
    defaults = today.defaults() if today else {}
    words = [
        f"{name} {before.get(name)!r} → {after.get(name)!r}"
        for name in {**before, **after}
        if before.get(name, defaults.get(name)) != after.get(name, defaults.get(name))
    ]
    return words + [
        text for part, text in _PARTS.items() if (old.get(part) or None) != (new.get(part) or None)
    ]


def is_older(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Returns whether a run finished with older code, none of which decides its numbers."""
    return not changes(old, new) and old.get("lib") != new.get("lib")


def finished_runs(*stage_folders: Path) -> list[Path]:
    """Returns the folders of all finished runs in the folders of stages, sorted."""
    folders = [
        path.parent for folder in stage_folders for path in Path(folder).glob(f"[!.]*/{RESULT}")
    ]
    return sorted(folder for folder in folders if result(folder) is not None)


def study_info(study: str) -> dict[str, Any]:
    """Returns what batch wrote about a study (`question`, `published`, `command`, …); {} for
    notebooks opened by hand, and where that is damaged.
    """
    return hashing.unsealed(_read(paths.logs() / study / STUDY)) or {}


def prepare(folder: Path, wanted: dict[str, Any], *, keep_checkpoints: bool = False) -> bool:
    """Makes `folder` ready for a run with the key `wanted`; returns whether an interrupted one can
    go on there.

    A finished run, a damaged one, or one with another key is moved aside to `logs/.earlier/` with
    its checkpoints; with `keep_checkpoints` the new run gets a copy of them.
    """
    known = key(folder)
    resumable = known is not None and not changes(known, wanted) and not (folder / RESULT).exists()
    if folder.exists() and not resumable and known is not None:
        checkpoints = move_aside(folder)
        if keep_checkpoints and checkpoints is not None:
            shutil.copytree(checkpoints, paths.checkpoints() / folder.relative_to(paths.logs()))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / KEY, wanted)
    (folder / FAILURE).unlink(missing_ok=True)
    return resumable


def acquire(folder: Path) -> filelock.BaseFileLock:
    """Takes the lock of a run. Raises DarkroomError when another process holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(_lock_file(folder), is_singleton=False)
    try:
        lock.acquire(timeout=1, poll_interval=0.05)  # a reader of the state holds it for a moment
    except filelock.Timeout:
        raise DarkroomError(
            f"Another process works on the run {folder.name} in {folder.parent}. Wait for it, stop "
            "it, or give this run another study or arm."
        ) from None
    return lock


def locked(folder: Path) -> bool:
    """Returns whether a living process works on the run."""
    return held(_lock_file(folder))


def held(lock_file: Path) -> bool:
    """Returns whether a living process holds the lock of this file; a file that does not exist is
    not held.
    """
    if not lock_file.exists():
        return False
    lock = filelock.FileLock(lock_file, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # a read-only folder: no process works in it from here
        return False
    lock.release()
    return False


def move_aside(folder: Path) -> Path | None:
    """Moves a run and its checkpoints to `.earlier/`, where nothing reads them any more.

    Returns where the checkpoints are now, None where there are none.
    """
    place = folder.relative_to(paths.logs())
    # one name for both, to find them together
    name = f"{place.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns()}"
    for top in (paths.logs(), paths.checkpoints()):
        target = None
        if not (top / place).exists():
            continue
        target = top / ".earlier" / place.with_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        (top / place).rename(target)
        for events in target.rglob("events.out.tfevents.*"):  # TensorBoard would still show them
            events.rename(events.with_name(events.name.replace("tfevents", "earlier")))
    return target


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, changed_ns: int, size: int) -> str:
    return hashing.file(path)


def _lock_file(folder: Path) -> Path:
    # Outside of the folder, which may be moved; Windows forbids that while a file in it is open.
    return folder.with_name(f".{folder.name}.lock")
