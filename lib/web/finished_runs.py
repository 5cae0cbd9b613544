"""Finished runs for the pages. Only listed names are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import paths
from lib.errors import DarkroomError
from lib.evaluation import predictions as predictions_
from lib.evaluation.predictions import Predictions
from lib.runs import record


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and the content of its result."""

    study: str
    stage: str
    name: str
    folder: Path
    result: dict[str, Any]

    @property
    def id(self) -> str:
        """`<study>/<stage>/<run>`, its place in every address."""
        return f"{self.study}/{self.stage}/{self.name}"

    @property
    def is_tiny(self) -> bool:
        """Whether it was a run of seconds, whose figures mean nothing."""
        return record.is_tiny(self.result)


def studies() -> list[str]:
    """Returns the names of all studies that have runs, the most recently changed first."""
    folders = [path for path in _folders(paths.logs()) if any(path.glob(f"*/*/{record.KEY}"))]
    return [path.name for path in sorted(folders, key=lambda path: -path.stat().st_mtime)]


def runs(study: str, *, stage: str | None = None) -> list[Run]:
    """Returns the finished runs of a study, or of one of its stages, by stage and name."""
    paths.run(study, "stage", "run")  # refuses what is no plain name
    if not (paths.logs() / study).is_dir():
        raise DarkroomError(f"There is no study {study!r} in logs/.")
    stages = [folder for folder in _folders(paths.logs() / study) if stage in (None, folder.name)]
    finished = [_read(study, folder.name, path) for folder in stages for path in _folders(folder)]
    return [run for run in finished if run is not None]


def run(study: str, stage: str, name: str) -> Run:
    """Returns one finished run. Raises DarkroomError when there is none of that name."""
    folder = paths.run(study, stage, name)
    content = None
    if folder.is_dir() and is_inside(folder, paths.logs()):
        content = _read(study, stage, folder)
    if content is None:
        raise DarkroomError(f"There is no finished run {study}/{stage}/{name}.")
    return content


def runs_of_stage(stage: str) -> list[Run]:
    """Returns the finished runs of a stage over all studies, the newest first."""
    finished = [run for study in studies() for run in runs(study, stage=stage)]
    return sorted(finished, key=lambda run: -(run.folder / record.RESULT).stat().st_mtime)


def figure_path(run: Run, name: str) -> Path:
    """Returns the file of a run's figure. Raises DarkroomError for a name not in its result."""
    path = run.folder / "figures" / name
    listed = name in run.result.get("figures", [])
    if not listed or not path.is_file() or not is_inside(path, run.folder):
        raise DarkroomError("This run has no such figure.")
    return path


def predictions(run: Run) -> Predictions:
    """Returns the predictions of a run."""
    return predictions_.read(run.folder / record.PREDICTIONS)


def before_data_changed(run: Run) -> Run | None:
    """Returns the last training that differs from a run in its data alone and was kept aside."""
    key = run.result.get("key") or {}
    aside = _folders(paths.logs() / ".earlier" / run.study / run.stage)
    named = [path for path in aside if path.name.rsplit("-", 3)[0] == run.name]
    for path in sorted(named, key=lambda path: path.name.rsplit("-", 1)[-1], reverse=True):
        earlier = _read(run.study, run.stage, path)
        known = (earlier and earlier.result.get("key")) or {}
        is_other = known.get("data") != key.get("data")
        if earlier and is_other and not record.changes(known | {"data": key.get("data")}, key):
            return earlier
    return None


def is_inside(path: Path, folder: Path) -> bool:
    """Returns whether a path, with its links resolved, lies in a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    here = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in here if not path.name.startswith("."))


def _read(study: str, stage: str, folder: Path) -> Run | None:
    result = record.result(folder)
    return None if result is None else Run(study, stage, folder.name, folder, result)
