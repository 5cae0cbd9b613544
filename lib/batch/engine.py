"""Work on Dask: submit, poll, cancel. Nothing else of the suite knows how and where work is done.

Without an address a scheduler and a worker live in this very process (their tasks start processes, so nothing is lost);
with one, an existing cluster is used, whose machines must see the same folders.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.batch import launch, runners
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from distributed import Client, Future

_ATTEMPTS = 10


@dataclass(frozen=True)
class Outcome:
    """What came of one piece of work: `value`, or the `error` it raised; both None when it was cancelled."""

    name: str
    value: Any
    error: BaseException | None


@dataclass
class _Task:
    future: Future
    again: Callable[[], Future]
    attempts: int = 1


class Engine:
    """Does work on this machine or on a cluster. It starts with the first work it is given; use it in a `with` block."""

    def __init__(self, *, workers: int | None = None, cluster: str | None = None) -> None:
        self._cluster = cluster
        self._workers = workers
        self._client: Client | None = None
        self._tasks: dict[str, _Task] = {}
        self._done: queue.SimpleQueue[tuple[str, Future]] = queue.SimpleQueue()
        self._resources: set[str] = set()

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

    def submit(self, name: str, work: Callable[..., Any], *arguments: Any, cores: float | None = None, gpus: int = 0) -> None:
        """Queues `work(*arguments)` under `name`, which must not be at work already; earlier work goes first.

        `work` must be importable by name on the workers. `cores` and `gpus` are what it takes of a worker.
        """
        if name in self._tasks:
            raise ValueError(f"`name` must not be at work already. Received: {name!r}.")
        client = self._start()
        wanted = {"cores": cores or 0, "gpus": gpus}
        resources = {kind: amount for kind, amount in wanted.items() if amount and kind in self._resources}
        key = f"darkroom-{name}-{uuid.uuid4().hex[:12]}"

        def again() -> Future:
            fresh = f"{key}-{uuid.uuid4().hex[:4]}"
            future = client.submit(work, *arguments, key=fresh, pure=False, resources=resources or None)
            future.add_done_callback(lambda done: self._done.put((name, done)))
            return future

        self._tasks[name] = _Task(again(), again)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Waits at most `timeout_s` for something to be done and returns all that is. Work of lost workers is done anew."""
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
            runners.dismiss()

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
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._resources = {kind for worker in workers for kind in worker["resources"]}
        return self._client

    def _start_local(self) -> Client:
        from distributed import Client, LocalCluster

        gpus = len(launch.visible_gpus())
        resources = {"cores": float(launch.num_cores())} | ({"gpus": float(gpus)} if gpus else {})
        self._local = LocalCluster(
            n_workers=1, threads_per_worker=self.slots, processes=False, resources=resources, memory_limit=0,
            dashboard_address=None, protocol="inproc://", silence_logs=50,
            # Any free port for its status page, so that two studies at once do not get into each other's way.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        )  # fmt: skip
        return Client(self._local, set_as_default=False)

    def _join(self, address: str) -> Client:
        from distributed import Client

        self._local = None
        try:
            client = Client(address, timeout=5, set_as_default=False)
            client.wait_for_workers(1, timeout=30)
        except (OSError, TimeoutError, ValueError) as error:
            raise DarkroomError(
                f"No cluster answers at {address!r} ({error}). Start one with `dask scheduler` and `dask worker ADDRESS`, "
                "then give its address, such as tcp://10.0.0.1:8786."
            ) from None
        return client

    def check_shared(self, folder: Path) -> None:
        """Raises DarkroomError when a worker of the cluster does not see `folder`, which all runs write to."""
        if self._cluster is None:
            return
        marker = folder / f".shared-{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
        try:
            seen = self._start().run(_sees, str(marker))
        finally:
            marker.unlink()
        if blind := sorted(worker for worker, sees in seen.items() if not sees):
            raise DarkroomError(
                f"The worker {blind[0]} does not see {folder}. Put DARKROOM_HOME on a folder that all machines share under the "
                "same path."
            )


def default_workers() -> int:
    """Returns how many runs this machine does at a time: two, or one for each four cores where there are more than eight.

    At least as many as there are GPUs, and never more than one for each 2 GB of memory.
    """
    cores, gpus = launch.num_cores(), len(launch.visible_gpus())
    return max(1, min(max(min(cores, 2), cores // 4, gpus), launch.total_memory() // 2_000_000_000))


def _sees(path: str) -> bool:
    return Path(path).exists()
