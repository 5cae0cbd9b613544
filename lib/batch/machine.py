"""The cores, memory and GPUs of this machine, and the share of a run."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from lib import paths, processes

GPUS = "DARKROOM_GPUS"
"""Environment variable of a run: the GPUs it has for itself."""

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "LOKY_MAX_CPU_COUNT",
)
FRUGAL = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Set before a kernel starts, so that it takes the GPU memory it needs, not all there is
(TensorFlow, JAX).
"""

_sharers: Counter[str] = Counter()
_owned: set[str] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Share:
    """A task's share of its machine; without `cores`, `parallel` tasks share them all."""

    cores: float | None = None
    parallel: int = 1
    gpus: int | None = None
    """Number of GPUs for exclusive use. 0: it sees none; None: it shares the least used one."""


def total_memory() -> int:
    """Returns the bytes of memory for this process, by its container's limit."""
    from distributed.system import MEMORY_LIMIT

    return MEMORY_LIMIT


def visible_gpus() -> list[str]:
    """Returns the ids of the machine's NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]


@contextlib.contextmanager
def environment(
    share: Share, *, slots: int, home: str, wanted: Callable[[], bool]
) -> Iterator[dict[str, str]]:
    """Yields the environment variables of a piece of work: threads, GPUs, the root folder `home`;
    GPUs are held meanwhile.

    `slots` is how many pieces this machine does at once. Waits for GPUs that others hold while
    `wanted()` is true.
    """
    of_slot = processes.num_cores() // min(slots, max(1, share.parallel))
    threads = max(1, round(share.cores or of_slot))
    path = filter(None, [str(paths.checkout()), os.environ.get("PYTHONPATH")])
    variables = {
        **dict.fromkeys(_THREADS, str(threads)),
        **FRUGAL,
        processes.CORES: str(threads),
        "DARKROOM_HOME": home,
        "PYTHONPATH": os.pathsep.join(path),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }
    with _gpus(share.gpus, wanted=wanted) as gpus:
        if gpus is not None:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus) or "-1"
            variables |= {GPUS: ",".join(gpus)} if share.gpus else {}
        yield variables


@contextlib.contextmanager
def _gpus(number: int | None, *, wanted: Callable[[], bool]) -> Iterator[list[str] | None]:
    """Yields the GPUs of a piece of work, or None on a machine without any."""
    there = visible_gpus()
    if not there:
        yield None
    elif number is None:
        with _lock:
            chosen = min(there, key=lambda name: (_sharers[name], there.index(name)))
            _sharers[chosen] += 1
        try:
            yield [chosen]
        finally:
            _sharers[chosen] -= 1
    else:
        with contextlib.ExitStack() as held:
            chosen: list[str] = []
            while len(chosen) < min(number, len(there)) and wanted():
                if (free := next((name for name in there if _own(name, held)), None)) is None:
                    time.sleep(0.5)
                else:
                    chosen.append(free)
            yield chosen


def _own(name: str, held: contextlib.ExitStack) -> bool:
    """Whether a GPU could be taken for as long as `held` is open; other processes of this user are
    asked, too.
    """
    with _lock:
        if name in _owned:
            return False
        if GPUS not in os.environ:  # else it is our run's already, and only its own work shares it
            user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
            called = f"darkroom-{user}-gpu-{''.join(filter(str.isalnum, name))}.lock"
            path = Path(tempfile.gettempdir(), called)
            lock = filelock.FileLock(path, is_singleton=False, thread_local=False)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                return False
            held.callback(lock.release)
        _owned.add(name)
        held.callback(_owned.discard, name)
    return True
