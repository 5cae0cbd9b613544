"""A search that was moved aside, though nothing has changed that a trial depends on, is taken up
again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lib import paths
from lib.runs import Run
from lib.tuning import event_log
from lib.tuning.plan import Plan

_KEPT = (event_log.NAME, "trials", "retrain", "probe")


def adopt(run: Run, plan: Plan) -> str:
    """Brings the newest search of the same plan back into a run that has none, and says so; else
    returns "".

    A run is moved aside when any of its parameters change, and a larger budget, or more seeds for
    the retraining, changes no trial. The copy that was moved aside stays.
    """
    if (run.folder / event_log.NAME).exists():
        return ""
    for earlier in reversed(_earlier(paths.logs(), run)):
        if not _is_of(earlier / event_log.NAME, plan):
            continue
        checkpoints = paths.checkpoints() / earlier.relative_to(paths.logs())
        for old, new in (
            (checkpoints, run.checkpoint_folder),
            *((earlier / name, run.folder / name) for name in _KEPT[1:]),
        ):
            if old.is_dir():
                shutil.copytree(old, new, dirs_exist_ok=True)
        for events in run.folder.rglob(
            "events.out.earlier.*"
        ):  # as they were called before they were moved
            events.rename(events.with_name(events.name.replace("earlier", "tfevents", 1)))
        shutil.copy2(
            earlier / event_log.NAME, run.folder / event_log.NAME
        )  # last: without it nothing counts
        return f"The search of {earlier.name}, which has the same plan, goes on here."
    return ""


def _earlier(top: Path, run: Run) -> list[Path]:
    place = run.folder.relative_to(paths.logs())
    return sorted((top / ".earlier" / place.parent).glob(f"{place.name}-[0-9]*"))


def _is_of(path: Path, plan: Plan) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return json.loads(file.readline())["key"] == json.loads(json.dumps(plan.key()))
    except (OSError, ValueError, KeyError):
        return False
