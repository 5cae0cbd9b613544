"""The scan of a data set, its parts read by the workers of an executor."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lib.batch.executor import PART_SIZE, Executor, split_parts
from lib.cleaning import scan_workers
from lib.cleaning.measurements import VERSION, Measured
from lib.cleaning.scan import Measure
from lib.data.dataset import Dataset
from lib.data.value_range import Rendering

_FIELDS = [field.name for field in dataclasses.fields(Measured)]


def by(executor: Executor, dataset: Dataset, *, size: int = PART_SIZE) -> Measure:
    """Returns who measures files in place of this machine's own processes, for
    `cleaning.scan.scan`.
    """

    def measure(files: Sequence[Path], rendering: Rendering) -> Iterator[tuple[int, Measured]]:
        kept = dataset.folder / "scan" / "reading-parts"
        stamps = [_stamp(file) for file in files]
        parts = split_parts(stamps, size=size)
        for index, table in executor.map(of_part, parts, _version(rendering), folder=kept):
            for place, row in enumerate(table[_FIELDS].itertuples(index=False)):
                yield (
                    index * size + place,
                    Measured(*(None if pd.isna(value) else value for value in row)),
                )
        shutil.rmtree(kept, ignore_errors=True)

    return measure


def of_part(part: Sequence[tuple[str, int, int]], version: str) -> pd.DataFrame:
    """Returns one row a file, the fields of `Measured`; runs on a worker. A file that kills its
    reader is a row, too.
    """
    found: list[Measured | None] = [None] * len(part)
    rendering = Rendering.from_json(json.loads(version.partition(" ")[2]))
    for position, measured in scan_workers.measure_all(
        [Path(path) for path, _, _ in part], workers=1, rendering=rendering
    ):
        found[position] = measured
    return pd.DataFrame(
        [dataclasses.astuple(each) for each in found], columns=_FIELDS
    ).convert_dtypes()


def _version(rendering: Rendering) -> str:
    """What a part depends on beside its files: what is measured, and how values are rendered."""
    return f"{VERSION} {json.dumps(rendering.as_json(), sort_keys=True)}"


def _stamp(file: Path) -> tuple[str, int, int]:
    """Path, size and time of change: a part is done again when one of its files has changed."""
    try:
        stat = file.resolve().stat()
    except OSError:
        return str(file.absolute()), -1, -1
    return str(file.absolute()), stat.st_size, stat.st_mtime_ns
