"""Claims and their output, time and memory, alone or in a process of their own."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MARK = "measured "
ROOT = Path(__file__).parent.parent.parent
SAMPLES = os.environ.get("DARKROOM_SAMPLES")
"""A folder with the sample data of the studies: triage/, cars/, simpsons/, wikiart/, posters/."""


def arguments(doc: str | None, parts: Sequence[str] = ()) -> argparse.Namespace:
    """Returns `quick`, and `only` for a benchmark of several parts, from the command line."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="in a minute, with rougher figures")
    if parts:
        parser.add_argument(
            "--only", nargs="+", choices=parts, default=list(parts), metavar="PART", help=f"{parts}"
        )
    return parser.parse_args()


def claim(what: str, value: float, goal: float, unit: str = "times", *, most: bool = False) -> None:
    """Prints a claim with its value and goal; the value is to reach it, or not to exceed it."""
    is_met = value <= goal if most else value >= goal
    limit = f"goal {'at most' if most else 'at least'} {goal:,g}"
    line = f"{what}: {value:,.4g} {unit}".rstrip()
    print(f"{line} ({limit}) {'ok' if is_met else 'short'}", flush=True)


def skip(what: str, why: str) -> None:
    """Prints that something was not measured; `python -m benchmarks` repeats it at its end."""
    print(f"{what}: skipped, {why}.", flush=True)


def has_samples(what: str, *folders: str) -> bool:
    """Returns whether `DARKROOM_SAMPLES` names a folder with these; prints what is skipped if not."""
    if SAMPLES and all(Path(SAMPLES, name).is_dir() for name in folders):
        return True
    skip(what, f"since DARKROOM_SAMPLES names no folder with {', '.join(folders)}")
    return False


def seconds_of(work: Callable[[], object]) -> float:
    """Returns how long a call takes by the clock."""
    return timed(work)[0]


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    """Returns seconds by the clock, seconds of CPU time of this process, and the result of a call."""
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - began, time.process_time() - cpu, result


def cpu_of_children() -> float:
    """Returns CPU seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_memory() -> int:
    """Returns the most bytes that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_a_process(function: Callable, *given: object) -> object:
    """Returns what `function` returns in a new process, whose peak memory is this call's alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def run(module: str, *words: object) -> dict:
    """Runs a module in a process of its own and returns what it reported."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise SystemExit(f"{module} did not run to its end:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1].removeprefix(MARK))


def report(clock: Clock, **more: object) -> None:
    """Prints what was measured, for `run`."""
    facts = {"wall": clock.wall, "cpu": clock.cpu, "private_bytes": _private_bytes()}
    print(MARK + json.dumps({**facts, **more}))


def _private_bytes() -> int | None:
    """Memory of this process alone: pages mapped from a file do not count, the system may drop them."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return 1024 * int(
        next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
    )


class Clock:
    """Times of blocks; as a callback of Keras, of epochs, or with `by_step` of steps."""

    def __init__(self, *, by_step: bool = False) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.by_step = by_step

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Measures what is done inside."""
        self.start()
        yield
        self.stop()

    def start(self) -> None:
        """Starts the clock."""
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Takes the time since the start."""
        self.wall.append(time.perf_counter() - self._began[0])
        self.cpu.append(time.process_time() - self._began[1])

    def __getattr__(self, name: str):
        """Methods of a Keras callback: two of them start and stop, the others do nothing."""
        unit = "train_batch" if self.by_step else "epoch"
        if name == f"on_{unit}_begin":
            return lambda *_, **__: self.start()
        if name == f"on_{unit}_end":
            return lambda *_, **__: self.stop()
        if name.startswith(("on_", "set_")):
            return lambda *_, **__: None
        raise AttributeError(name)
