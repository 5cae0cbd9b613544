"""Failures of a run: their classes, and `failure.json`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from traceback import format_exception
from typing import Any

from lib import files
from lib.runs import record

CLASSES = {
    "parameter": "a parameter does not fit; change it in the study or with --set",
    "data": "the data are not what the notebook needs; see findings.html of the data set",
    "out of memory": "the run needed more memory than it may have; lower batch_size or image_side, "
    "or raise memory_gb",
    "time limit": "the run exceeded its stage's time_limit_minutes",
    "NaN": "numbers became infinite or undefined; lower learning_rate",
    "disk": "the disk is full, or a file or folder cannot be written",
    "kernel died": "the process ended without a message, as after a crash in native code or a kill "
    "from outside",
    "code": "the code raised an exception",
}
"""Every class of failure, with what it means for the user."""

_MEMORY = re.compile(
    r"out of memory|\bOOM\b|RESOURCE_EXHAUSTED|ResourceExhausted|bad_alloc|Unable to allocate",
    re.IGNORECASE,
)
_DATA = re.compile(r"data set|manifest|\bsplit\b|\bimages?\b|folder", re.IGNORECASE)
_DATA_ERRORS = ("FileNotFoundError", "EOFError", "UnidentifiedImageError", "ArrowInvalid")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """Why a run has no result. `cell` is the number in `In [ ]` of the executed notebook, None
    if no cell was running.
    """

    kind: str
    exception: str
    message: str
    cell: int | None = None
    source: str = ""
    """First line of the cell that is no comment."""
    traceback: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    """The last lines that the process itself wrote, such as a crash in native code leaves."""

    def sentence(self) -> str:
        """Returns the failure in one line."""
        where = f"cell {self.cell} ({self.source}): " if self.cell is not None else ""
        text = f"{self.exception}: {self.message}" if self.message else self.exception
        return f"{where}{text} [{self.kind}: {CLASSES[self.kind]}]"


def of_exception(exception: str, message: str) -> str:
    """Returns the class of an exception by its type's name and its message."""
    if (
        exception == "PermissionError"
        or "No space left" in message
        or "Read-only file system" in message
        or "Disk quota" in message
    ):
        return "disk"
    if exception == "MemoryError" or _MEMORY.search(f"{exception} {message}"):
        return "out of memory"
    if exception == "FloatingPointError" or re.search(
        r"\bnan\b|not a finite number", message, re.IGNORECASE
    ):
        return "NaN"
    if exception in _DATA_ERRORS or (exception == "DarkroomError" and _DATA.search(message)):
        return "data"
    return "parameter" if exception == "DarkroomError" else "code"


def of_cell(cell: dict[str, Any], *, exception: str, message: str, traceback: list[str]) -> Failure:
    """Returns the failure of a cell that raised."""
    lines = [line for line in "\n".join(traceback).splitlines() if line.strip()]
    return Failure(
        kind=of_exception(exception, message),
        exception=exception,
        message=_first_line(message),
        cell=cell.get("execution_count"),
        source=first_line(cell["source"]),
        traceback=[_COLOUR.sub("", line) for line in lines][-40:],
    )


def first_line(source: str) -> str:
    """Returns the first line of a cell that is no comment, at most 80 characters."""
    lines = [
        line.strip()
        for line in source.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    return (lines or [""])[0][:80]


def write(folder: Path, failure: Failure, *, resume: str = "") -> None:
    """Writes `failure.json` into a run's folder; a result that is there no longer counts."""
    result = folder / record.RESULT
    if result.exists():
        result.replace(folder / record.REFUSED_RESULT)
    content = {**asdict(failure), "resume": resume, "time": time.time()}
    files.write_json(folder / record.FAILURE, content)


def watch_cells(open_folder: Callable[[], Path | None]) -> None:
    """Makes IPython write `failure.json` when a cell raises while a run is open, whose folder
    `open_folder()` returns.

    Outside of IPython it does nothing.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return

    def note(result: Any) -> None:
        error, folder = result.error_in_exec, open_folder()
        if error is None or isinstance(error, KeyboardInterrupt) or folder is None:
            return
        cell = {"execution_count": result.execution_count, "source": result.info.raw_cell}
        traceback = format_exception(error)
        name = type(error).__name__
        write(
            folder,
            of_cell(cell, exception=name, message=str(error), traceback=traceback),
        )

    for registered in list(shell.events.callbacks["post_run_cell"]):
        if getattr(registered, "__qualname__", "") == note.__qualname__:
            shell.events.unregister("post_run_cell", registered)
    shell.events.register("post_run_cell", note)


def _first_line(message: str) -> str:
    return _COLOUR.sub("", message).strip().partition("\n")[0][:500]
