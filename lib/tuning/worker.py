"""Computes trials in a process of the pool.

What came of a trial lies in `outcome.json` of its folder before the call returns, so that a search
which was killed in between does not repeat it.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from lib import files, hashing
from lib.tuning import work
from lib.tuning.work import Work

OUTCOME, EPOCHS, STOP = "outcome.json", "epochs.jsonl", "stop"
"""Files of a trial's folder: what came of it, a line an epoch, and the wish that it stops after the
epoch it is at.
"""
_LOCK_S = 20.0


@dataclass(frozen=True)
class Job:
    """A trial to be computed; everything in it can be written as JSON."""

    objective: str
    number: int
    values: dict[str, Any]
    epochs: int
    start: int
    goals: list[str]
    folder: str
    checkpoint_folder: str
    context: dict[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """Returns the job as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    def digest(self) -> str:
        """Returns a digest of the job, by which its outcome is known again."""
        return hashing.digest(self.line().decode())


def do(job: Job) -> None:
    """Computes a trial and writes its outcome, unless that is there already."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The process that was at work on it when the search was killed may not have ended yet.
    with filelock.FileLock(folder / ".lock", timeout=_LOCK_S, is_singleton=False):
        if read(job) is not None:
            return
        told = Work(
            job.number,
            job.epochs,
            job.start,
            job.context,
            folder,
            Path(job.checkpoint_folder),
            tell=lambda row: _reported(folder, row),
            goals=tuple(job.goals),
        )
        began = time.monotonic()
        found = work.do(work.find(job.objective), job.values, told)
        found = {**found, "seconds": round(time.monotonic() - began, 3), "job": job.digest()}
        files.write_json(folder / OUTCOME, found)
    _tidy()


def read(job: Job) -> dict[str, Any] | None:
    """Returns the outcome of just this job, or None while there is none."""
    try:
        found = json.loads((Path(job.folder) / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found["job"] == job.digest() else None


def open_again(job: Job) -> None:
    """Takes back the wish that a trial stops, and what it laid down when it did; it goes on from
    its checkpoints.
    """
    (Path(job.folder) / STOP).unlink(missing_ok=True)
    if (read(job) or {}).get("state") == "stopped":
        (Path(job.folder) / OUTCOME).unlink()


def _reported(folder: Path, row: dict[str, float]) -> bool:
    with (folder / EPOCHS).open(
        "a", encoding="utf-8"
    ) as file:  # one short write; lost at worst, then it is computed again
        file.write(json.dumps(row) + "\n")
    return (folder / STOP).exists()


def _tidy() -> None:
    """Gives back what a trial has left: Keras' graphs and names, and what the allocator holds."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=False)
    _forget_gradients()
    gc.collect()
    _pass_over_libraries()
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # not on musl
            trim(0)


@functools.cache
def _pass_over_libraries() -> None:
    """Once, after the first trial: or the collector would look through all objects of TensorFlow
    after each one.
    """
    gc.freeze()


def _forget_gradients() -> None:
    """Keras' optimizers sum gradients by a function with a gradient of its own, which TensorFlow
    keeps for ever under a new name, and with it the graph of the whole step: 6 MB for each small
    network that is trained.
    """
    framework = sys.modules.get("tensorflow.python.framework.ops")
    registry = getattr(getattr(framework, "gradient_registry", None), "_registry", {})
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
