"""The processes that do work, kept for the next piece: half of what a short one costs is starting a
process.

What a run computes with is its kernel, which is new every time; a process here only drives it. A
tuner's trials are computed in the process itself, which is therefore replaced when its memory has
grown.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping

from lib import paths

RUNS = "lib.batch.run"
"""The module whose process does runs."""
_JOBS = 50
"""How many jobs a process does before it is replaced."""
_APART = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""What `start_new_session` is under Windows."""
_idle: list[Runner] = []
_lock = threading.Lock()


class Runner:
    """One `python -m <module>`, which ends with this process at the latest.

    It is told a job in each line of its input and answers each with a line that holds a whole
    number. `environment` is all of its environment variables, those of this process where None.
    `most_growth` is by how many bytes its memory may grow after its first job before it is
    replaced.
    """

    def __init__(
        self,
        module: str = RUNS,
        environment: Mapping[str, str] | None = None,
        *,
        most_growth: int | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        path = os.pathsep.join(filter(None, [str(paths.checkout()), environment.get("PYTHONPATH")]))
        self.kind = _kind(module, environment)
        self._most_growth, self._first_memory = most_growth, 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long-lived as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment, "PYTHONPATH": path},
            start_new_session=True,
            creationflags=_APART,  # Ctrl-C in the terminal is for the command to answer
        )
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
        """Returns its answer, or its exit code when it has died, or None when there is none within
        `timeout_s`.
        """
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        return self._process.wait() if answer is None else answer

    def said(self) -> str:
        """Returns what it wrote to its standard error during the last job."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", errors="replace").strip()

    def memory(self) -> int:
        """Returns the bytes of main memory that the process holds; 0 when it has ended."""
        import psutil

        try:
            return psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def worn(self) -> bool:
        """Whether it should do no further job."""
        if self._process.poll() is not None:
            return True
        if self._most_growth is None:
            return self._told >= _JOBS
        self._first_memory = self._first_memory or self.memory()
        return self.memory() > self._first_memory + self._most_growth

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


def take(
    module: str = RUNS,
    environment: Mapping[str, str] | None = None,
    *,
    most_growth: int | None = None,
) -> Runner:
    """Returns a process that is free, an old one of the same module and environment or a new one;
    see `Runner`.
    """
    kind = _kind(module, os.environ if environment is None else environment)
    with _lock:
        for runner in [each for each in _idle if each.kind == kind]:
            _idle.remove(runner)
            if not runner.worn():
                return runner
            runner.end()
    return Runner(module, environment, most_growth=most_growth)


def give_back(runner: Runner) -> None:
    """Keeps a process for the next job."""
    if runner.worn():
        runner.end()
        return
    with _lock:
        _idle.append(runner)


def ask(
    job: bytes,
    unwanted: Callable[[Runner], bool],
    *,
    module: str = RUNS,
    environment: Mapping[str, str] | None = None,
    most_growth: int | None = None,
) -> tuple[int, str]:
    """Has a process do a job; returns its answer, or its exit code where it died, and what it said
    last; see `Runner`.

    It is stopped as soon as `unwanted`, which is asked five times a second, says so.
    """
    runner = take(module, environment, most_growth=most_growth)
    try:
        runner.tell(job)
        while (answer := runner.answer(0.2)) is None:
            if unwanted(runner):
                runner.stop()
    except BaseException:
        runner.end()
        raise
    said = runner.said()
    give_back(runner)
    return answer, said


def _kind(module: str, environment: Mapping[str, str]) -> tuple[str, frozenset[tuple[str, str]]]:
    # The driver of a kernel is given each job's environment with the job, so one serves all.
    return module, frozenset() if module == RUNS else frozenset(environment.items())


def dismiss() -> None:
    """Ends all processes that wait for a job."""
    with _lock:
        while _idle:
            _idle.pop().end()
