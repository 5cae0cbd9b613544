"""The work of a Dask worker: one run, given its share of the machine, watched, and ended when nobody wants it any more."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib import paths, runs
from lib.batch import failures, run, runners
from lib.batch.failures import Failure
from lib.batch.run import Job

STOP = ".stop"
"""A file of this name in the study's folder lets no further run begin."""

_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENCV_FOR_THREADS_NUM", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
_GRACE_S = 30.0
_BUSY_S = 20.0
_gpus_taken: set[str] = set()
_gpus_lock = threading.Lock()


@dataclass(frozen=True)
class Share:
    """What a run gets of its machine; `parallel` is how many runs share it where `cores` is None."""

    cores: float | None = None
    parallel: int = 1
    gpus: int = 0


def execute(job: Job, share: Share, home: str) -> dict[str, Any]:
    """Runs one job to its end and returns `state` (finished, failed, killed, busy or queued), `seconds`, `failure`.

    Raises nothing for a run that fails: that is an outcome. `home` is the root folder, which all machines share.
    """
    started = time.monotonic()
    folder = Path(job.folder)
    if job.memory_bytes is None:  # stop the run before the system must choose whom to kill
        job = replace(job, memory_bytes=int(0.9 * total_memory()))
    if (folder.parent.parent / STOP).exists():
        return {"state": "queued", "seconds": 0.0, "failure": None}
    cancelled = cancellation()
    gpus = take_gpus(share.gpus)
    try:
        job = replace(job, environment=environment(share, gpus, home))
        code, said = _process(job, cancelled)
        while code == run.BUSY and time.monotonic() - started < _BUSY_S and not cancelled():
            time.sleep(1)  # the process of a worker that was lost has not died yet
            code, said = _process(job, cancelled)
    finally:
        free_gpus(gpus)
    return _outcome(job, code, said, cancelled=cancelled(), seconds=time.monotonic() - started)


def num_cores() -> int:
    """Returns the cores this process may use, containers' limits heeded."""
    from dask.system import CPU_COUNT

    return CPU_COUNT


def total_memory() -> int:
    """Returns the bytes of memory this process may use, containers' limits heeded."""
    from distributed.system import MEMORY_LIMIT

    return MEMORY_LIMIT


def visible_gpus() -> list[str]:
    """Returns the ids of the machine's NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]


def _process(job: Job, cancelled: Callable[[], bool]) -> tuple[int, str]:
    """Has a runner do the job; returns its answer, or its exit code where it died, and what it said last."""
    limit = None if job.time_limit_s is None else time.monotonic() + job.time_limit_s + _GRACE_S
    runner = runners.take()
    try:
        runner.tell(job.line())
        while (answer := runner.answer(0.2)) is None:
            if cancelled() or (limit is not None and time.monotonic() > limit):
                runner.stop()
    except BaseException:
        runner.end()
        raise
    said = runner.said()
    runners.give_back(runner)
    return answer, said


def _outcome(job: Job, code: int, said: str, *, cancelled: bool, seconds: float) -> dict[str, Any]:
    folder = Path(job.folder)
    if code == run.FINISHED and runs.finished(folder):
        return {"state": "finished", "seconds": seconds, "failure": None}
    if cancelled:
        return {"state": "killed", "seconds": seconds, "failure": None}
    if code == run.BUSY:
        return {"state": "busy", "seconds": seconds, "failure": {"kind": "code", "exception": "Busy", "message": said}}
    if code != run.FAILED or not (folder / "failure.json").exists():
        ending = f"the run's process ended with {code}" if code >= 0 else f"the run's process was killed by signal {-code}"
        failures.write(folder, Failure("kernel died", "DeadRun", ending, output=said.splitlines()[-20:]), resume=job.resume)
    return {"state": "failed", "seconds": seconds, "failure": json.loads((folder / "failure.json").read_text("utf-8"))}


def environment(share: Share, gpus: list[str], home: str) -> dict[str, str]:
    """Returns the environment variables of a process that computes with a share of this machine; for a Dask worker."""
    from distributed import get_worker

    slots = min(get_worker().state.nthreads, max(1, share.parallel))
    threads = max(1, round(share.cores) if share.cores else num_cores() // slots)
    found = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
    found |= {
        "DARKROOM_HOME": home,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.checkout()), os.environ.get("PYTHONPATH")])),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }
    return {**found, "CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else found


def take_gpus(wanted: int) -> list[str]:
    """Returns at most `wanted` GPUs that no other work of this process has; give them back with `free_gpus`."""
    with _gpus_lock:
        gpus = [name for name in visible_gpus() if name not in _gpus_taken][:wanted]
        _gpus_taken.update(gpus)
    return gpus


def free_gpus(gpus: list[str]) -> None:
    """Lets other work have these GPUs."""
    with _gpus_lock:
        _gpus_taken.difference_update(gpus)


def cancellation() -> Callable[[], bool]:
    """Returns a question to the worker: does nobody want this task any more? So after a cancel, or when the runner has died."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in ("cancelled", "released", "forgotten")

    return cancelled
