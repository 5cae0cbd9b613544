"""Wall and CPU seconds of epochs, steps and blocks, and the memory a process holds, as one line of
JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "measured "
ROOT = Path(__file__).parent.parent.parent


class Clock:
    """Measures; handed to Keras it takes each epoch, or with `by_step` each step, apart from the
    first, which compiles.
    """

    def __init__(self, *, by_step: bool = False) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.by_step = by_step

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Measures what is done inside."""
        began = time.perf_counter(), time.process_time()
        yield
        self.wall.append(time.perf_counter() - began[0])
        self.cpu.append(time.process_time() - began[1])

    def __getattr__(self, name: str):
        """Every other method of a Keras callback does nothing."""
        if name.startswith(("on_", "set_")):
            return lambda *_, **__: None
        raise AttributeError(name)

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """Starts the clock."""
        self._began = time.perf_counter(), time.process_time()

    def on_epoch_end(self, *_: object, **__: object) -> None:
        """Takes the epoch's time."""
        if not self.by_step:
            self._take()

    def on_train_batch_begin(self, *_: object, **__: object) -> None:
        """Starts the clock of a step."""
        if self.by_step:
            self.on_epoch_begin()

    def on_train_batch_end(self, *_: object, **__: object) -> None:
        """Takes the step's time."""
        if self.by_step:
            self._take()

    def _take(self) -> None:
        self.wall.append(time.perf_counter() - self._began[0])
        self.cpu.append(time.process_time() - self._began[1])


def told(clock: Clock, **more: object) -> None:
    """Prints what was measured."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"wall": clock.wall, "cpu": clock.cpu, "peak_bytes": peak, "private_bytes": _private()}
    print(MARK + json.dumps({**found, **more}))


def _private() -> int | None:
    """Memory that is this process' own now; pages mapped from a file do not count, since the system
    may drop them.
    """
    try:
        told = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return 1024 * int(
        next(line.split()[1] for line in told.splitlines() if line.startswith("RssAnon"))
    )


def run(module: str, *words: object) -> dict:
    """Runs a module in a process of its own and returns what it told."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise SystemExit(f"{module} did not run to its end:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1].removeprefix(MARK))
