"""Worker processes that read files for the scan. A file that kills or hangs its worker is named,
and the scan goes on.

Each worker is its own interpreter (`python -m lib.cleaning.scan_workers`) that reads lists of paths
as JSON lines and answers each path with one. The answers of a list are written together, since
waking the reader for each costs a tenth of the scan; when it dies over a list, a second one is
handed what is left file by file, which tells the culprit. No process pool: a pool does not say
which file broke it, and it runs the caller's `__main__` again.
"""

from __future__ import annotations

import base64
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib import paths
from lib.cleaning.measurements import Measured, measure
from lib.data.value_range import Rendering

PATIENCE_SECONDS = 120.0
"""How long one file may take before its worker is ended."""

TOGETHER = 16
"""How many files a worker is handed, and answers, at once."""

HELD_SECONDS = 0.1
"""How long a worker holds back an answer for the next ones: large pictures are told one by one."""

_SURROUNDINGS = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "OPENBLAS_NUM_THREADS": "1",
}
"""So that glibc keeps the memory of a picture for the next one, from the first on, and NumPy starts
no threads of its own.
"""


def count(wanted: int | None = None) -> int:
    """Returns `wanted`, or the number of processors that this process may use."""
    if wanted is not None:
        if wanted < 1:
            raise ValueError(f"workers must be at least 1. Received: {wanted}.")
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_all(
    files: Sequence[Path],
    *,
    workers: int | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
    rendering: Rendering | None = None,
) -> Iterator[tuple[int, Measured]]:
    """Yields (position in `files`, what was measured) in the order in which they are done."""
    todo: queue.SimpleQueue[range] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Measured] | BaseException] = queue.SimpleQueue()
    for start in range(0, len(files), TOGETHER):
        todo.put(range(start, min(start + TOGETHER, len(files))))
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=_serve, args=(files, todo, done, stop, patience_seconds, rendering), daemon=True
        )
        for _ in range(min(count(workers), -(-len(files) // TOGETHER)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(files)):
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _serve(
    files: Sequence[Path],
    todo: queue.SimpleQueue,
    done: queue.SimpleQueue,
    stop: threading.Event,
    patience: float,
    rendering: Rendering | None,
) -> None:
    """Feeds one worker at a time with lists until there are none; a dead worker costs the file it
    was reading.
    """
    worker: _Worker | None = None
    try:
        while not stop.is_set():
            try:
                left, one_by_one = list(todo.get_nowait()), False
            except queue.Empty:
                return
            while left and not stop.is_set():
                worker = worker or _Worker(patience)
                asked = left[:1] if one_by_one else left[:]
                for answer in worker.ask([files[position] for position in asked], rendering):
                    done.put((left.pop(0), answer))
                    asked.pop(0)
                    if stop.is_set():
                        return
                if asked:  # it died or hung over one of these
                    epitaph, dead, worker = worker.epitaph(), worker, None
                    dead.end()
                    if len(asked) == 1:  # over which, is known
                        done.put((left.pop(0), Measured(problem="crashed", detail=epitaph)))
                    one_by_one = True
    except BaseException as error:  # handed to the thread that waits for results, which raises it
        done.put(error)
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    def __init__(self, patience: float) -> None:
        roads = [str(paths.checkout()), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "lib.cleaning.scan_workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=1 << 17,
            env={
                **_SURROUNDINGS,
                **os.environ,
                "PYTHONPATH": os.pathsep.join(roads),
                "PYTHONIOENCODING": "utf-8",
            },
        )
        self._patience, self._hung = patience, False
        self._due, self._ended = math.inf, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, files: list[Path], rendering: Rendering | None) -> Iterator[Measured]:
        """Yields an answer for each file, fewer when the worker dies or takes too long on one of
        them.
        """
        try:
            self._process.stdin.write(
                (
                    json.dumps(
                        {
                            "files": [str(file) for file in files],
                            "rendering": rendering and rendering.as_json(),
                        }
                    )
                    + "\n"
                ).encode()
            )
            self._process.stdin.flush()
        except OSError:  # it died while idle
            return
        for _ in files:
            self._due = time.monotonic() + self._patience
            line = self._process.stdout.readline()
            self._due = math.inf
            if not line.endswith(b"\n"):
                return
            yield _unpacked(json.loads(line))

    def epitaph(self) -> str:
        code = self._process.wait()
        if self._hung:
            return f"reading it took longer than {self._patience:g} s"
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"reading it ended the worker process ({ended})"

    def end(self) -> None:
        self._ended.set()
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _watch(self) -> None:
        """Ends a worker that owes an answer for too long. One thread for all its files: a timer a
        file would cost more.
        """
        while not self._ended.wait(min(1.0, self._patience / 4)):
            if time.monotonic() > self._due:
                self._hung = True
                self._process.kill()
                return


def _packed(measured: Measured) -> str:
    told = dict(vars(measured))
    for name in ("hashes", "thumb"):
        told[name] = base64.b64encode(told[name]).decode() if told[name] is not None else None
    return json.dumps(told)


def _unpacked(told: dict) -> Measured:
    for name in ("hashes", "thumb"):
        told[name] = base64.b64decode(told[name]) if told[name] is not None else None
    return Measured(**told)


def _work() -> None:
    import cv2

    cv2.setNumThreads(1)  # the workers are the parallelism
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=1 << 20)
    sys.stdout = sys.stderr  # nothing that a decoder prints may stand between the answers
    for line in sys.stdin.buffer:
        told = time.monotonic()
        asked = json.loads(line)
        rendering = Rendering.from_json(asked["rendering"])
        for path in asked["files"]:
            answers.write(_packed(measure(Path(path), rendering=rendering)).encode() + b"\n")
            if time.monotonic() - told > HELD_SECONDS:
                answers.flush()
                told = time.monotonic()
        answers.flush()


if __name__ == "__main__":
    _work()
