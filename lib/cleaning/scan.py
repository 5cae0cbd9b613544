"""The scan: every file of a data set read once, what was measured kept beside the raw files and not measured again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from lib import atomic
from lib.cleaning import workers as pool
from lib.cleaning.measure import VERSION, Measured
from lib.data.dataset import Dataset

FILE = Path("scan", "scan.parquet")
Measure = Callable[[Sequence[Path]], Iterator[tuple[int, Measured]]]
"""Whoever reads files: paths in, (position, what was measured) out, in any order."""
MEASURED = [field.name for field in dataclasses.fields(Measured)]
_TYPES = {
    **dict.fromkeys(("sha256", "problem", "detail", "pixels", "format", "mode"), "str"),
    **dict.fromkeys(("width", "height"), "Int32"),
    **dict.fromkeys(("dark", "bright", "contrast", "uniform", "sharpness"), "float64"),
    **dict.fromkeys(("hashes", "thumb"), "object"),
}


def scan(
    dataset: Dataset, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None,
    measure: Measure | None = None,
) -> pd.DataFrame:
    """Returns one row a file, sorted by path: the columns of `sources.rows` and of `Measured`.

    Files whose size and time of change are those of the last scan are not opened again. `workers` processes do the reading
    (default: one a processor), or `measure` where somebody else does it; `progress` is called with (files read, files to read).
    """
    rows = dataset.rows()
    known = _known(dataset.folder / FILE)
    table = rows.drop(columns=["detail"]).rename(columns={"problem": "barrier"}).merge(
        known, on=["path", "bytes", "mtime_ns"], how="left", indicator=True
    )
    told = rows.set_index("path")["detail"]
    fresh = (table["_merge"] == "left_only") & table["barrier"].isna()
    table = table.drop(columns="_merge").astype(_TYPES)
    barred = table["barrier"].notna()
    table.loc[barred, "problem"] = table.loc[barred, "barrier"].astype("str")
    table.loc[barred, "detail"] = table.loc[barred, "path"].map(told).astype("str")
    table = table.drop(columns="barrier")
    todo = table.index[fresh]
    if len(todo):
        measure = measure or functools.partial(pool.measure_all, workers=workers)
        read = _read(dataset, table.loc[todo, "path"], measure=measure, progress=progress)
        for name in MEASURED:
            table.loc[todo, name] = read[name].set_axis(todo)
    if len(todo) or len(known) != len(table):
        kept = table[~barred & (table["problem"] != "unreadable")]  # what could not be read is tried again next time
        atomic.write_parquet(
            dataset.folder / FILE, kept[["path", "bytes", "mtime_ns", *MEASURED]], metadata={"version": VERSION}
        )
    return table


def _read(
    dataset: Dataset, files: pd.Series, *, measure: Measure, progress: Callable[[int, int], None] | None
) -> pd.DataFrame:
    results: list[Measured | None] = [None] * len(files)
    measured = measure([dataset.raw / path for path in files])
    for number, (position, result) in enumerate(measured, start=1):
        results[position] = result
        if progress is not None:
            progress(number, len(files))
    columns = {name: [getattr(result, name) for result in results] for name in MEASURED}
    return pd.DataFrame(columns).astype(_TYPES)


def _known(path: Path) -> pd.DataFrame:
    import json

    import pyarrow.parquet

    empty = pd.DataFrame({"path": [], "bytes": [], "mtime_ns": [], **{name: [] for name in MEASURED}}).astype(
        {"path": "str", "bytes": "int64", "mtime_ns": "int64", **_TYPES}
    )
    if not path.is_file():
        return empty
    noted = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"darkroom", b"{}")
    if json.loads(noted).get("version") != VERSION:
        return empty
    return pd.read_parquet(path)
