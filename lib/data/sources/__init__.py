"""Sources of data. A packaged data set is a module of this folder with

- `NAME`, `ABOUT`, `LICENCE`;
- `intake(raw) -> dict`: fills the empty folder `raw` and returns entries of `source.json`
  (`licence`, `citation`, `label_rule`);
- `rows(raw) -> DataFrame`, unless its folders are the classes: `path` (POSIX, relative to raw),
  `label`, `source_split` (train, test, val or None), and any `attr_*` and
  `box_left/top/right/bottom` columns.

A user's folder is read by `choose`, which proposes readings by folder and by table, and takes the
one that fits or asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lib.data.dataset import Dataset
from lib.data.file_listing import ListedFile
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from pandas import DataFrame

    from lib.data.sources.reading import Reading

_MODULES = {
    "elpv": "elpv",
    "digits": "digits",
    "planted": "synthetic",
    "marked": "shortcut_demo",
}
PACKAGED = tuple(_MODULES)
"""Data sets that come by name alone; each has an `intake`."""

SOURCES = (*PACKAGED, "folders", "table", "names")
"""The kinds that `source.json` may name."""


def module(kind: str) -> ModuleType:
    """Returns the module of a packaged data set. Raises DarkroomError with the list of sources when
    there is none.
    """
    if kind not in PACKAGED:
        raise DarkroomError(f"There is no source {kind!r}; the sources are {', '.join(SOURCES)}.")
    return import_module(f"lib.data.sources.{_MODULES[kind]}")


def read_folder(raw: Path, files: Sequence[ListedFile], options: dict[str, Any]) -> Reading:
    """Returns how a folder is read whose files are listed already. Raises DarkroomError for a
    question or a useless folder.
    """
    from lib.data import decode
    from lib.data.sources import detect_source
    from lib.data.sources import options as reading_options

    known = {name: value for name, value in options.items() if name not in ("folder", "ending")}
    parsed = reading_options.parse(known)
    is_picture = lambda path: decode.kind_of_file(raw / path) is not None  # noqa: E731
    return detect_source.read(raw, detect_source.part(files, parsed, is_picture), parsed)


def rows(dataset: Dataset) -> DataFrame:
    """Returns one row a file that the source of a data set names, sorted by path.

    Columns: `path`, `label`, `source_split`, `source_group`, `bytes`, `mtime_ns`, `problem` and
        `detail` (why the file cannot be read, or None; `missing` where the source names a file that
        is not there), then `attr_*` and `box_*`. `attrs["facts"]` says how the data set was read,
        as `source.json` keeps it.
    """
    import pandas as pd

    from lib.data.sources import reading

    raw, files, source = dataset.raw, dataset.all_files(), dataset.source
    packaged = module(source["kind"]) if source["kind"] in PACKAGED else None
    if hasattr(packaged, "rows"):
        listed = packaged.rows(raw)
    else:
        read = read_folder(raw, files, source.get("options", {}))
        listed = read.rows
    if packaged:
        read = reading.Reading("folders", listed, label=source.get("label_rule", "the source"))
    present = pd.DataFrame(
        [(file.path, file.size, file.mtime_ns, file.problem, file.detail) for file in files],
        columns=["path", "bytes", "mtime_ns", "problem", "detail"],
    )
    table = listed.merge(present, on="path", how="left", validate="one_to_one")
    gone = table["bytes"].isna()
    table.loc[gone, "problem"] = "missing"
    table.loc[gone, "detail"] = "the source names this file, but it is not there"
    table[["bytes", "mtime_ns"]] = table[["bytes", "mtime_ns"]].fillna(0).astype("int64")
    first = ["path", "label", "source_split", "source_group", *present.columns[1:]]
    rest = sorted(name for name in table.columns if name not in first)
    table = table.reindex(columns=first + rest)
    for column in ("problem", "label", "source_split", "source_group"):
        values = table[column].astype(object)
        table[column] = values.where(values.notna(), None)
    table = table.sort_values("path", ignore_index=True)
    facts = read.facts()
    table.attrs["facts"] = {**facts, "understood": reading.sentence(facts, table)}
    sample = dataset.sample
    return table if sample is None else table[table["path"].isin(sample)].reset_index(drop=True)
