"""Those that compute trials: this process itself, one after the other, or workers of the executor,
several at once.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lib import paths, processes
from lib.batch import machine
from lib.batch.executor import Executor, work_environment
from lib.batch.machine import Share
from lib.tuning import work, worker
from lib.tuning.work import Work
from lib.tuning.worker import Job

Heard = Callable[[int, dict[str, float]], bool]
"""Called with a trial's number and an epoch's row; returns whether the trial shall stop."""

MAX_GROWTH = 200_000_000
"""Bytes by which a worker may grow after its first trial before it is replaced."""


@dataclass(frozen=True)
class Needs:
    """What a trial takes of its machine. None: what there is, shared among those at work. At
    `memory_gb` it is stopped.
    """

    cores: float | None = None
    gpus: int | None = None
    memory_gb: float | None = None


class Hands(Protocol):
    """Whoever computes trials."""

    slots: int

    def submit(self, job: Job) -> None:
        """Begins a trial, or queues it."""

    def poll(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """Returns the trials that have ended with their outcomes, after at most about `timeout_s`."""

    def stop(self, number: int) -> None:
        """Wishes that a trial stops after its epoch."""

    def cancel(self, number: int) -> None:
        """Ends a trial at once."""


class Own:
    """This very process: for objectives that are quick, and for tests. One trial at a time; nothing
    isolates it.
    """

    slots = 1

    def __init__(self, heard: Heard) -> None:
        self._heard, self._waiting = heard, []

    def submit(self, job: Job) -> None:
        """Queues a trial; it is computed by `poll`."""
        self._waiting.append(job)

    def poll(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """Computes the next trial."""
        job = self._waiting.pop(0)
        folders = [Path(each) if each else None for each in (job.folder, job.checkpoint_folder)]
        told = Work(
            job.number,
            job.epochs,
            job.start,
            job.context,
            *folders,
            tell=lambda row: self._heard(job.number, row),
            goals=tuple(job.goals),
        )
        began = time.monotonic()
        found = work.do(work.find(job.objective), job.values, told)
        return [(job.number, {**found, "seconds": round(time.monotonic() - began, 3)})]

    def stop(self, number: int) -> None:
        """Is not needed: `heard` has answered already."""

    def cancel(self, number: int) -> None:
        """Takes a trial out of the queue."""
        self._waiting = [job for job in self._waiting if job.number != number]


class Workers:
    """Processes of the executor, isolated from the search and from each other, and kept from trial
    to trial.
    """

    def __init__(
        self,
        executor: Executor,
        heard: Heard,
        *,
        at_once: int | None = None,
        needs: Needs | None = None,
    ) -> None:
        self._executor, self._heard, self._needs = executor, heard, needs or Needs()
        self.slots = at_once or executor.slots
        self._numbers = itertools.count()
        self._jobs: dict[str, Job] = {}
        self._read: dict[str, int] = {}

    def submit(self, job: Job) -> None:
        """Hands a trial to the executor."""
        # one that was called off may still be ending
        name = f"{job.folder}#{next(self._numbers)}-{secrets.token_hex(4)}"
        worker.open_again(job)
        self._jobs[name], self._read[name] = job, 0
        share = Share(cores=self._needs.cores, parallel=self.slots, gpus=self._needs.gpus)
        limit = self._needs.memory_gb and int(self._needs.memory_gb * 1e9)
        self._executor.submit(
            name,
            compute,
            job,
            share,
            str(paths.root()),
            limit,
            cores=self._needs.cores,
            gpus=self._needs.gpus,
            memory_gb=self._needs.memory_gb,
        )

    def poll(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """Returns what has ended; before that every epoch that was reported is heard."""
        outcomes = self._executor.poll(timeout_s)
        for name in list(self._jobs):
            self._hear(name)
        ended = []
        for outcome in outcomes:
            if (job := self._jobs.pop(outcome.name, None)) is None:
                continue  # of a search that was interrupted
            found = outcome.value
            if outcome.error is not None:
                found = {
                    **work.failed("code", type(outcome.error).__name__, str(outcome.error)),
                    "seconds": 0.0,
                }
            ended.append(
                (
                    job.number,
                    found or {"state": "cancelled", "numbers": {}, "failure": None, "seconds": 0.0},
                )
            )
        return ended

    def stop(self, number: int) -> None:
        """Leaves a wish in the trial's folder, which all machines share."""
        for job in self._jobs.values():
            if job.number == number:
                Path(job.folder).mkdir(parents=True, exist_ok=True)
                (Path(job.folder) / worker.STOP).touch()

    def cancel(self, number: int) -> None:
        """Has the executor end the trial's process."""
        for name, job in self._jobs.items():
            if job.number == number:
                self._executor.cancel(name)

    def _hear(self, name: str) -> None:
        job = self._jobs[name]
        try:
            content = (Path(job.folder) / worker.EPOCHS).read_bytes()
        except OSError:
            return
        whole = content[self._read[name] : content.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        for line in whole.splitlines():
            if self._heard(job.number, json.loads(line)):
                self.stop(job.number)


def compute(job: Job, share: Share, home: str, memory_bytes: int | None) -> dict[str, Any]:
    """Has a process do a trial and returns its outcome; runs on a worker of the executor, which it
    keeps waiting.
    """
    if (found := worker.read(job)) is not None:
        return found
    limit = memory_bytes or int(0.9 * machine.total_memory())
    with work_environment(share, home) as (environment, wanted):
        ended = _await(environment, job, wanted, limit)
        if (ended["failure"] or {}).get(
            "kind"
        ) == "kernel died":  # once is chance; it goes on from its checkpoints
            ended = _await(environment, job, wanted, limit)
    return ended


def _await(
    environment: dict[str, str], job: Job, wanted: Callable[[], bool], limit: int
) -> dict[str, Any]:
    began, grown = time.monotonic(), False

    def should_stop(process: processes.Worker) -> bool:
        nonlocal grown
        grown = grown or (wanted() and process.memory() > limit)
        return grown or not wanted()

    exit_code, output = 0, ""
    try:
        options = {"environment": environment, "max_growth": MAX_GROWTH}
        processes.call(worker.do, job, should_stop=should_stop, **options)
    except processes.WorkerDied as died:
        exit_code, output = died.exit_code, died.output
    if (found := worker.read(job)) is not None:
        return found
    seconds = {"seconds": round(time.monotonic() - began, 3)}
    if grown:
        return {
            **work.failed("out of memory", "MemoryLimit", f"grew beyond {limit / 1e9:.1f} GB"),
            **seconds,
        }
    if not wanted():
        return {"state": "cancelled", "numbers": {}, "failure": None, **seconds}
    ending = (
        f"its process ended with {exit_code}"
        if exit_code >= 0
        else f"its process was killed by signal {-exit_code}"
    )
    kind = "out of memory" if "bad_alloc" in output else "kernel died"
    return {**work.failed(kind, "DeadWorker", ending, output.splitlines()[-20:]), **seconds}


def clear(folder: Path) -> None:
    """Deletes the checkpoints of a search, which only its resume needs."""
    shutil.rmtree(folder, ignore_errors=True)
