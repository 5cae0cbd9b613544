"""Execution of one run: a Dask worker provides its resources, a pooled process runs papermill."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib import files, paths, processes, runs
from lib.batch import kernel, machine
from lib.batch.dask_executor import work_environment
from lib.batch.machine import Share
from lib.errors import DarkroomError
from lib.runs import failure, record
from lib.runs.failure import Failure

STOP = ".stop"
"""A file of this name in the study's folder lets no further run begin."""
OUTPUT = "output.log"
"""The output of a run's cells, with `--log-output`."""
MAX_RUNS = 50
"""Runs after which the process that drives their kernels is replaced."""

_GRACE_S = 30.0
_BUSY_S = 20.0


@dataclass(frozen=True)
class Job:
    """One run to be done."""

    notebook: str
    """Path of the notebook."""
    folder: str
    """The run's folder."""
    parameters: dict[str, Any]
    key: dict[str, Any]
    resume: str = ""
    """The command that continues the study."""
    time_limit_s: float | None = None
    memory_bytes: int | None = None
    cwd: str = ""
    """The folder that relative paths in parameters start from."""
    output: str = ""
    """A second place for the executed notebook; any path that papermill can write to."""
    log_output: bool = False
    environment: dict[str, str] | None = None
    """All environment variables of the run; None leaves those of the process."""


class Busy(DarkroomError):
    """Another process works on the run."""


def execute(job: Job, share: Share, home: str) -> dict[str, Any]:
    """Does one run and returns `state` (finished, failed, killed, busy or queued), `seconds`,
    `failure`, `note`.

    Raises nothing for a run that fails: that is an outcome. Called on a Dask worker; `home` is the
    root folder, which all machines share.
    """
    started = time.monotonic()
    folder = Path(job.folder)
    if not folder.parent.parent.is_dir():
        raise DarkroomError(
            f"This machine does not see {folder.parent.parent}. Put DARKROOM_HOME on a folder that "
            "all machines share under the same path."
        )
    if job.memory_bytes is None:  # stop the run before the system must choose whom to kill
        job = replace(job, memory_bytes=int(0.9 * machine.total_memory()))
    state, failed, note = "finished", None, ""
    if (folder.parent.parent / STOP).exists():
        state = "queued"
    else:
        with work_environment(share, home) as (environment, wanted):
            environment |= kernel.template(environment)
            try:
                note = _run(replace(job, environment=environment), wanted)
            except Busy as busy:
                state = "busy"
                failed = {"kind": "code", "exception": "Busy", "message": str(busy)}
            except processes.WorkerDied as died:
                if not wanted():
                    state = "killed"
                else:
                    lost = Failure("kernel died", "DeadRun", f"the run's process {died.how}")
                    lost = replace(lost, output=died.output.splitlines()[-20:])
                    failure.write(folder, lost, resume=job.resume)
    if state == "finished" and not runs.finished(folder):
        state, failed = "failed", record.failure(folder)
    seconds = time.monotonic() - started
    return {"state": state, "seconds": seconds, "failure": failed, "note": note}


def _run(job: Job, wanted: Callable[[], bool]) -> str:
    limit = math.inf
    if job.time_limit_s is not None:
        limit = time.monotonic() + job.time_limit_s + _GRACE_S

    def should_stop(_: processes.Worker) -> bool:
        return not wanted() or time.monotonic() > limit

    until = time.monotonic() + _BUSY_S
    while True:
        try:
            return processes.call(run_notebook, job, should_stop=should_stop, max_calls=MAX_RUNS)
        except Busy:  # the process of a worker that was lost may not have died yet
            if time.monotonic() > until or not wanted():
                raise
            time.sleep(1)


def run_notebook(job: Job) -> str:
    """Has papermill execute a job's notebook into the run's folder; in a process of the pool.

    Returns what must be said of a run that is complete, such as an output that could not be
    written. The cause of a failure is in `failure.json`.

    Raises:
        Busy: another process works on the run.
    """
    if job.environment is not None:
        os.environ.clear()
        os.environ.update(job.environment)
    folder = Path(job.folder)
    values = {**job.parameters, **job.parameters.get("options", {})}
    try:
        with runs.acquire(folder):
            runs.prepare(folder, job.key, continue_run=bool(values.get("continue_run")))
    except DarkroomError as error:
        raise Busy(str(error)) from None
    _set_up_papermill(Path(folder.anchor))
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import papermill_io

    from lib.batch.papermill_engine import NAME, Supervision

    notebook = folder / "notebook.ipynb"
    log = folder / OUTPUT if job.log_output else Path(os.devnull)
    # `failure.json` says why a run has failed.
    with log.open("w", encoding="utf-8") as stream, contextlib.suppress(PapermillExecutionError):
        papermill.execute_notebook(
            _literal(job.notebook),
            _literal(str(notebook)),
            job.parameters,
            engine_name=NAME,
            progress_bar=False,
            stdout_file=stream,
            stderr_file=stream,
            start_timeout=120,
            cwd=job.cwd if job.cwd and Path(job.cwd).is_dir() else str(paths.root()),
            supervision=Supervision(folder, job.time_limit_s, job.memory_bytes, job.resume),
        )
    if job.output:
        try:
            papermill_io.write(notebook.read_text("utf-8"), job.output)
        except Exception as error:  # whatever a storage service's library raises
            why = f"{type(error).__name__}: {error}"
            return f"the notebook could not be written to {job.output} ({why})"
    return ""


@functools.cache
def _set_up_papermill(anchor: Path) -> None:
    """Prepares papermill in this process: our engine, and files of the disk at `anchor` written
    atomically, also those that papermill writes after the engine has ended.
    """
    # jsonschema, which nbformat imports, would spend 2.5 s on a grammar that nothing here needs.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from papermill.iorw import LocalHandler, papermill_io

    from lib.batch import papermill_engine

    class AtomicHandler(LocalHandler):
        def write(self, buf: str, path: str) -> None:
            files.write_text(Path(path), buf)

    papermill_io.register(str(anchor), AtomicHandler())
    processes.on_parent_death.append(papermill_engine.kill_kernels)


def prepare_notebook(notebook: str, target: Path, parameters: dict[str, Any]) -> None:
    """Writes a notebook with its parameters to `target`, without executing it."""
    _set_up_papermill(Path(target.anchor))
    import papermill

    target.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        _literal(notebook), _literal(str(target)), parameters, prepare_only=True, progress_bar=False
    )


def _literal(path: str) -> str:
    """Papermill fills in parameters between braces in a path."""
    return path.replace("{", "{{").replace("}", "}}")
