"""The scheduler of a study: plans a stage when its predecessors have ended, submits its runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from lib import files, parameter_types, paths, runs
from lib.batch import notebook_job as jobs
from lib.batch import plan, status
from lib.batch import study as studies
from lib.batch.dask_executor import Executor, Outcome
from lib.batch.machine import Share
from lib.batch.notebook_job import Job
from lib.batch.plan import ENDED, Report, Step
from lib.batch.study import Stage, Study
from lib.errors import DarkroomError
from lib.runs.failure import of_exception

_LOCK, _HOLDER = ".lock", ".holder.json"
LEFT_OUT = "its stage was left out"
"""The reason of a run that the user has not asked for."""


class Scheduler:
    """One running study.

    Args:
        study: what is run.
        executor: computes the runs.
        view: gets every change by `event`, and a `tick` a few times a second.
        force: repeat runs that have finished.
        only: stages to run, all where empty; others count as they stand.
        command: the command that continues the study.
        output: a folder, possibly remote, to which the executed notebooks are written too.
        log_output: keep what the cells print.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor,
        view: Any,
        *,
        force: bool = False,
        only: Sequence[str] = (),
        command: str = "",
        output: str = "",
        log_output: bool = False,
    ) -> None:
        self.study, self.executor, self.view = study, executor, view
        self.force, self.command, self.output, self.log_output = force, command, output, log_output
        self.only = list(only) or [stage.name for stage in study.stages]
        self.report = Report(study, {run.id: "queued" for run in study.runs()})
        self._open = list(study.stages)
        self._specs = {run.id: run for run in study.runs()}
        self._keys: dict[str, dict[str, Any]] = {}
        self._interrupts = 0

    def run(self) -> Report:
        """Does all there is to do and returns what came of it. Raises DarkroomError when another
        process runs the study.
        """
        with holding(self.study), self._interruptible():
            studies.write(self.study, command=self.command)
            self._stop_file().unlink(missing_ok=True)
            self._release()
            while self.report.count("submitted"):
                for outcome in self.executor.poll(0.25):
                    self._note(outcome)
                    self._release()
                self.view.tick(self.report)
            self._stop_file().unlink(missing_ok=True)
        return self.report

    def _release(self) -> None:
        """Judges and submits every stage whose predecessors have ended; repeated, since a stage may
        end at once.
        """
        progressed = True
        while progressed and not self._interrupts:
            ready = [stage for stage in self._open if all(map(self._ended, stage.after))]
            progressed = bool(ready)
            for stage in ready:
                self._open.remove(stage)
                self._begin(stage)

    def _begin(self, stage: Stage) -> None:
        missing = [name for name in stage.after if not self._usable(stage, name)]
        try:
            force = self.force and stage.name in self.only
            steps = [] if missing else plan.decide(stage, force=force)
            why = f"{missing[0]} has no result" if missing else ""
        except DarkroomError as error:
            steps, why = [], str(error)
        for run in stage.runs if why else ():
            self._set(run.id, "blocked", why)
        todo = [step for step in steps if step.action == "run"]
        for step in steps:
            if step.action == "skip":
                self._set(step.run.id, "skipped", step.reason)
            elif stage.name not in self.only:
                self._set(step.run.id, "blocked", LEFT_OUT)
            else:
                self._submit(stage, step, parallel=len(todo))

    def _submit(self, stage: Stage, step: Step, *, parallel: int) -> None:
        wanted = stage.resources
        job = Job(
            notebook=str(stage.notebook.path),
            folder=str(step.folder()),
            parameters=parameter_types.cell_values(step.run.parameters, stage.notebook.parameters),
            key=step.key or {},
            resume=self.command,
            cwd=str(Path.cwd()),
            output=f"{self.output}/{step.run.id}.ipynb" if self.output else "",
            log_output=self.log_output,
            time_limit_s=wanted.time_limit_minutes and wanted.time_limit_minutes * 60,
            memory_bytes=wanted.memory_gb and int(wanted.memory_gb * 1e9),
        )
        share = Share(cores=wanted.cores, parallel=parallel, gpus=wanted.gpus)
        status.mark_interrupted(step.folder())
        home = str(paths.root())
        needs = {"cores": wanted.cores, "gpus": wanted.gpus, "memory_gb": wanted.memory_gb}
        self.executor.submit(step.run.id, jobs.execute, job, share, home, **needs)
        self.report.slots = self.executor.slots
        self._keys[step.run.id] = job.key
        self._set(step.run.id, "submitted", step.reason)

    def _note(self, outcome: Outcome) -> None:
        value = outcome.value or {"state": "killed", "seconds": 0.0, "failure": None}
        if (error := outcome.error) is not None:
            name, message = type(error).__name__, str(error)
            about = {"exception": name, "message": message, "cell": None}
            value |= {"state": "failed", "failure": {"kind": of_exception(name, message), **about}}
        state = "failed" if value["state"] == "busy" else value["state"]
        note = (value["failure"] or {}).get("message", "")
        self.report.seconds[outcome.name] = value["seconds"]
        if value.get("note"):
            self.report.unwritten.append(f"{outcome.name}: {value['note']}")
        if value["failure"]:
            self.report.failures[outcome.name] = value["failure"]
        if state == "finished":
            self.report.durations.note(self._specs[outcome.name], value["seconds"])
            # With another key than it was given it is run again next time.
            known = runs.read(paths.logs() / self.study.folder / outcome.name)["key"]
            changed = runs.changes(self._keys[outcome.name], known)
            note = f"changed while it ran: {', '.join(changed)}" if changed else ""
        self._set(outcome.name, state, note)

    def _ended(self, stage: str) -> bool:
        return all(self.report.states[run.id] in ENDED for run in self.study.stage(stage).runs)

    def _usable(self, stage: Stage, before: str) -> bool:
        """Whether `stage` can start: it needs all runs of an earlier stage, or one at least where
        it compares runs.
        """
        states = [self.report.states[run.id] for run in self.study.stage(before).runs]
        good = [state in ("finished", "skipped") for state in states]
        return any(good) if "runs" in stage.notebook.reads else all(good)

    def _set(self, run: str, state: str, note: str) -> None:
        self.report.states[run] = state
        self.report.reasons[run] = note
        self.view.event(run, state, note)

    def _stop_file(self) -> Path:
        return paths.logs() / self.study.folder / jobs.STOP

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """After the first Ctrl-C no further run starts; the second stops the running ones."""

        def interrupted(*_: Any) -> None:
            self._interrupts += 1
            self.report.stopping = True
            self._stop_file().touch()
            if self._interrupts > 1:
                self.executor.cancel()

        answered = (signal.SIGINT, signal.SIGTERM)
        before = {name: signal.signal(name, interrupted) for name in answered}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)


@contextlib.contextmanager
def holding(study: Study) -> Iterator[None]:
    """Holds the study's lock, which the operating system frees when this process dies.

    Raises DarkroomError at once when another process holds it, saying who.
    """
    folder = paths.logs() / study.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = _taken(folder)
    try:
        about = {"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        files.write_json(folder / _HOLDER, about)
        yield
        (folder / _HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def refuse_held(study: Study) -> None:
    """Raises DarkroomError when another process runs the study; writes nothing."""
    folder = paths.logs() / study.folder
    if (folder / _LOCK).exists():
        _taken(folder).release()


def _taken(folder: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(folder / _LOCK, is_singleton=False)
    try:
        lock.acquire(timeout=0.5, poll_interval=0.05)  # `darkroom status` holds it for a moment
    except filelock.Timeout:
        holder, who = files.read_json(folder / _HOLDER) or {}, "another process"
        if "process" in holder:
            who = f"process {holder['process']} on {holder.get('host')}"
        raise DarkroomError(
            f"The study {folder.name!r} is being run by {who}. Watch it with `darkroom status "
            f"{folder.name}`, or stop it there with Ctrl-C."
        ) from None
    return lock
