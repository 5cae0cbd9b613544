"""A pool of worker processes, kept from call to call, that never outlive the process that started
them.

    value = processes.call(function, argument, environment={...})

A worker is this interpreter running `python -m lib.processes`. It reads calls from its standard
input and writes what they return to its standard output, one pickled frame each; when its input
closes, as it does at the latest when the parent dies, the worker ends with everything that it
started. Each worker serves one call at a time and can be killed without harm to the parent. A
`multiprocessing` pool would not do: it does not say which call broke it, and it imports the
caller's `__main__`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

from lib import paths

CORES = "DARKROOM_CORES"
"""Environment variable of a run: the cores it was given, so that work which it hands out itself
keeps to them.
"""
FLUSH_S = 0.1
"""Longest time that an item of a stream is held back to be sent with the next ones, in seconds."""

ITEMS_A_CALL = 16
"""Items of a stream that a worker gets in one call."""
PATIENCE_S = 120.0
"""Longest time that one file may take before its worker is killed."""

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_HEADER = struct.Struct("!Q")
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows' start_new_session


class WorkerDied(RuntimeError):
    """A worker process ended without an answer, as a crash in native code or a kill does.

    `exit_code` is negative for a signal; `output` is what the process last wrote to standard error.
    """

    def __init__(self, work: str, exit_code: int, output: str) -> None:
        super().__init__(work, exit_code, output)
        self.work, self.exit_code, self.output = work, exit_code, output
        self.how = f"ended with {exit_code}"
        if exit_code < 0:
            self.how = f"was killed by signal {-exit_code}"

    def __str__(self) -> str:
        """Returns how the process ended, and the last lines that it wrote."""
        lines = [f"The process of {self.work} {self.how}.", *self.output.splitlines()[-20:]]
        return "\n".join(lines)


class Worker:
    """One worker process.

    Args:
        environment: all of its environment variables; this process's where None.
        max_calls: calls after which it is replaced.
        max_growth: bytes by which its memory may grow after its first call before it is replaced.
        keep_stderr: whether its standard error is kept, for `output`; otherwise it is discarded.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        max_calls: int | None = None,
        max_growth: int | None = None,
        keep_stderr: bool = True,
    ) -> None:
        self.kind = _kind(environment)
        self._max_calls, self._max_growth = max_calls, max_growth
        self._num_calls = self._first_memory = 0
        self._errors = tempfile.TemporaryFile() if keep_stderr else None  # noqa: SIM115
        environment = os.environ if environment is None else environment
        path = [str(paths.checkout()), *filter(None, [environment.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            # -P: a folder `lib` in the current directory must not shadow this package.
            [sys.executable, "-P", "-m", "lib.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors if self._errors else subprocess.DEVNULL,
            env={**environment, "PYTHONPATH": os.pathsep.join(path), "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,  # Ctrl-C in the terminal is for the parent to answer
            creationflags=_NEW_GROUP,
        )
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read_replies, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Sends a call; `work` must be importable by its name."""
        self._num_calls += 1
        if self._errors:
            self._errors.seek(0)
            self._errors.truncate()
        with contextlib.suppress(OSError):  # it has died, and `receive` says so
            _write_frame(self._process.stdin, pickle.dumps((work, arguments)))

    def receive(self, timeout_s: float | None = None) -> tuple[str, Any] | None:
        """Returns the next reply, or None when there is none within `timeout_s`.

        A reply is ("item", value) of a generator, ("result", value), ("error", exception) or
        ("died", exit code).
        """
        try:
            frame = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if frame is None:
            self._replies.put(None)
            return "died", self._process.wait()
        return pickle.loads(frame)  # noqa: S301 - from our own child

    def output(self) -> str:
        """Returns what the process wrote to its standard error during the last call."""
        if not self._errors:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", errors="replace").strip()

    def memory(self) -> int:
        """Returns the bytes of main memory that the process holds; 0 when it has ended."""
        import psutil

        try:
            return psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def should_recycle(self) -> bool:
        """Whether the process should serve no further call."""
        has_ended = self._process.poll() is not None
        is_worn = self._max_calls is not None and self._num_calls >= self._max_calls
        if has_ended or is_worn or self._max_growth is None:
            return has_ended or is_worn
        self._first_memory = self._first_memory or self.memory()
        return self.memory() > self._first_memory + self._max_growth

    def stop(self) -> None:
        """Ends the process and what it has started."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Stops the process and releases what is held for it."""
        self.stop()
        self._thread.join()
        self._process.stdout.close()
        if self._errors:
            self._errors.close()

    def _read_replies(self) -> None:
        while (frame := _read_frame(self._process.stdout)) is not None:
            self._replies.put(frame)
        self._replies.put(None)


_idle: list[Worker] = []
_lock = threading.Lock()


def acquire(environment: Mapping[str, str] | None = None, **limits: int | None) -> Worker:
    """Returns an idle worker of this environment, or a new one with the limits of `Worker`."""
    with _lock:
        for worker in [worker for worker in _idle if worker.kind == _kind(environment)]:
            _idle.remove(worker)
            if not worker.should_recycle():
                return worker
            worker.close()
    return Worker(environment, **limits)


def release(worker: Worker) -> None:
    """Keeps a worker for the next call, or ends it when it should be replaced."""
    if worker.should_recycle():
        worker.close()
        return
    with _lock:
        _idle.append(worker)


def shutdown() -> None:
    """Ends all idle workers."""
    with _lock:
        while _idle:
            _idle.pop().close()


def call(
    work: Callable[..., Any],
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    should_stop: Callable[[Worker], bool] = lambda worker: False,
    **limits: int | None,
) -> Any:
    """Returns `work(*arguments)`, computed by a worker.

    Args:
        work: a function that a worker can import by its name.
        arguments: picklable.
        environment: see `Worker`.
        should_stop: asked five times a second with the worker; the worker is ended when true.
        **limits: `max_calls` and `max_growth` of `Worker`.

    Raises:
        WorkerDied: the process ended without an answer, also when `should_stop` ended it.
        Exception: what `work` raised, with its traceback as a note.
    """
    worker = acquire(environment, **limits)
    try:
        worker.send(work, *arguments)
        while (reply := worker.receive(0.2)) is None:
            if should_stop(worker):
                worker.stop()
        kind, value = reply
        output = worker.output() if kind == "died" else ""
    except BaseException:
        worker.close()
        raise
    release(worker)
    if kind == "error":
        raise value
    if kind == "died":
        raise WorkerDied(f"{work.__module__}.{work.__qualname__}", value, output)
    return value


@dataclass(frozen=True)
class Lost:
    """What `stream` yields for an item that ended its worker or took too long; `why` says which."""

    why: str


def stream(
    work: Callable[..., Iterator[Any]],
    items: Sequence[Any],
    *arguments: Any,
    workers: int,
    patience_s: float,
    ahead: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """Yields what `work(part, *arguments)` yields for each item of a part, in the order of `items`.

    An item that ends its worker, or takes too long, is `Lost`; the others are computed.

    Args:
        work: a generator function that a worker can import by its name.
        items: picklable; a worker gets `ITEMS_A_CALL` of them at a time.
        arguments: picklable.
        workers: number of processes at most.
        patience_s: longest time for one item.
        ahead: items computed before they are asked for, so that few are in memory; all if None.
        environment: see `Worker`.
    """
    parts = [items[start : start + ITEMS_A_CALL] for start in range(0, len(items), ITEMS_A_CALL)]
    most = len(parts) if ahead is None else max(workers, -(-ahead // ITEMS_A_CALL))
    idle: queue.SimpleQueue[_Feeder] = queue.SimpleQueue()
    stopped = threading.Event()

    def compute(part: Sequence[Any]) -> list[Any]:
        try:
            feeder = idle.get_nowait()
        except queue.Empty:
            feeder = _Feeder(work, arguments, patience_s, environment)
        try:
            return feeder.compute(part, stopped)
        finally:
            idle.put(feeder)

    waiting: deque[Future[list[Any]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for part in parts:
                if len(waiting) == most:
                    yield from waiting.popleft().result()
                waiting.append(pool.submit(compute, part))
            while waiting:
                yield from waiting.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            while not idle.empty():
                idle.get().close()


@dataclass
class _Feeder:
    """Feeds one worker at a time. When one dies over several items, the next one gets them one by
    one, which tells the item.
    """

    work: Callable[..., Iterator[Any]]
    arguments: tuple[Any, ...]
    patience_s: float
    environment: Mapping[str, str] | None
    worker: Worker | None = None

    def compute(self, items: Sequence[Any], stopped: threading.Event) -> list[Any]:
        """Returns the values of the items; fewer when it is stopped."""
        left, size, values = list(items), len(items), []
        while left and not stopped.is_set():
            if self.worker is None:
                self.worker = Worker(self.environment, keep_stderr=False)
                self.worker.send(self.work, [], *self.arguments)
                self.worker.receive()  # its start is not the first item's time
            part = left[:size]
            self.worker.send(self.work, part, *self.arguments)
            for _ in part:
                kind, value = self.worker.receive(self.patience_s) or ("hung", None)
                if kind != "item":
                    break
                values.append(value)
                del left[0]
            else:
                self.worker.receive()  # the end of the call
                continue
            if kind == "error":
                raise value
            self.close()
            if size == 1:
                values.append(Lost(_describe_death(kind, value, self.patience_s)))
                del left[0]
            size = 1
        return values

    def close(self) -> None:
        """Ends the worker, if there is one."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.close()
            self.worker = None


def _describe_death(kind: str, exit_code: int | None, patience_s: float) -> str:
    if kind == "hung":
        return f"reading it took longer than {patience_s:g} s"
    ended = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return f"reading it ended the worker process ({ended})"


@contextlib.contextmanager
def without_native_messages() -> Iterator[None]:
    """Holds back what native code writes to standard error in the block; when the block fails, all
    of it is given out.

    TensorFlow announces its instruction sets and missing CUDA drivers before it reads its own
    setting to be silent.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)


def num_cores() -> int:
    """Returns the number of cores for this process, by its container and its run's share."""
    if CORES in os.environ:
        return int(os.environ[CORES])
    from dask.system import CPU_COUNT

    return CPU_COUNT


def die_with_parent(parent: int) -> None:
    """Lets Linux kill this process when the thread that started it ends; elsewhere does nothing.

    `parent` is the process id by which the caller knows its parent; if that process has ended
    already, this one ends at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


on_parent_death: list[Callable[[], None]] = []
"""Functions that a worker calls before it ends because its parent has; kernels are killed so."""


def main() -> None:
    """Serves calls until the input closes."""
    replies = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)  # what the work prints must not come between the replies
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(calls,), name="parent watch", daemon=True).start()
    while True:
        _serve(calls.get(), replies)


def _read_calls(calls: queue.SimpleQueue[bytes]) -> None:
    while (frame := _read_frame(sys.stdin.buffer)) is not None:
        calls.put(frame)
    for act in list(on_parent_death):
        act()
    os._exit(143)


def _serve(frame: bytes, replies: IO[bytes]) -> None:
    flushed = time.monotonic()
    try:
        work, arguments = pickle.loads(frame)  # noqa: S301 - from our own parent
        value = work(*arguments)
        if isinstance(value, Iterator):
            for item in value:
                _write_frame(replies, pickle.dumps(("item", item)), flush=False)
                if time.monotonic() - flushed > FLUSH_S:
                    replies.flush()
                    flushed = time.monotonic()
            value = None
        packed = pickle.dumps(("result", value))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        packed = _pack_error(error)
    _write_frame(replies, packed)


def _pack_error(error: Exception) -> bytes:
    try:
        packed = pickle.dumps(("error", error))
        pickle.loads(packed)  # noqa: S301 - some exceptions cannot be rebuilt
    except Exception:
        return pickle.dumps(("error", RuntimeError("".join(traceback.format_exception(error)))))
    return packed


def _write_frame(stream: IO[bytes], frame: bytes, *, flush: bool = True) -> None:
    stream.write(_HEADER.pack(len(frame)) + frame)
    if flush:
        stream.flush()


def _read_frame(stream: IO[bytes]) -> bytes | None:
    """Returns the next frame, or None at the end of the stream, also within a frame."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (size,) = _HEADER.unpack(header)
    frame = stream.read(size)
    return frame if len(frame) == size else None


def _kind(environment: Mapping[str, str] | None) -> frozenset[tuple[str, str]] | None:
    return None if environment is None else frozenset(environment.items())


if __name__ == "__main__":
    # As `lib.processes`, so that what the work registers in `on_parent_death` is seen here.
    from lib import processes

    processes.main()
