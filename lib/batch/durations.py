"""Durations of runs on this machine, recorded when they finish, and estimates from them.

`logs/.durations.json` holds the last durations of each kind of run. Runs are of one kind when their
notebook and their parameters are the same but for arm, study and seeds.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib import files, hashing, paths, schema
from lib.batch.parameter_grid import RunSpec

FILE = ".durations.json"
_KEPT = 5  # durations of each kind
_KINDS = 2000
_NOT_COSTLY = ("study", "arm", "seed", "split_seed", "learning_rate", "patience")


class Durations:
    """The noted durations, read once."""

    def __init__(self) -> None:
        content = files.read_json(_path())
        self._noted: dict[str, dict[str, Any]] = content if isinstance(content, dict) else {}

    def expected(self, run: RunSpec) -> float | None:
        """Returns the seconds that a run probably takes, or None when none like it has been run.

        A training that differs from a known one in its epochs alone is scaled by them.
        """
        if (known := self._noted.get(_kind(run))) is not None:
            return statistics.median(known["seconds"])
        epochs = _epochs(run)
        if epochs is None:
            return None
        family = _kind(run, without_epochs=True)
        scaled = [
            statistics.median(known["seconds"]) * epochs / known["epochs"]
            for known in self._noted.values()
            if known.get("family") == family and known.get("epochs")
        ]
        return statistics.median(scaled) if scaled else None

    def note(self, run: RunSpec, seconds: float) -> None:
        """Notes the duration of a run that has finished; a full disk is no reason to stop."""
        kind = _kind(run)
        earlier = self._noted.pop(kind, {}).get("seconds", [])
        self._noted[kind] = {
            "family": _kind(run, without_epochs=True),
            "epochs": _epochs(run),
            "seconds": [*earlier[1 - _KEPT :], round(seconds, 2)],
        }
        with contextlib.suppress(OSError):
            files.write_json(_path(), dict(list(self._noted.items())[-_KINDS:]))


def _epochs(run: RunSpec) -> int | None:
    """The epochs of a training, by default those of its strategy; None for other runs."""
    epochs = schema.with_strategy_defaults(run.parameters).get("epochs")
    return epochs if isinstance(epochs, int) else None


def _path() -> Path:
    return paths.logs() / FILE


def _kind(run: RunSpec, *, without_epochs: bool = False) -> str:
    left_out = {*_NOT_COSTLY, "epochs"} if without_epochs else set(_NOT_COSTLY)
    values: Mapping[str, Any] = run.parameters
    costly = {name: values[name] for name in sorted(values) if name not in left_out}
    return hashing.digest(run.stage, repr(costly))
