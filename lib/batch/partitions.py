"""One long pass over many files, cut into parts that the engine's workers do, on this machine or on
a cluster.

Each part's table or array is a file of its own in a folder that all machines share, so a pass that
was stopped goes on where it was, a part whose worker died is done anew, and no more than one part
is in anybody's memory.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import files as files_module
from lib import hashing
from lib.batch.calls import Crashed
from lib.batch.executor import Engine
from lib.errors import DarkroomError

if TYPE_CHECKING:
    import numpy
    import pandas

SIZE = 2000
"""Files in a part: about a minute of work, so that a lost worker costs little and starting one is a
small share.
"""
_TRIES = 3
_AHEAD = 2
"""Parts that are queued for each worker, so that none waits for the next."""


def cut(items: Sequence[Any], *, size: int = SIZE) -> list[Sequence[Any]]:
    """Returns `items` in parts of `size`, in order; the last may be shorter."""
    if size < 1:
        raise DarkroomError(f"A part must hold at least one file. Received: {size}.")
    return [items[start : start + size] for start in range(0, len(items), size)]


def spread(
    engine: Engine,
    work: Callable[..., pandas.DataFrame | numpy.ndarray],
    parts: Sequence[Sequence[Any]],
    *common: Any,
    folder: Path,
    gpus: int | None = None,
) -> Iterator[tuple[int, pandas.DataFrame | numpy.ndarray]]:
    """Yields (index of the part, `work(part, *common)`) for every part, in order; those that were
    kept are not done again.

    Args:
        work: a function that workers can import by name; it is called in a process of its own.
        parts: their items, and `common`, must be writable as JSON, since a part's file is named by
            them. folder: where the parts' files are kept; delete it when the whole is safe. gpus:
            as for `Engine.submit`.

    Raises:
        DarkroomError: a part failed, or its process died three times; the other parts are kept.
    """
    files = [folder / _name(work, part, common) for part in parts]
    waiting = deque(
        index for index, file in enumerate(files) if not any(path.is_file() for path in _kept(file))
    )
    missing, tries = set(waiting), Counter[int]()

    def submit(index: int) -> None:
        tries[index] += 1
        name = f"{files[index]}-{tries[index]}"
        at_work[name] = index
        engine.submit(
            name, do, work, list(parts[index]), common, files[index], cores=1, gpus=gpus, apart=True
        )

    at_work: dict[str, int] = {}
    for index, file in enumerate(files):
        while index in missing:
            while waiting and len(at_work) < engine.slots * _AHEAD:
                submit(waiting.popleft())
            for outcome in engine.poll(1.0):
                done = at_work.pop(outcome.name)
                if isinstance(outcome.error, Crashed) and tries[done] < _TRIES:
                    submit(done)
                elif outcome.error is not None:
                    raise _failed(parts[done], outcome.error)
                else:
                    missing.discard(done)
        yield index, _read(file)


def do(work: Callable[..., Any], part: Sequence[Any], common: tuple[Any, ...], file: Path) -> None:
    """Writes `work(part, *common)` to `file` with the suffix of its kind; runs on a worker."""
    import numpy

    found = work(part, *common)
    table, array = _kept(file)
    if isinstance(found, numpy.ndarray):
        with files_module.replacing(array) as aside, aside.open("wb") as target:
            numpy.save(target, found)
    else:
        files_module.write_parquet(table, found)


def _name(work: Callable[..., Any], part: Sequence[Any], common: tuple[Any, ...]) -> str:
    return hashing.digest(
        f"{work.__module__}.{work.__qualname__}", json.dumps(list(part)), json.dumps(common)
    )


def _kept(file: Path) -> tuple[Path, Path]:
    return file.with_name(f"{file.name}.parquet"), file.with_name(f"{file.name}.npy")


def _read(file: Path) -> pandas.DataFrame | numpy.ndarray | None:
    import numpy
    import pandas

    table, array = _kept(file)
    if array.is_file():
        return numpy.load(array, mmap_mode="r", allow_pickle=False)
    return pandas.read_parquet(table) if table.is_file() else None


def _failed(part: Sequence[Any], error: BaseException) -> DarkroomError:
    first, last = part[0], part[-1]
    return DarkroomError(
        f"A part of {len(part)} files, {first} to {last}, failed: {type(error).__name__}: {error}. "
        "The other parts are kept; "
        "the same command goes on."
    )
