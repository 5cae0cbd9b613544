"""A trial in its process: the context of an objective, and the record of its outcome.

An objective is any importable function `objective(values, trial)`. It returns the score, or a
mapping that holds every goal; further numbers are kept with the trial. After each epoch it may call
`trial.report`, and stops if that returns True.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from lib import files, hashing
from lib.errors import DarkroomError
from lib.runs import failure

OUTCOME, EPOCHS, STOP = "outcome.json", "epochs.jsonl", "stop"
"""Files of a trial's folder: its outcome, one line an epoch, and a request to stop."""

_LOCK_S = 20.0


@dataclass
class TrialContext:
    """The context of an objective.

    `epochs` is where training ends, `initial_epoch` where a promoted trial's checkpoints are.
    `settings` is the same for all trials of the search. `folder`, and `checkpoint_folder`, which
    a promoted trial shares with its parent, are None if nothing is written.
    """

    number: int
    epochs: int
    initial_epoch: int
    settings: Mapping[str, Any]
    folder: Path | None = None
    checkpoint_folder: Path | None = None
    on_epoch: Callable[[dict[str, float]], bool] = lambda row: False
    goals: tuple[str, ...] = ()
    stopped: bool = field(default=False, init=False)

    def report(self, epoch: int, **numbers: float) -> bool:
        """Reports an epoch (1-based) with its numbers; returns whether the trial should stop."""
        self.stopped = self.on_epoch({"epoch": epoch, **numbers}) or self.stopped
        return self.stopped


Objective = Callable[[dict[str, Any], TrialContext], Any]


@dataclass(frozen=True)
class Job:
    """A trial to compute; all fields are JSON."""

    objective: str
    number: int
    values: dict[str, Any]
    epochs: int
    initial_epoch: int
    goals: list[str]
    folder: str
    checkpoint_folder: str
    settings: dict[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """Returns a digest of the job, by which its outcome is recognised."""
        return hashing.digest(json.dumps(asdict(self)))


def import_objective(name: str) -> Objective:
    """Returns the function named `module:function`. Raises DarkroomError if there is none."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DarkroomError(
            "`objective` must name an importable function as 'module:function'. "
            f"Received: {name!r} ({error})."
        ) from None


def run_objective(job: Job, on_epoch: Callable[[dict[str, float]], bool]) -> dict[str, Any]:
    """Returns the outcome of a trial: `state` (finished, stopped or failed), `numbers`, `failure`
    and `seconds`.

    An exception of the objective becomes a failure; the search continues.
    """
    objective, began = import_objective(job.objective), time.monotonic()
    trial = TrialContext(
        job.number,
        job.epochs,
        job.initial_epoch,
        job.settings,
        Path(job.folder) if job.folder else None,
        Path(job.checkpoint_folder) if job.checkpoint_folder else None,
        on_epoch=on_epoch,
        goals=tuple(job.goals),
    )
    try:
        numbers = _numbers(objective(dict(job.values), trial), trial.goals)
        state = "stopped" if trial.stopped else "finished"
        outcome = {"state": state, "numbers": numbers, "failure": None}
    except MemoryError as error:
        outcome = failed("out of memory", type(error).__name__, str(error))
    except Exception as error:
        name, message = type(error).__name__, str(error).strip().partition("\n")[0][:500]
        lines = traceback.format_exc().splitlines()[-20:]
        outcome = failed(failure.of_exception(name, message), name, message, lines)
    return {**outcome, "seconds": round(time.monotonic() - began, 3)}


def failed(
    kind: str, exception: str, message: str, lines: list[str] | None = None
) -> dict[str, Any]:
    """Returns the outcome of a failed trial; `kind` is a class of `lib.runs.failure`."""
    about = {"kind": kind, "exception": exception, "message": message, "traceback": lines or []}
    return {"state": "failed", "numbers": {}, "failure": about}


def run_job(job: Job) -> None:
    """Computes a trial and writes its outcome, unless the outcome is there already.

    The outcome is on disk before this returns, so a killed search does not compute it again.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The process that computed the trial when the search was killed may still be running.
    with filelock.FileLock(folder / ".lock", timeout=_LOCK_S, is_singleton=False):
        if read_outcome(job) is not None:
            return
        outcome = run_objective(job, lambda row: _append_epoch(folder, row))
        files.write_json(folder / OUTCOME, {**outcome, "job": job.digest()})
    _release_memory()


def read_outcome(job: Job) -> dict[str, Any] | None:
    """Returns the outcome of exactly this job, or None if there is none."""
    try:
        outcome = json.loads((Path(job.folder) / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) and outcome.get("job") == job.digest() else None


def reopen(job: Job) -> None:
    """Withdraws a stop request and its outcome, and that of a full disk; the trial continues from
    its checkpoints.
    """
    (Path(job.folder) / STOP).unlink(missing_ok=True)
    outcome = read_outcome(job) or {}
    is_full = (outcome.get("failure") or {}).get("kind") == "disk"
    if is_full or outcome.get("state") == "stopped":
        (Path(job.folder) / OUTCOME).unlink()


def _numbers(returned: Any, goals: tuple[str, ...]) -> dict[str, Any]:
    numbers = dict(returned) if isinstance(returned, Mapping) else {goals[0]: returned}
    for goal in goals:
        if goal == "seconds":
            continue  # measured by the search
        if goal not in numbers or isinstance(numbers[goal], str):
            received = ", ".join(map(str, numbers)) or "nothing"
            raise DarkroomError(
                f"The objective must return {', '.join(goals)}. Received: {received}."
            )
        numbers[goal] = float(numbers[goal])
        if not math.isfinite(numbers[goal]):
            raise FloatingPointError(f"{goal} is {numbers[goal]}")
    return numbers


def _append_epoch(folder: Path, row: dict[str, float]) -> bool:
    # One short write; if a kill loses it, the epoch is computed again.
    with (folder / EPOCHS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return (folder / STOP).exists()


def _release_memory() -> None:
    """Frees what a trial leaves: Keras' graphs and names, and memory that the allocator holds."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=False)
    _forget_gradients()
    gc.collect()
    _freeze_libraries()
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # musl has none
            trim(0)


@functools.cache
def _freeze_libraries() -> None:
    """Once, after the first trial; otherwise each collection scans all objects of TensorFlow."""
    gc.freeze()


def _forget_gradients() -> None:
    """Removes custom gradients from TensorFlow's registry.

    Keras' optimizers sum gradients by a function with a custom gradient. TensorFlow registers it
    under a new name each time, and with it the graph of the step: 6 MB for each small network.
    """
    framework = sys.modules.get("tensorflow.python.framework.ops")
    registry = getattr(getattr(framework, "gradient_registry", None), "_registry", {})
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
