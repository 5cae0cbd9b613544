"""The processes that do runs, kept for the next run: half of what a short run costs is starting one.

What a run computes with is its kernel, which is new every time. A process here only drives it, and is replaced now and then.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading

from lib import paths

_JOBS = 50
"""How many jobs a process does before it is replaced."""
_idle: list[Runner] = []
_lock = threading.Lock()


class Runner:
    """One `python -m lib.batch.run`, which ends with this process at the latest."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [str(paths.checkout()), os.environ.get("PYTHONPATH")]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long-lived as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lib.batch.run"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in the terminal is for the command to answer
        )  # fmt: skip
        self._answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._told = 0

    def tell(self, job: bytes) -> None:
        """Gives it a job."""
        self._told += 1
        self._errors.seek(0)
        self._errors.truncate()
        with contextlib.suppress(BrokenPipeError):  # then it has died, and that is its answer
            self._process.stdin.write(job)
            self._process.stdin.flush()

    def answer(self, timeout_s: float) -> int | None:
        """Returns its answer, or its exit code when it has died, or None when there is none within `timeout_s`."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        return self._process.wait() if answer is None else answer

    def said(self) -> str:
        """Returns what it wrote to its standard error during the last job."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", errors="replace").strip()

    def worn(self) -> bool:
        """Whether it should do no further job."""
        return self._told >= _JOBS or self._process.poll() is not None

    def stop(self) -> None:
        """Ends the process, and with it the kernel that it drives."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # its lifeline
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """Stops it and lets go of all that was held for it."""
        self.stop()
        self._thread.join()
        self._process.stdout.close()
        self._errors.close()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._answers.put(int(line))
        self._answers.put(None)


def take() -> Runner:
    """Returns a process that is free, an old one or a new one."""
    with _lock:
        while _idle:
            runner = _idle.pop()
            if not runner.worn():
                return runner
            runner.end()
    return Runner()


def give_back(runner: Runner) -> None:
    """Keeps a process for the next job."""
    if runner.worn():
        runner.end()
        return
    with _lock:
        _idle.append(runner)


def dismiss() -> None:
    """Ends all processes that wait for a job."""
    with _lock:
        while _idle:
            _idle.pop().end()
