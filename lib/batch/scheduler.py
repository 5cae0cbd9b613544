"""The scheduler of a study: plans a stage when its predecessors have ended, submits its runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import filelock

from lib import files, parameters, paths, runs
from lib.batch import job as jobs
from lib.batch import plan, status
from lib.batch.executor import Executor, Outcome
from lib.batch.job import Job
from lib.batch.machine import Share
from lib.batch.plan import Durations, Step
from lib.batch.study import Stage, Study
from lib.errors import DarkroomError
from lib.runs import failure

_LOCK = ".lock"
ENDED = ("finished", "skipped", "failed", "killed", "blocked")


class View(Protocol):
    """Receives the progress of a running study."""

    def event(self, run: str, state: str, note: str) -> None:
        """Takes notice that a run's state has changed."""

    def tick(self, report: Report) -> None:
        """Is called a few times a second."""


@dataclass
class Report:
    """The progress of a study. `states` maps `<stage>/<unit>` to queued, submitted or one of
    `ENDED`.
    """

    study: Study
    states: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    slots: int = 1
    started: float = field(default_factory=time.time)
    stopping: bool = False
    durations: Durations = field(default_factory=Durations)
    unwritten: list[str] = field(default_factory=list)
    """Outputs of finished runs that could not be written to where they were wanted."""

    def count(self, *states: str) -> int:
        """Returns how many runs are in one of these states."""
        return sum(state in states for state in self.states.values())

    def complete(self) -> bool:
        """Whether every run has a result."""
        return self.count("finished", "skipped") == len(self.states)


LEFT_OUT = "its stage was left out"
"""The reason of a run that the user has not asked for."""


@dataclass(frozen=True)
class Execution:
    """Options of an execution."""

    force: bool = False
    only: list[str] = field(default_factory=list)
    """Stages to run, all where empty; others count as they stand."""
    command: str = ""
    """The command that continues the study."""
    output: str = ""
    """A folder, possibly remote, to which the executed notebooks are written too."""
    log_output: bool = False


class Scheduler:
    """One running study."""

    def __init__(self, study: Study, executor: Executor, view: View, how: Execution) -> None:
        self.study, self.executor, self.view, self.how = study, executor, view, how
        everything = [stage.name for stage in study.stages]
        self.only = [study.stage(name).name for name in how.only] or everything
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
            status.write(self.study, command=self.how.command)
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
            ready = [
                stage for stage in self._open if all(self._ended(name) for name in stage.after)
            ]
            progressed = bool(ready)
            for stage in ready:
                self._open.remove(stage)
                self._begin(stage)

    def _begin(self, stage: Stage) -> None:
        missing = [name for name in stage.after if not self._usable(stage, name)]
        if missing:
            return self._set_all(stage, "blocked", f"{missing[0]} has no result")
        try:
            steps = plan.decide(stage, force=self.how.force and stage.name in self.only)
        except DarkroomError as error:
            return self._set_all(stage, "blocked", str(error))
        todo = [step for step in steps if step.action == "run"]
        for step in steps:
            if step.action == "skip":
                self._set(step.run.id, "skipped", step.reason)
            elif stage.name not in self.only:
                self._set(step.run.id, "blocked", LEFT_OUT)
        if stage.name in self.only:
            for step in todo:
                self._submit(stage, step, parallel=len(todo))
        return None

    def _submit(self, stage: Stage, step: Step, *, parallel: int) -> None:
        wanted = stage.resources
        job = Job(
            notebook=str(stage.notebook.path),
            folder=str(step.folder()),
            parameters=parameters.cell_values(step.run.parameters, stage.notebook.parameters),
            key=step.key or {},
            resume=self.how.command,
            cwd=str(Path.cwd()),
            output=f"{self.how.output}/{step.run.id}.ipynb" if self.how.output else "",
            log_output=self.how.log_output,
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
        if outcome.error is not None:
            name, message = type(outcome.error).__name__, str(outcome.error)
            failed = {
                "kind": failure.of_exception(name, message),
                "exception": name,
                "message": message,
                "cell": None,
            }
            value = {"state": "failed", "seconds": 0.0, "failure": failed}
        else:
            value = outcome.value or {"state": "killed", "seconds": 0.0, "failure": None}
        state = "failed" if value["state"] == "busy" else value["state"]
        self.report.seconds[outcome.name] = value["seconds"]
        if value.get("note"):
            self.report.unwritten.append(f"{outcome.name}: {value['note']}")
        if value["failure"]:
            self.report.failures[outcome.name] = value["failure"]
        if state == "finished":
            self.report.durations.note(self._specs[outcome.name], value["seconds"])
        note = (
            self._doubt(outcome.name)
            if state == "finished"
            else (value["failure"] or {}).get("message", "")
        )
        self._set(outcome.name, state, note)

    def _doubt(self, run: str) -> str:
        """Says so when a run has finished with another key than it was given, and will therefore be
        run again next time.
        """
        known_key = runs.read(paths.logs() / self.study.folder / run)["key"]
        changed = runs.changes(self._keys[run], known_key)
        return f"changed while it ran: {', '.join(changed)}" if changed else ""

    def _ended(self, stage: str) -> bool:
        return all(self.report.states[run.id] in ENDED for run in self.study.stage(stage).runs)

    def _usable(self, stage: Stage, before: str) -> bool:
        """Whether `stage` can start: it needs all runs of an earlier stage, or one at least where
        it compares runs.
        """
        good = [
            self.report.states[run.id] in ("finished", "skipped")
            for run in self.study.stage(before).runs
        ]
        return any(good) if "runs" in stage.notebook.reads else all(good)

    def _set_all(self, stage: Stage, state: str, note: str) -> None:
        for run in stage.runs:
            self._set(run.id, state, note)

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

        before = {
            name: signal.signal(name, interrupted) for name in (signal.SIGINT, signal.SIGTERM)
        }
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
        files.write_json(folder / ".holder.json", about)
        yield
        (folder / ".holder.json").unlink(missing_ok=True)
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
        holder = files.read_json(folder / ".holder.json") or {}
        who = (
            f"process {holder['process']} on {holder['host']}"
            if "process" in holder
            else "another process"
        )
        raise DarkroomError(
            f"The study {folder.name!r} is being run by {who}. Watch it with `darkroom status "
            f"{folder.name}`, or stop it "
            "there with Ctrl-C."
        ) from None
    return lock
