"""Execution on Dask: submit, poll, cancel, map. No other module uses Dask.

    with Executor() as executor:
        executor.submit("a", train, settings, isolated=True)
        for outcome in executor.poll(timeout_s=1.0): ...
        for index, table in executor.map(measure, parts, folder=folder): ...

Without an address a scheduler and a worker live in this process; with one, an existing cluster is
used, whose machines must see the same folders. Work that needs much memory, may crash or must be
stoppable runs isolated, in a process of the pool.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from lib import files, hashing, paths, processes
from lib.batch import kernel, machine
from lib.batch.machine import Share
from lib.errors import DarkroomError

if TYPE_CHECKING:
    import numpy
    import pandas
    from distributed import Client, Future

MAX_GROWTH = 500_000_000
"""Bytes by which a process of isolated work may grow after its first call before it is replaced."""

_ATTEMPTS = 10
_MAP_ATTEMPTS = 3
_PARTS_AHEAD = 2  # queued for each worker, so that none waits for the next
_SHORT_MEMORY = {
    "distributed.admin.log-length": 1000,
    "distributed.admin.system-monitor.log-length": 100,
}
"""Dask's own history for its status page, which otherwise grows for an hour."""


def for_pass(folder: Path, workers: int | None, cluster: str | None) -> Executor:
    """Returns the executor of a pass over many files: by default all cores of this machine.

    Raises DarkroomError for a cluster that does not share `folder`.
    """
    local = None if cluster else processes.num_cores()
    executor = Executor(workers=local if workers is None else workers, cluster=cluster)
    executor.check(folder)
    return executor


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task: `value`, or the `error` it raised; both None if it was cancelled."""

    name: str
    value: Any
    error: BaseException | None


@dataclass
class _Task:
    future: Future
    restart: Callable[[], Future]
    attempts: int = 1


class Executor:
    """Does work on this machine or on a cluster; starts with the first piece of work. Use it in a
    `with` block.
    """

    def __init__(self, *, workers: int | None = None, cluster: str | None = None) -> None:
        if workers is not None and (workers < 1 or cluster):
            raise DarkroomError(
                f"--workers must be at least 1 and is for this machine; with --cluster leave it "
                f"out. Received: {workers}."
            )
        if cluster and not re.fullmatch(r"(\w+://)?[^\s/]+:\d+", cluster):
            raise DarkroomError(
                f"--cluster {cluster!r} is not an address; expected one such as tcp://10.0.0.1:8786."
            )
        self._cluster = cluster
        self._workers = workers
        self._client: Client | None = None
        self._tasks: dict[str, _Task] = {}
        self._done: queue.SimpleQueue[tuple[str, Future]] = queue.SimpleQueue()
        self._most: dict[str, float] = {}

    def __enter__(self) -> Executor:
        """Returns the executor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the executor."""
        self.close()

    @property
    def slots(self) -> int:
        """Number of tasks computed at the same time."""
        if self._cluster is None:
            return self._workers or default_workers()
        return max(1, sum(self._start().nthreads().values()))

    def submit(
        self,
        name: str,
        work: Callable[..., Any],
        *arguments: Any,
        cores: float | None = None,
        gpus: int | None = None,
        memory_gb: float | None = None,
        isolated: bool = False,
    ) -> None:
        """Queues `work(*arguments)` under `name`, which must not be running already; earlier work
        goes first.

        Args:
            work: a function that the workers can import by its name.
            cores: cores that it takes of its worker, at most all there are.
            gpus: GPUs that it takes; asked for only where workers have any.
            memory_gb: memory that it takes, at most all there is.
            isolated: call it in a process of the pool, which has its share of cores and GPUs and is
                ended when the work is cancelled. Otherwise it is called in a thread of the worker.
        """
        if name in self._tasks:
            raise ValueError(f"`name` must not be running already. Received: {name!r}.")
        client = self._start()
        wanted = {"cores": cores or 0, "gpus": gpus or 0, "memory_gb": memory_gb or 0}
        resources = {
            kind: min(amount, self._most[kind])
            for kind, amount in wanted.items()
            if amount and kind in self._most
        }
        if isolated:
            share = Share(cores=cores, parallel=self.slots, gpus=gpus)
            work, arguments = call_isolated, (work, arguments, share, str(paths.root()))

        def start() -> Future:
            key = f"darkroom-{name}-{uuid.uuid4().hex[:12]}"
            future = client.submit(
                work, *arguments, key=key, pure=False, resources=resources or None
            )
            future.add_done_callback(lambda done: self._done.put((name, done)))
            return future

        self._tasks[name] = _Task(start(), start)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Waits at most `timeout_s` for work to end and returns all that has. Work of lost workers
        is restarted.
        """
        outcomes = []
        while self._tasks:
            try:
                name, future = self._done.get(timeout=0 if outcomes else timeout_s)
            except queue.Empty:
                break
            task = self._tasks.get(name)
            if task is None or task.future is not future:
                continue
            if (outcome := self._outcome(name, task)) is not None:
                del self._tasks[name]
                outcomes.append(outcome)
        return outcomes

    def cancel(self, name: str | None = None) -> None:
        """Stops one piece of work, or all, whether queued or running."""
        names = [name] if name is not None else list(self._tasks)
        futures = [self._tasks[key].future for key in names if key in self._tasks]
        if futures:
            self._start().cancel(futures, force=True)

    def close(self) -> None:
        """Releases the workers; what is still running is stopped."""
        if self._client is None:
            return
        self.cancel()
        self._client.close(timeout=20)
        self._client = None
        if self._local is not None:
            self._local.close(timeout=20)
            processes.shutdown()
            kernel.stop_template()

    def check(self, folder: Path, *, gpus: int = 0) -> None:
        """Raises DarkroomError when work of this study could not be done here.

        That is so when no worker has `gpus` GPUs though there are some, or when a worker of the
        cluster does not share `folder`, to which all runs write, or has other code than this
        machine.
        """
        if self._cluster is not None:
            self._start()
        most = _here() if self._cluster is None else self._most
        if gpus > most.get("gpus", gpus):
            raise DarkroomError(
                f"A stage wants {gpus} GPUs, but no worker has more than {most['gpus']:g}. Lower "
                "its `gpus`."
            )
        if self._cluster is not None:
            check_shared(self._start(), folder)

    def map(
        self,
        work: Callable[..., pandas.DataFrame | numpy.ndarray],
        parts: Sequence[Sequence[Any]],
        *common: Any,
        folder: Path,
        gpus: int | None = None,
    ) -> Iterator[tuple[int, pandas.DataFrame | numpy.ndarray]]:
        """Yields (index of the part, `work(part, *common)`) for every part, in order.

        Each part's table or array is a file in `folder`, which all machines share; so a pass that
        was stopped continues where it was, and no more than one part is in memory.

        Args:
            work: a function that workers can import by its name; it is called isolated.
            parts: their items, and `common`, must be writable as JSON, which names a part's file.
            common: further arguments of `work`.
            folder: where the parts' files are kept; delete it when the whole is safe.
            gpus: as for `submit`.

        Raises:
            DarkroomError: a part failed, or its process died three times; the other parts are kept.
        """
        called = f"{work.__module__}.{work.__qualname__}", json.dumps(common)
        stored = [folder / hashing.digest(*called, json.dumps(list(part))) for part in parts]
        done = [any(path.is_file() for path in _part_files(file)) for file in stored]
        waiting = deque(index for index, is_done in enumerate(done) if not is_done)
        missing, tries, running = set(waiting), Counter[int](), dict[str, int]()

        def submit(index: int) -> None:
            tries[index] += 1
            name = f"{stored[index]}-{tries[index]}"
            running[name] = index
            arguments = (work, list(parts[index]), common, stored[index])
            self.submit(name, do_part, *arguments, cores=1, gpus=gpus, isolated=True)

        for index, file in enumerate(stored):
            while index in missing:
                while waiting and len(running) < self.slots * _PARTS_AHEAD:
                    submit(waiting.popleft())
                for outcome in self.poll(1.0):
                    ended, error = running.pop(outcome.name), outcome.error
                    if isinstance(error, processes.WorkerDied) and tries[ended] < _MAP_ATTEMPTS:
                        submit(ended)
                    elif error is not None:
                        part = parts[ended]
                        raise DarkroomError(
                            f"A part of {len(part)} files, {part[0]} to {part[-1]}, failed: "
                            f"{type(error).__name__}: {error}. The other parts are kept; the same "
                            "command continues."
                        )
                    else:
                        missing.discard(ended)
            yield index, _read_part(file)

    def _outcome(self, name: str, task: _Task) -> Outcome | None:
        from distributed import KilledWorker

        if task.future.status == "finished":
            return Outcome(name, task.future.result(), None)
        if task.future.status == "cancelled":
            return Outcome(name, None, None)
        error = task.future.exception()
        if isinstance(error, KilledWorker) and task.attempts < _ATTEMPTS:
            task.attempts += 1
            task.future = task.restart()
            return None
        return Outcome(name, None, error)

    def _start(self) -> Client:
        if self._client is None:
            self._client = self._join(self._cluster) if self._cluster else self._start_local()
            for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
                for kind, amount in worker["resources"].items():
                    self._most[kind] = max(amount, self._most.get(kind, 0.0))
        return self._client

    def _start_local(self) -> Client:
        import dask
        from distributed import Client, LocalCluster

        with dask.config.set(_SHORT_MEMORY):
            self._local = LocalCluster(
                n_workers=1,
                threads_per_worker=self.slots,
                processes=False,
                resources=_here(),
                memory_limit=0,
                dashboard_address=None,
                protocol="inproc://",
                silence_logs=50,
                # Any free port for its status page, so that two studies at once do not get into
                # each other's way.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            )
        return Client(self._local, set_as_default=False)

    def _join(self, address: str) -> Client:
        from distributed import Client

        self._local = None
        try:
            client = Client(address, timeout=5, set_as_default=False)
            client.wait_for_workers(1, timeout=30)
        except (OSError, TimeoutError, ValueError) as error:
            raise DarkroomError(
                f"No cluster answers at {address!r} ({error}). Start one with `dask scheduler` and "
                "`dask worker ADDRESS`, then give its address, such as tcp://10.0.0.1:8786."
            ) from None
        return client


def default_workers() -> int:
    """Returns how many runs this machine does at a time: two, or one for each four cores where
    there are more than eight.

    At least as many as there are GPUs, and never more than one for each 2 GB of memory.
    """
    cores, gpus = processes.num_cores(), len(machine.visible_gpus())
    wanted = max(min(cores, 2), cores // 4, gpus)
    return max(1, min(wanted, machine.total_memory() // 2_000_000_000))


def _here() -> dict[str, float]:
    """Dask resources of this machine's worker."""
    gpus = len(machine.visible_gpus())
    resources = {"cores": float(processes.num_cores()), "memory_gb": machine.total_memory() / 1e9}
    return resources | ({"gpus": float(gpus)} if gpus else {})


def call_isolated(
    work: Callable[..., Any], arguments: tuple[Any, ...], share: Share, home: str
) -> Any:
    """Returns `work(*arguments)`, computed in a process of the pool with its `share` of this
    machine; on a Dask worker.

    Raises what `work` raises, and WorkerDied when its process died. Returns None when the call was
    cancelled.
    """
    with work_environment(share, home) as (environment, wanted):
        options = {"environment": environment, "max_growth": MAX_GROWTH}
        try:
            return processes.call(work, *arguments, should_stop=lambda _: not wanted(), **options)
        except processes.WorkerDied:
            if wanted():
                raise
            return None


@contextlib.contextmanager
def work_environment(
    share: Share, home: str
) -> Iterator[tuple[dict[str, str], Callable[[], bool]]]:
    """Yields the environment variables for a process of this Dask task, and a function: is the task
    still wanted?

    The task holds its GPUs meanwhile. It is no longer wanted after a cancel, or when the client has
    died.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state not in ("cancelled", "released", "forgotten")

    with machine.environment(share, slots=worker.state.nthreads, home=home, wanted=wanted) as added:
        yield {**os.environ, **added}, wanted


def do_part(
    work: Callable[..., Any], part: Sequence[Any], common: tuple[Any, ...], file: Path
) -> None:
    """Writes `work(part, *common)` to `file` with the suffix of its kind; runs on a worker."""
    import numpy

    result = work(part, *common)
    table, array = _part_files(file)
    if isinstance(result, numpy.ndarray):
        with files.replacing(array) as aside, aside.open("wb") as target:
            numpy.save(target, result)
    else:
        files.write_parquet(table, result)


def _part_files(file: Path) -> tuple[Path, Path]:
    return file.with_name(f"{file.name}.parquet"), file.with_name(f"{file.name}.npy")


def _read_part(file: Path) -> pandas.DataFrame | numpy.ndarray | None:
    import numpy
    import pandas

    table, array = _part_files(file)
    if array.is_file():
        return numpy.load(array, mmap_mode="r", allow_pickle=False)
    return pandas.read_parquet(table) if table.is_file() else None


def check_shared(client: Client, folder: Path) -> None:
    """Raises DarkroomError, naming the worker, when one does not share `folder`, or would compute
    with other code.
    """
    marker = folder / f".shared-{uuid.uuid4().hex}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(marker, is_singleton=False)
    try:
        with lock:
            answers = client.run(_look, str(marker))
    finally:
        marker.unlink(missing_ok=True)
    own = hashing.library()
    for worker, (problem, its_code) in sorted(answers.items()):
        if problem:
            raise DarkroomError(f"The worker {worker} {problem}")
        if its_code != own:
            raise DarkroomError(
                f"The worker {worker} has another version of the suite ({its_code}) than this "
                f"machine ({own}). Let all machines use one checkout, such as a shared folder, or "
                f"update it; here it is {paths.checkout()}."
            )


def _look(marker: str) -> tuple[str, str]:
    """Runs on a worker: what is wrong with the folder of `marker`, which the runner holds locked,
    and the code here.
    """
    path = Path(marker)
    where = "Put DARKROOM_HOME on a folder that all machines share under the same path."
    if not path.exists():
        return f"does not see {path.parent}. {where}", ""
    try:
        path.with_name(f"{path.name}-{uuid.uuid4().hex}").touch()
        for written in path.parent.glob(f"{path.name}-*"):
            written.unlink(missing_ok=True)
    except OSError as error:
        return f"cannot write to {path.parent} ({error.strerror}). {where}", ""
    try:
        with filelock.FileLock(path, timeout=0, is_singleton=False):
            return (
                f"can lock a file in {path.parent} that this machine holds locked, so two runs "
                "could write to one folder. Mount it with locks (for NFS: version 4, or without "
                "`nolock`)."
            ), ""
    except filelock.Timeout:
        return "", hashing.library()
