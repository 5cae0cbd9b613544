"""A task on a Dask worker, seen from inside: what it gets of its machine, and whether anybody still
wants it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from lib.batch import machine
from lib.batch.machine import Share


@contextlib.contextmanager
def begun(share: Share, home: str) -> Iterator[tuple[dict[str, str], Callable[[], bool]]]:
    """Yields the environment variables for a process of this task, which holds its GPUs meanwhile,
    and: is it still wanted?

    Nobody wants a task any more after a cancel, or when the runner of its study has died.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state not in ("cancelled", "released", "forgotten")

    with machine.environment(share, slots=worker.state.nthreads, home=home, wanted=wanted) as added:
        yield {**os.environ, **added}, wanted
