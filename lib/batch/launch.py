"""The work of a Dask worker: one run, given its share of the machine, watched, and ended when
nobody wants it any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib import runs
from lib.batch import failures, machine, pool, run, task
from lib.batch.failures import Failure
from lib.batch.machine import Share
from lib.batch.run import Job
from lib.errors import DarkroomError

STOP = ".stop"
"""A file of this name in the study's folder lets no further run begin."""

_GRACE_S = 30.0
_BUSY_S = 20.0


def execute(job: Job, share: Share, home: str) -> dict[str, Any]:
    """Runs one job to its end and returns `state` (finished, failed, killed, busy or queued),
    `seconds`, `failure`.

    Raises nothing for a run that fails: that is an outcome. `home` is the root folder, which all
    machines share.
    """
    started = time.monotonic()
    folder = Path(job.folder)
    if not folder.parent.parent.is_dir():
        raise DarkroomError(
            f"This machine does not see {folder.parent.parent}. Put DARKROOM_HOME on a folder that "
            "all machines share under "
            "the same path."
        )
    if (folder.parent.parent / STOP).exists():
        return {"state": "queued", "seconds": 0.0, "failure": None}
    if job.memory_bytes is None:  # stop the run before the system must choose whom to kill
        job = replace(job, memory_bytes=int(0.9 * machine.total_memory()))
    with task.begun(share, home) as (environment, wanted):
        job = replace(job, environment=environment)
        code, said = _process(job, wanted)
        while code == run.BUSY and time.monotonic() - started < _BUSY_S and wanted():
            time.sleep(1)  # the process of a worker that was lost has not died yet
            code, said = _process(job, wanted)
    return _outcome(job, code, said, cancelled=not wanted(), seconds=time.monotonic() - started)


def _process(job: Job, wanted: Callable[[], bool]) -> tuple[int, str]:
    """Has a runner do the job; returns its answer, or its exit code where it died, and what it said
    last.
    """
    limit = None if job.time_limit_s is None else time.monotonic() + job.time_limit_s + _GRACE_S
    return pool.ask(
        job.line(), lambda _: not wanted() or (limit is not None and time.monotonic() > limit)
    )


def _outcome(job: Job, code: int, said: str, *, cancelled: bool, seconds: float) -> dict[str, Any]:
    folder = Path(job.folder)
    if code == run.FINISHED and runs.finished(folder):
        return {"state": "finished", "seconds": seconds, "failure": None}
    if cancelled:
        return {"state": "killed", "seconds": seconds, "failure": None}
    if code == run.BUSY:
        return {
            "state": "busy",
            "seconds": seconds,
            "failure": {"kind": "code", "exception": "Busy", "message": said},
        }
    if code != run.FAILED or not (folder / "failure.json").exists():
        ending = (
            f"the run's process ended with {code}"
            if code >= 0
            else f"the run's process was killed by signal {-code}"
        )
        failures.write(
            folder,
            Failure("kernel died", "DeadRun", ending, output=said.splitlines()[-20:]),
            resume=job.resume,
        )
    return {
        "state": "failed",
        "seconds": seconds,
        "failure": json.loads((folder / "failure.json").read_text("utf-8")),
    }
