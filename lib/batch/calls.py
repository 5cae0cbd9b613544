"""Functions called in processes of their own, which are kept for the next call, so that what they
load is loaded once.

`python -m lib.batch.calls` is told a call in each line of its input and answers each with a line. A
process serves one call at a time, ends when its input is closed, and can be killed without harm to
whoever called.
"""

from __future__ import annotations

import base64
import os
import pickle
import queue
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.batch import parent_watch, pool, task
from lib.batch.machine import Share

MODULE = "lib.batch.calls"
MOST_GROWTH = 500_000_000
"""Bytes by which a process may grow after its first call before it is replaced."""


class Crashed(RuntimeError):
    """The process of a call ended without an answer, as a crash in native code or a kill from
    outside does.
    """


def call(work: Callable[..., Any], arguments: tuple[Any, ...], share: Share, home: str) -> Any:
    """Returns `work(*arguments)`, called in another process with its `share` of this machine; runs
    on a Dask worker.

    Raises what `work` raises, with its traceback as a note, and Crashed when the process died.
    Returns None when the call was cancelled meanwhile; its process is then ended.
    """
    with (
        task.begun(share, home) as (environment, wanted),
        tempfile.TemporaryDirectory(prefix="darkroom-") as private,
    ):
        answered = Path(private, "answer")
        job = base64.b64encode(pickle.dumps((work, arguments, answered))) + b"\n"
        kept = {"module": MODULE, "environment": environment, "most_growth": MOST_GROWTH}
        ending, said = pool.ask(job, lambda _: not wanted(), **kept)
        if answered.exists():
            good, value = pickle.loads(answered.read_bytes())  # noqa: S301 - from our own child
            if good:
                return value
            raise value
    if not wanted():
        return None
    how = f"ended with {ending}" if ending >= 0 else f"was killed by signal {-ending}"
    raise Crashed(
        "\n".join(
            [f"The process of {work.__module__}.{work.__name__} {how}.", *said.splitlines()[-20:]]
        )
    )


def main() -> None:
    """Answers one call after the other, until the input is closed."""
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that the work prints may stand between the answers
    parent_watch.watch(sys.stdin.buffer, hear=jobs.put, then=lambda: os._exit(143))
    while True:
        _do(jobs.get())
        print(0, file=answers, flush=True)


def _do(job: bytes) -> None:
    work, arguments, answered = pickle.loads(base64.b64decode(job))  # noqa: S301 - from our own parent
    try:
        packed = pickle.dumps((True, work(*arguments)))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        packed = _packed(error)
    aside = answered.with_suffix(".aside")
    aside.write_bytes(packed)
    aside.replace(answered)


def _packed(error: Exception) -> bytes:
    try:
        pickle.loads(packed := pickle.dumps((False, error)))  # noqa: S301 - some exceptions cannot be put together again
    except Exception:
        return pickle.dumps((False, RuntimeError("".join(traceback.format_exception(error)))))
    return packed


if __name__ == "__main__":
    main()
