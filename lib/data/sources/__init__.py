"""Where data comes from. Each module of this folder is one source and offers

- `NAME`, `ABOUT`, `LICENCE` (None where it is the user's own);
- `rows(raw, **options) -> DataFrame`: what the source says about its files: `path` (POSIX, relative
  to raw), `label`, `source_split` (train, test, val or None), and as many `attr_*` and
  `box_left/top/right/bottom` columns as it knows;
- `intake(raw) -> dict`, only where the data has to be made or fetched: fills the empty folder `raw`
  and returns what `source.json` should note (`licence`, `citation`, `label_rule`).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from lib.data.sources.intake import bring
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from pandas import DataFrame

    from lib.data.dataset import Dataset

__all__ = ["PACKAGED", "SOURCES", "bring", "module", "rows"]

PACKAGED = ("elpv", "digits", "planted", "marked")
"""Data sets that come by name alone; each has an `intake`."""

SOURCES = (*PACKAGED, "folders", "table")
"""The kinds that `source.json` may name."""


def module(kind: str) -> ModuleType:
    """Returns the source of that name. Raises DarkroomError with the list of sources when there is
    none.
    """
    if kind not in SOURCES:
        raise DarkroomError(f"There is no source {kind!r}; the sources are {', '.join(SOURCES)}.")
    return import_module(f"lib.data.sources.{kind}")


def rows(dataset: Dataset) -> DataFrame:
    """Returns one row a file that the source speaks of, sorted by path.

    Columns: `path`, `label`, `source_split`, `bytes`, `mtime_ns`, `problem` and `detail` (why the
        file cannot be read, or None; `missing` where the source names a file that is not there),
        then `attr_*` and `box_*`.
    """
    import pandas as pd

    found = dataset.files()
    kind, options = dataset.source["kind"], dataset.source.get("options", {})
    told = (
        module(kind).label(found)
        if kind == "folders"
        else module(kind).rows(dataset.raw, **options)
    )
    seen = pd.DataFrame(
        {
            "path": [file.path for file in found],
            "bytes": [file.size for file in found],
            "mtime_ns": [file.mtime_ns for file in found],
            "problem": pd.Series([file.problem for file in found], dtype=object),
            "detail": pd.Series([file.detail for file in found], dtype=object),
        }
    )
    table = told.merge(seen, on="path", how="left", validate="one_to_one")
    gone = table["bytes"].isna()
    table.loc[gone, "problem"] = "missing"
    table.loc[gone, "detail"] = "the source names this file, but it is not there"
    table[["bytes", "mtime_ns"]] = table[["bytes", "mtime_ns"]].fillna(0).astype("int64")
    for column in ("problem", "label", "source_split"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    first = ["path", "label", "source_split", "bytes", "mtime_ns", "problem", "detail"]
    rest = sorted(name for name in table.columns if name not in first)
    return table[first + rest].sort_values("path", ignore_index=True)
