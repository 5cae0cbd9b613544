"""No process of a run outlives the one that started it, however that one dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def die_with_parent(parent: int) -> None:
    """Lets Linux kill this process when the thread that started it ends; does nothing on other
    systems.

    `parent` is the process id the caller knows its parent by; if that one is gone already, this
    process ends at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def watch(
    pipe: BinaryIO, *, hear: Callable[[bytes], None], then: Callable[[], None]
) -> threading.Thread:
    """Hands every line that comes through `pipe` to `hear`, from a thread, and calls `then` when
    the pipe's end is reached.

    The other end is closed at the latest when its holder dies.
    """

    def wait() -> None:
        for line in pipe:
            hear(line)
        then()

    thread = threading.Thread(target=wait, name="lifeline", daemon=True)
    thread.start()
    return thread
