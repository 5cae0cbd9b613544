"""What lies on disk, as pages ask for it. A request names things; only names that a listing of ours
holds are opened.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import files, paths
from lib.errors import DarkroomError


@dataclass(frozen=True)
class Unit:
    """A run that has finished: where it lies and what it says of itself."""

    study: str
    stage: str
    unit: str
    folder: Path
    result: dict[str, Any]

    @property
    def id(self) -> str:
        """`<study>/<stage>/<unit>`, its place in every address."""
        return f"{self.study}/{self.stage}/{self.unit}"


def studies() -> list[str]:
    """Returns the names of all studies that have runs, the one that was written to last first."""
    folders = [
        path for path in _folders(paths.logs()) if any(True for _ in path.glob("*/*/key.json"))
    ]
    return [path.name for path in sorted(folders, key=lambda path: -path.stat().st_mtime)]


def units(study: str, *, stage: str | None = None) -> list[Unit]:
    """Returns the finished runs of a study, by stage and unit; only those of one stage where it is
    given.
    """
    found = []
    for folder in _folders(paths.logs() / _known(study)):
        if stage in (None, folder.name):
            found += [_read(study, folder.name, unit) for unit in _folders(folder)]
    return [each for each in found if each is not None]


def unit(study: str, stage: str, name: str) -> Unit:
    """Returns one finished run. Raises DarkroomError when there is none of that name."""
    folder = paths.run(study, stage, name)  # refuses what is no plain name
    found = (
        _read(study, stage, folder) if folder.is_dir() and _inside(folder, paths.logs()) else None
    )
    if found is None:
        raise DarkroomError(f"There is no finished run {study}/{stage}/{name}.")
    return found


def every(stage: str) -> list[Unit]:
    """Returns the finished runs of a stage over all studies, the newest first."""
    found = [each for study in studies() for each in units(study, stage=stage)]
    return sorted(found, key=lambda each: -(each.folder / "result.json").stat().st_mtime)


def figure(found: Unit, name: str) -> Path:
    """Returns the file of a run's figure. Raises DarkroomError for a name that the run's own
    listing does not hold.
    """
    path = found.folder / "figures" / name
    if (
        name not in found.result.get("figures", [])
        or not path.is_file()
        or not _inside(path, found.folder)
    ):
        raise DarkroomError("This run has no such figure.")
    return path


def reports(study: str) -> list[Unit]:
    """Returns the runs of a study that left a report to be read, by stage and unit."""
    return [each for each in units(study) if (each.folder / "report.html").is_file()]


def _known(study: str) -> str:
    paths.run(study, "stage", "unit")  # refuses what is no plain name
    if not (paths.logs() / study).is_dir():
        raise DarkroomError(f"There is no study {study!r} in logs/.")
    return study


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    here = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in here if not path.name.startswith("."))


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _read(study: str, stage: str, folder: Path) -> Unit | None:
    file = folder / "result.json"
    try:
        result = _result(file, file.stat().st_mtime_ns)
    except OSError:
        return None
    return Unit(study, stage, folder.name, folder, result) if isinstance(result, dict) else None


@functools.lru_cache(maxsize=4_096)
def _result(file: Path, _changed_ns: int) -> Any:
    return files.read_json(file)
