"""The state of a study and of its runs, read from their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import files, paths, runs
from lib.errors import DarkroomError, suggest
from lib.runs import record


@dataclass(frozen=True)
class RunStatus:
    """The state of a run, one of `runs.STATES`; `changed` says why a finished run is stale."""

    stage: str
    name: str
    state: str
    progress: dict[str, Any]
    failure: dict[str, Any] | None = None
    changed: str = ""
    study: str = ""

    @property
    def id(self) -> str:
        """`<stage>/<unit>`, unique in the study."""
        return f"{self.stage}/{self.name}"

    def folder(self) -> Path:
        """Returns the run's folder."""
        return paths.run(self.study, self.stage, self.name)

    def line(self) -> str:
        """Returns the progress of a run, such as "epoch 3/12, val_accuracy 0.812"."""
        parts = []
        if self.progress.get("epoch"):
            phases = self.progress.get("phases", 1)
            phase = f"phase {self.progress.get('phase')} of {phases}, " if phases > 1 else ""
            epoch, epochs = self.progress["epoch"], self.progress.get("epochs", "?")
            parts.append(f"{phase}epoch {epoch}/{epochs}")
        elif self.progress.get("cell"):
            parts.append(f"cell {self.progress['cell']}/{self.progress.get('cells', '?')}")
        if isinstance(self.progress.get("value"), int | float):
            parts.append(f"{self.progress.get('metric', 'value')} {self.progress['value']:.4g}")
        if self.progress.get("note"):
            parts.append(str(self.progress["note"]))
        return ", ".join(parts)


def counts(rows: Iterable[RunStatus]) -> dict[str, int]:
    """Returns how many runs there are in each state, in the order of `runs.STATES`."""
    counted = Counter(row.state for row in rows)
    return {state: counted[state] for state in runs.STATES if counted[state]}


def spoken(counted: Mapping[str, int]) -> str:
    """Returns counts in words, such as "3 finished, 1 failed"."""
    return ", ".join(f"{number} {state}" for state, number in counted.items())


def place(failure: Mapping[str, Any]) -> str:
    """Returns where a run failed, such as "cell 3 (model.fit(…))"."""
    return (
        f"cell {failure['cell']} ({failure.get('source', '')})"
        if failure.get("cell")
        else "no cell"
    )


def folders() -> list[str]:
    """Returns the names of all studies that ran, sorted; notebooks opened by hand are one, too."""
    studies = paths.logs().glob(f"*/{record.STUDY}")
    by_hand = paths.logs().glob(f"*/*/*/{record.KEY}")
    names = {path.parent.name for path in studies} | {path.parents[2].name for path in by_hand}
    return sorted(name for name in names if not name.startswith("."))


def read(folder: str) -> dict[str, Any]:
    """Returns what `study.write` wrote, or the runs in the folder where that is damaged or gone.

    Raises DarkroomError for a study that never ran.
    """
    if content := record.study_info(folder):
        return content
    if folder not in (known := folders()):
        there = f"There is {', '.join(known)}." if known else "No study has been run here yet."
        raise DarkroomError(f"The study {folder!r} never ran.{suggest(folder, known)} {there}")
    stages: dict[str, dict[str, Any]] = {}
    for path in sorted((paths.logs() / folder).glob(f"*/*/{record.KEY}")):
        name = path.parents[1].name
        row = {"name": name, "units": [], "after": [], "upstream": []}
        stages.setdefault(name, row)["units"].append(path.parent.name)
    return {"question": "Notebooks run by hand", "stages": list(stages.values())}


def of_study(folder: str) -> list[RunStatus]:
    """Returns the status of every run of a study, in the study's order."""
    return [
        of_run(paths.run(folder, stage["name"], run))
        for stage in read(folder)["stages"]
        for run in stage["units"]
    ]


def of_run(folder: Path) -> RunStatus:
    """Returns the status of one run."""
    state, progress = runs.state(folder), record.progress(folder)
    if state == "running" and progress.get("state") != "running":
        progress = {}
    failed = record.failure(folder) if state == "failed" else None
    study, stage = folder.parent.parent.name, folder.parent.name
    return RunStatus(stage, folder.name, state, progress, failed, study=study)


def mark_interrupted(folder: Path) -> None:
    """Records that no process computes an interrupted run; clocks are not compared, since they
    differ between machines.
    """
    progress = record.progress(folder)
    if progress.get("state") == "running":
        files.write_json(folder / record.PROGRESS, {**progress, "state": "queued"})
