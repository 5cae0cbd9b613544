"""Work on Dask: submit, poll, cancel. Nothing else of the suite knows how and where work is done.

    with Engine() as engine:
        engine.submit("a", train, settings, apart=True)
        for outcome in engine.poll(timeout_s=1.0): ...

Without an address a scheduler and a worker live in this very process; with one, an existing cluster
is used, whose machines must see the same folders. Work that is memory-hungry, that may crash, or
that must be stoppable is done `apart`.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import paths
from lib.batch import calls, machine, pool, shared
from lib.batch.machine import Share
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from distributed import Client, Future

_ATTEMPTS = 10
_SHORT_MEMORY = {
    "distributed.admin.log-length": 1000,
    "distributed.admin.system-monitor.log-length": 100,
}
"""What Dask remembers of its own doings for its status page, which grows for an hour otherwise."""


@dataclass(frozen=True)
class Outcome:
    """What came of one piece of work: `value`, or the `error` it raised; both None when it was
    cancelled.
    """

    name: str
    value: Any
    error: BaseException | None


@dataclass
class _Task:
    future: Future
    again: Callable[[], Future]
    attempts: int = 1


class Engine:
    """Does work on this machine or on a cluster. It starts with the first work it is given; use it
    in a `with` block.
    """

    def __init__(self, *, workers: int | None = None, cluster: str | None = None) -> None:
        self._cluster = cluster
        self._workers = workers
        self._client: Client | None = None
        self._tasks: dict[str, _Task] = {}
        self._done: queue.SimpleQueue[tuple[str, Future]] = queue.SimpleQueue()
        self._most: dict[str, float] = {}

    def __enter__(self) -> Engine:
        """Returns the engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the engine."""
        self.close()

    @property
    def slots(self) -> int:
        """How many pieces of work are done at the same time."""
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
        apart: bool = False,
    ) -> None:
        """Queues `work(*arguments)` under `name`, which must not be at work already; earlier work
        goes first.

        Args:
            work: a function that the workers can import by its name.
            cores: cores that it takes of its worker, at most all there are.
            gpus: GPUs that it takes; asked for only where workers have any.
            memory_gb: memory that it takes, at most all there is.
            apart: call it in a process of its own, which has its share of cores and GPUs, is kept
                for the next call, and is ended when the work is cancelled. Otherwise it is called
                in a thread of the worker.
        """
        if name in self._tasks:
            raise ValueError(f"`name` must not be at work already. Received: {name!r}.")
        client = self._start()
        wanted = {"cores": cores or 0, "gpus": gpus or 0, "memory_gb": memory_gb or 0}
        resources = {
            kind: min(amount, self._most[kind])
            for kind, amount in wanted.items()
            if amount and kind in self._most
        }
        key = f"darkroom-{name}-{uuid.uuid4().hex[:12]}"
        if apart:
            share = Share(cores=cores, parallel=self.slots, gpus=gpus)
            work, arguments = calls.call, (work, arguments, share, str(paths.root()))

        def again() -> Future:
            fresh = f"{key}-{uuid.uuid4().hex[:4]}"
            future = client.submit(
                work, *arguments, key=fresh, pure=False, resources=resources or None
            )
            future.add_done_callback(lambda done: self._done.put((name, done)))
            return future

        self._tasks[name] = _Task(again(), again)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Waits at most `timeout_s` for something to be done and returns all that is. Work of lost
        workers is done anew.
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
        """Stops one piece of work, or all, whether it waits or is at work."""
        names = [name] if name is not None else list(self._tasks)
        futures = [self._tasks[each].future for each in names if each in self._tasks]
        if futures:
            self._start().cancel(futures, force=True)

    def close(self) -> None:
        """Lets go of the workers; what is still at work is stopped."""
        if self._client is None:
            return
        self.cancel()
        self._client.close(timeout=20)
        self._client = None
        if self._local is not None:
            self._local.close(timeout=20)
            pool.dismiss()

    def check(self, folder: Path, *, gpus: int = 0) -> None:
        """Raises DarkroomError when work of this study could not be done here.

        That is so when no worker has `gpus` GPUs though there are some, or when a worker of the
        cluster does not share `folder`, to which all runs write, or has other code than this
        machine.
        """
        most = _here() if self._cluster is None else self._known()
        if gpus > most.get("gpus", gpus):
            raise DarkroomError(
                f"A stage wants {gpus} GPUs, but no worker has more than {most['gpus']:g}. Lower "
                "its `gpus`."
            )
        if self._cluster is not None:
            shared.check(self._start(), folder)

    def _outcome(self, name: str, task: _Task) -> Outcome | None:
        from distributed import KilledWorker

        if task.future.status == "finished":
            return Outcome(name, task.future.result(), None)
        if task.future.status == "cancelled":
            return Outcome(name, None, None)
        error = task.future.exception()
        if isinstance(error, KilledWorker) and task.attempts < _ATTEMPTS:
            task.attempts += 1
            task.future = task.again()
            return None
        return Outcome(name, None, error)

    def _start(self) -> Client:
        if self._client is None:
            self._client = self._join(self._cluster) if self._cluster else self._start_local()
            for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
                for kind, amount in worker["resources"].items():
                    self._most[kind] = max(amount, self._most.get(kind, 0.0))
        return self._client

    def _known(self) -> dict[str, float]:
        self._start()
        return self._most

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
                "`dask worker ADDRESS`, "
                "then give its address, such as tcp://10.0.0.1:8786."
            ) from None
        return client


def default_workers() -> int:
    """Returns how many runs this machine does at a time: two, or one for each four cores where
    there are more than eight.

    At least as many as there are GPUs, and never more than one for each 2 GB of memory.
    """
    cores, gpus = machine.num_cores(), len(machine.visible_gpus())
    return max(
        1, min(max(min(cores, 2), cores // 4, gpus), machine.total_memory() // 2_000_000_000)
    )


def _here() -> dict[str, float]:
    """What this machine's own worker has, as Dask resources."""
    gpus = len(machine.visible_gpus())
    found = {"cores": float(machine.num_cores()), "memory_gb": machine.total_memory() / 1e9}
    return found | ({"gpus": float(gpus)} if gpus else {})
