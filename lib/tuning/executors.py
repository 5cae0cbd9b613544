"""Executors that run trials, in process or in a pool of worker processes."""

from __future__ import annotations

import functools
import itertools
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import paths, processes
from lib.batch import machine
from lib.batch.dask_executor import Executor, work_environment
from lib.batch.machine import Share
from lib.runs import failure
from lib.tuning import worker
from lib.tuning.worker import Job

OnEpoch = Callable[[int, dict[str, float]], bool]
"""Called with a trial's number and an epoch's row; returns whether the trial should stop."""

MAX_GROWTH = 200_000_000
"""Bytes by which a worker may grow after its first trial before it is replaced."""

_CANCELLED = {"state": "cancelled", "numbers": {}, "failure": None, "seconds": 0.0}


class InProcess:
    """Runs one trial at a time in this process, without isolation; for fast objectives."""

    slots = 1

    def __init__(self, on_epoch: OnEpoch) -> None:
        self._on_epoch, self._waiting = on_epoch, []

    def submit(self, job: Job) -> None:
        """Queues a trial; `poll` computes it."""
        self._waiting.append(job)

    def poll(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """Computes the next trial."""
        job = self._waiting.pop(0)
        on_epoch = functools.partial(self._on_epoch, job.number)
        return [(job.number, worker.run_objective(job, on_epoch))]

    def stop(self, number: int) -> None:
        """Does nothing: `on_epoch` has returned the request already."""

    def cancel(self, number: int) -> None:
        """Removes a trial from the queue."""
        self._waiting = [job for job in self._waiting if job.number != number]


class Pool:
    """Runs trials in processes of a `batch` executor, isolated from the search and each other.

    A process is kept for the next trial. A trial that grows beyond `memory_gb` is stopped.
    """

    def __init__(
        self, executor: Executor, on_epoch: OnEpoch, *, memory_gb: float | None = None
    ) -> None:
        self._executor, self._on_epoch, self._memory_gb = executor, on_epoch, memory_gb
        self.slots = executor.slots
        self._numbers = itertools.count()
        self._jobs: dict[str, Job] = {}
        self._bytes_read: dict[str, int] = {}

    def submit(self, job: Job) -> None:
        """Submits a trial to the executor."""
        # A cancelled task of the same trial may still be ending, so names are never used twice.
        name = f"{job.folder}#{next(self._numbers)}-{secrets.token_hex(4)}"
        worker.reopen(job)
        self._jobs[name], self._bytes_read[name] = job, 0
        limit = self._memory_gb and int(self._memory_gb * 1e9)
        share, home = Share(parallel=self.slots), str(paths.root())
        arguments = (name, compute, job, share, home, limit)
        self._executor.submit(*arguments, memory_gb=self._memory_gb)

    def poll(self, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """Forwards new epochs to `on_epoch`, then returns what has ended."""
        outcomes = self._executor.poll(timeout_s)
        for name in list(self._jobs):
            self._forward_epochs(name)
        ended = []
        for outcome in outcomes:
            if (job := self._jobs.pop(outcome.name, None)) is None:
                continue  # of an earlier search that was interrupted
            result = outcome.value or _CANCELLED
            if outcome.error is not None:
                name, message = type(outcome.error).__name__, str(outcome.error)
                kind = failure.of_exception(name, message)
                result = {**worker.failed(kind, name, message), "seconds": 0.0}
            ended.append((job.number, result))
        return ended

    def stop(self, number: int) -> None:
        """Writes the request into the trial's folder, which all machines share."""
        for job in self._jobs.values():
            if job.number == number:
                Path(job.folder).mkdir(parents=True, exist_ok=True)
                (Path(job.folder) / worker.STOP).touch()

    def cancel(self, number: int) -> None:
        """Has the executor end the trial's process."""
        for name, job in self._jobs.items():
            if job.number == number:
                self._executor.cancel(name)

    def _forward_epochs(self, name: str) -> None:
        job = self._jobs[name]
        try:
            content = (Path(job.folder) / worker.EPOCHS).read_bytes()
        except OSError:
            return
        lines = content[self._bytes_read[name] : content.rfind(b"\n") + 1]
        self._bytes_read[name] += len(lines)
        for line in lines.splitlines():
            if self._on_epoch(job.number, json.loads(line)):
                self.stop(job.number)


def compute(job: Job, share: Share, home: str, memory_bytes: int | None) -> dict[str, Any]:
    """Returns the outcome of a trial, computed by a process; runs on a worker of the executor."""
    if (outcome := worker.read_outcome(job)) is not None:
        return outcome
    limit = memory_bytes or int(0.9 * machine.total_memory())
    with work_environment(share, home) as (environment, is_wanted):
        outcome = _compute_once(environment, job, is_wanted, limit)
        # A process may die by chance once; the trial then continues from its checkpoints.
        if (outcome["failure"] or {}).get("kind") == "kernel died":
            outcome = _compute_once(environment, job, is_wanted, limit)
    return outcome


def _compute_once(
    environment: dict[str, str], job: Job, is_wanted: Callable[[], bool], limit: int
) -> dict[str, Any]:
    began, too_large = time.monotonic(), False

    def should_stop(process: processes.Worker) -> bool:
        nonlocal too_large
        too_large = too_large or (is_wanted() and process.memory() > limit)
        return too_large or not is_wanted()

    exit_code, output = 0, ""
    try:
        processes.call(
            worker.run_job,
            job,
            should_stop=should_stop,
            environment=environment,
            max_growth=MAX_GROWTH,
        )
    except processes.WorkerDied as died:
        exit_code, output = died.exit_code, died.output
    if (outcome := worker.read_outcome(job)) is not None:
        return outcome
    seconds = {"seconds": round(time.monotonic() - began, 3)}
    if too_large:
        message = f"grew beyond {limit / 1e9:.1f} GB"
        return {**worker.failed("out of memory", "MemoryLimit", message), **seconds}
    if not is_wanted():
        return {**_CANCELLED, **seconds}
    how = f"ended with {exit_code}" if exit_code >= 0 else f"was killed by signal {-exit_code}"
    kind = "out of memory" if "bad_alloc" in output else "kernel died"
    lines = output.splitlines()[-20:]
    return {**worker.failed(kind, "DeadWorker", f"its process {how}", lines), **seconds}
