"""One trial as its objective sees it, and what an objective must be.

An objective is any importable function `objective(values, work)`. It returns the score, or a
mapping of numbers that holds every goal; whatever else is in it is kept with the trial. It may
report after each epoch, and stops when it is told to.
"""

from __future__ import annotations

import importlib
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.errors import DarkroomError
from lib.runs import failure

Objective = Callable[[dict[str, Any], "Work"], Any]


@dataclass
class Work:
    """What an objective is given besides the values.

    `epochs` is how far to train in all; `start` how far the trial's checkpoints have come when it
    goes on with another. `context` is what the search hands to every trial. `folder` and
    `checkpoint_folder` (shared by a chain of trials that go on with each other) are None where
    nothing is written.
    """

    number: int
    epochs: int
    start: int
    context: Mapping[str, Any]
    folder: Path | None = None
    checkpoint_folder: Path | None = None
    tell: Callable[[dict[str, float]], bool] = lambda row: False
    goals: tuple[str, ...] = ()
    stopped: bool = field(default=False, init=False)

    def report(self, epoch: int, **numbers: float) -> bool:
        """Tells what an epoch (1-based) has brought, the goals among it; returns True when the
        trial shall stop there.
        """
        self.stopped = self.tell({"epoch": epoch, **numbers}) or self.stopped
        return self.stopped


def find(name: str) -> Objective:
    """Returns the function that `module:function` names. Raises DarkroomError when there is none."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DarkroomError(
            "`objective` must name an importable function as 'module:function'. Received: "
            f"{name!r} ({error})."
        ) from None


def do(objective: Objective, values: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """Returns what came of a trial: `state` (finished, stopped or failed), `numbers`, and the
    `failure` where it failed.

    No error of the objective gets out: it is an outcome.
    """
    try:
        numbers = _numbers(objective(dict(values), work), work.goals)
    except MemoryError as error:
        return failed("out of memory", type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the search goes on
        name, message = type(error).__name__, str(error).strip().partition("\n")[0][:500]
        return failed(
            failure.of_exception(name, message),
            name,
            message,
            traceback.format_exc().splitlines()[-20:],
        )
    return {"state": "stopped" if work.stopped else "finished", "numbers": numbers, "failure": None}


def failed(
    kind: str, exception: str, message: str, told: list[str] | None = None
) -> dict[str, Any]:
    """Returns the outcome of a trial that failed; `kind` is a class of `lib.runs.failure`."""
    about = {"kind": kind, "exception": exception, "message": message, "traceback": told or []}
    return {"state": "failed", "numbers": {}, "failure": about}


def _numbers(found: Any, goals: tuple[str, ...]) -> dict[str, Any]:
    numbers = dict(found) if isinstance(found, Mapping) else {goals[0]: found}
    for goal in goals:
        if goal == "seconds":
            continue  # measured from outside
        if goal not in numbers or isinstance(numbers[goal], str):
            told = ", ".join(map(str, numbers)) or "nothing"
            raise DarkroomError(f"The objective must return {', '.join(goals)}. Received: {told}.")
        numbers[goal] = float(numbers[goal])
        if not math.isfinite(numbers[goal]):
            raise FloatingPointError(f"{goal} is {numbers[goal]}")
    return numbers
