"""A claim measured for itself: in a process of its own, by the clock."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable


def in_a_process(function: Callable, *given: object) -> object:
    """Returns what `function` returns, called in a fresh process, whose highest memory and imports
    are this claim's alone.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def seconds_of(function: Callable[[], object]) -> float:
    """Returns how long a call takes by the clock."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
