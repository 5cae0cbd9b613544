"""The scan: reads every file of a data set once and caches its measurements.

The thumbnails, 4 kB each, are appended to a file of their own as they arrive, so that the memory of
a scan does not grow with the data set.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from lib import files as files_module
from lib.cleaning import measurements
from lib.cleaning.measurements import THUMB, VERSION, Measured
from lib.data import decode, sources, value_range
from lib.data.dataset import Dataset
from lib.data.value_range import Rendering
from lib.errors import few

FILE = Path("scan", "scan.parquet")
THUMBS = Path("scan", "thumbs.bin")
PART_SIZE = 2000
"""Files in one part of an executor."""
NUM_PROBES = 16
"""Files of more than 8 bits that are read before the others, to learn the range of the set."""

CHECKSUM = "thumb_crc32"
SAVED_EVERY_S = 60.0
"""Interval at which a running scan saves its table, so that a killed one can be continued."""

Measure = Callable[[Sequence[Path], Rendering], Iterator[tuple[int, Measured]]]
"""Maps paths and a rendering of wide values to (position, measurements), in any order."""

MEASURED = [field.name for field in dataclasses.fields(Measured)]
_TYPES = {
    **dict.fromkeys(("sha256", "problem", "detail", "pixels", "format", "mode", "stored"), "str"),
    **dict.fromkeys(("width", "height", "frames"), "Int32"),
    **dict.fromkeys(("stored_low", "stored_high", "range_low", "range_high"), "float64"),
    **dict.fromkeys(("dark", "bright", "contrast", "uniform", "sharpness"), "float64"),
    "hashes": "object",
    "thumb": "Int64",
}


def scan(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
    part_size: int = PART_SIZE,
) -> pd.DataFrame:
    """Returns one row a file, sorted by path: the columns of `sources.rows` and of `Measured`;
    `thumb` is a row of `thumbs`.

    Files of unchanged size and modification time are not read again. `workers`
    processes read the files (default: one a processor), or an `executor` in parts of `part_size`;
    `progress` is called with (files read, files to read).
    """
    measure = _by_workers(workers)
    if executor is not None:
        measure = _by_executor(executor, dataset, part_size)
    rows = sources.rows(dataset)
    facts = rows.attrs["facts"]
    if any(dataset.source.get(name) != value for name, value in facts.items()):
        dataset.note(**facts)  # files have come or gone since the folder was read
    rendering = dataset.rendering
    known = _known(dataset.folder, rendering)
    table = (
        rows.drop(columns=["detail"])
        .rename(columns={"problem": "barrier"})
        .merge(known, on=["path", "bytes", "mtime_ns"], how="left", indicator=True)
    )
    details = rows.set_index("path")["detail"]
    fresh = (table["_merge"] == "left_only") & table["barrier"].isna()
    table = table.drop(columns="_merge").astype(_TYPES)
    barred = table["barrier"].notna()
    table.loc[barred, "problem"] = table.loc[barred, "barrier"].astype("str")
    table.loc[barred, "detail"] = table.loc[barred, "path"].map(details).astype("str")
    table = table.drop(columns="barrier")
    todo = table.index[fresh]
    reading = {"left_out": barred, "measure": measure}
    first = _probes(dataset, table, todo)
    rest = todo.difference(first)
    if len(first):  # the range that they suggest is seldom changed by the others
        unread = barred | table.index.isin(rest)
        _read(dataset, table, first, left_out=unread, measure=measure, progress=None)
        _rendered_otherwise(dataset, table)
    if len(rest):
        _read(dataset, table, rest, progress=progress, **reading)
    again = _rendered_otherwise(dataset, table)
    if len(again):  # the range of the whole set is known only now
        _read(dataset, table, again, progress=None, **reading)
        todo = todo.union(again)
    if len(todo) or len(known) != len(table):
        _store(dataset.folder, table[~barred], rendering)
    return table


def notes(dataset: Dataset, scanned: pd.DataFrame) -> list[str]:
    """Returns remarks on decoding: classes without a good file, frames, more than 8 bits."""
    good, remarks = scanned[scanned["problem"].isna()], []
    if lost := sorted({*scanned["label"].dropna()} - {*good["label"].dropna()}):
        remarks.append(f"Classes of which no picture can be read: {few(lost, 6)}.")
    frames = good["frames"].fillna(1)
    if (frames > 1).any():
        remarks.append(
            f"{int((frames > 1).sum()):,} files hold several frames or pages (up to "
            f"{int(frames.max())}); only the first counts."
        )
    four = int((good["mode"] == decode.FOUR_BANDS).sum())
    if four and not dataset.rendering.bands:
        remarks.append(
            f"{four:,} pictures have a fourth band that is not alpha, such as near infrared; the "
            "first three are shown as red, green and blue (bands=4,3,2 chooses otherwise)."
        )
    for kind, members in good[good["stored"].notna()].groupby("stored"):
        low, high = members["range_low"].iloc[0], members["range_high"].iloc[0]
        least, most = members["stored_low"].min(), members["stored_high"].max()
        outside = int(((members["stored_low"] < low) | (members["stored_high"] > high)).sum())
        cut = f", which cuts values of {outside:,} pictures" if outside else ""
        remarks.append(
            f"{len(members):,} pictures hold {kind} values from {least:g} to {most:g}; {low:g} "
            f"becomes black and {high:g} white in all of them{cut} (range=LOW..HIGH chooses "
            "otherwise)."
        )
    if bands := dataset.rendering.bands:
        remarks.append(f"Bands {', '.join(map(str, bands))} are taken.")
    return remarks


def thumbs(folder: Path) -> np.ndarray:
    """Returns the stored thumbnails of the data set in `folder`, uint8 grey (n, 64, 64), mapped
    from disk and read-only.
    """
    path = folder / THUMBS
    number = path.stat().st_size // THUMB**2 if path.is_file() else 0
    if not number:
        return np.empty((0, THUMB, THUMB), np.uint8)
    return np.memmap(path, np.uint8, mode="r", shape=(number, THUMB, THUMB))


def _read(
    dataset: Dataset,
    table: pd.DataFrame,
    todo: pd.Index,
    *,
    left_out: pd.Series,
    measure: Measure,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Measures the rows `todo` of `table` and writes what was measured into it."""
    files = [dataset.raw / path for path in table.loc[todo, "path"]]
    columns: dict[str, list] = {name: [None] * len(files) for name in MEASURED}
    done = np.zeros(len(files), bool)
    saved, count = time.monotonic(), 0
    with _appending(dataset.folder / THUMBS) as file:
        number = file.tell() // THUMB**2
        for position, result in measure(files, dataset.rendering):
            for name in MEASURED:
                columns[name][position] = getattr(result, name)
            if result.thumb is not None:
                file.write(result.thumb)
                columns["thumb"][position], number = number, number + 1
            done[position], count = True, count + 1
            if progress is not None:
                progress(count, len(files))
            if time.monotonic() - saved > SAVED_EVERY_S:
                _flush(file)
                _fill(table, todo[done], columns, done)
                kept = table[~left_out & ~table.index.isin(todo[~done])]
                _store(dataset.folder, kept, dataset.rendering)
                saved = time.monotonic()
        _flush(file)
    _fill(table, todo, columns, done)


def _probes(dataset: Dataset, table: pd.DataFrame, todo: pd.Index) -> pd.Index:
    """Some of the files that seem to hold more than 8 bits; none where these are few, or where
    their range is known.
    """
    if dataset.rendering.ranges or dataset.source.get("options", {}).get("range"):
        return todo[:0]
    wide = [row for row in todo if _seems_wide(dataset.raw / table.at[row, "path"])]
    return pd.Index(wide[:: len(wide) // NUM_PROBES] if len(wide) >= 4 * NUM_PROBES else [])


def _seems_wide(path: Path) -> bool:
    if path.suffix.lower() != ".png":
        return path.suffix.lower() in (".tif", ".tiff", ".npy", ".dcm", ".dicom")
    try:
        with path.open("rb") as file:
            return file.read(25)[24:] == b"\x10"  # the depth in IHDR
    except OSError:
        return False


def _by_workers(workers: int | None) -> Measure:
    return lambda files, rendering: enumerate(
        measurements.measure_all(files, workers=workers, rendering=rendering)
    )


def measure_part(part: Sequence[tuple[str, int, int]], version: str) -> pd.DataFrame:
    """Returns one row a file, the fields of `Measured`; runs on a worker of an executor."""
    rendering = Rendering.from_json(json.loads(version.partition(" ")[2]))
    files = [Path(path) for path, _, _ in part]
    measured = measurements.measure_all(files, workers=1, rendering=rendering)
    rows = [dataclasses.astuple(row) for row in measured]
    return pd.DataFrame(rows, columns=MEASURED).convert_dtypes()


def _by_executor(executor: Any, dataset: Dataset, part_size: int) -> Measure:
    """Measures in parts on an executor; finished parts stay on disk until all are done."""

    def measure(files: Sequence[Path], rendering: Rendering) -> Iterator[tuple[int, Measured]]:
        store = dataset.folder / "scan" / "reading-parts"
        stamps = [_stamp(file) for file in files]
        parts = [stamps[start : start + part_size] for start in range(0, len(stamps), part_size)]
        version = f"{VERSION} {json.dumps(rendering.as_json(), sort_keys=True)}"
        for index, table in executor.map(measure_part, parts, version, folder=store):
            for place, row in enumerate(table[MEASURED].itertuples(index=False)):
                values = (None if pd.isna(value) else value for value in row)
                yield index * part_size + place, Measured(*values)
        shutil.rmtree(store, ignore_errors=True)

    return measure


def _stamp(file: Path) -> tuple[str, int, int]:
    """Path, size and modification time: a part is repeated if one of its files has changed."""
    try:
        stat = file.resolve().stat()
    except OSError:
        return str(file.absolute()), -1, -1
    return str(file.absolute()), stat.st_size, stat.st_mtime_ns


def _rendered_otherwise(dataset: Dataset, table: pd.DataFrame) -> pd.Index:
    """Records the range of stored values of the whole set; returns the rows rendered with another
    one.
    """
    wide = table[table["stored"].notna() & table["problem"].isna()]
    if wide.empty:
        return wide.index
    if not dataset.source.get("options", {}).get("range"):
        high = wide["stored_high"].to_numpy()
        value_range.refuse_two_scales([*wide["path"]], [*wide["stored"]], high)
        columns = (wide[name] for name in ("stored", "stored_low", "stored_high"))
        ranges = value_range.united(zip(*columns, strict=True))
        dataset.note(rendering=Rendering(ranges).as_json())
    ranges = dataset.rendering.ranges
    rows = wide[["stored", "range_low", "range_high"]].itertuples(index=False)
    return wide.index[[tuple(ranges.get(kind, own)) != tuple(own) for kind, *own in rows]]


def _fill(table: pd.DataFrame, rows: pd.Index, columns: dict[str, list], done: np.ndarray) -> None:
    at = np.flatnonzero(done)
    for name, kind in _TYPES.items():
        values = [columns[name][i] for i in at]
        table.loc[rows, name] = pd.Series(values, rows, dtype=object).astype(kind)


def _store(folder: Path, table: pd.DataFrame, rendering: Rendering) -> None:
    kept = table[table["problem"] != "unreadable"]  # retried by the next scan
    stored = thumbs(folder)
    checksums = [None if place is pd.NA else zlib.crc32(stored[place]) for place in kept["thumb"]]
    rows = kept[["path", "bytes", "mtime_ns", *MEASURED]].copy()
    rows[CHECKSUM] = pd.array(checksums, dtype="Int64")
    about = {"version": VERSION, "bands": list(rendering.bands)}
    about["max_pixels"] = rendering.max_pixels
    files_module.write_parquet(folder / FILE, rows, metadata=about)


def _appending(path: Path) -> IO[bytes]:
    """The file of thumbnails, open at its end; a partly written last one is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    file.truncate(file.tell() // THUMB**2 * THUMB**2)
    file.seek(0, os.SEEK_END)
    return file


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    files_module.point("thumbs.bin:appended")


def _known(folder: Path, rendering: Rendering) -> pd.DataFrame:
    """The last scan's rows; none where it was of another version or is damaged.

    A row whose thumbnail is not what was written is left out, so that its file is read again.
    """
    kinds = {"path": "str", "bytes": "int64", "mtime_ns": "int64", **_TYPES}
    cached = files_module.read_cache(folder / FILE)
    about = cached[1] if cached is not None else {}
    if about.get("version") == VERSION and about.get("bands", []) == list(rendering.bands):
        try:
            table = cached[0].astype(kinds)
            if about.get("max_pixels", value_range.MAX_PIXELS) != rendering.max_pixels:
                table = table[table["problem"].fillna("") != "too_large"]
            return _with_good_thumbs(table, thumbs(folder))[list(kinds)]
        except (ValueError, TypeError, KeyError):  # damage that checksums do not see
            pass
    (folder / THUMBS).unlink(missing_ok=True)  # useless without its table
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def _with_good_thumbs(table: pd.DataFrame, stored: np.ndarray) -> pd.DataFrame:
    places = zip(table["thumb"], table[CHECKSUM], strict=True)
    good = [
        place is pd.NA or (0 <= place < len(stored) and zlib.crc32(stored[place]) == checksum)
        for place, checksum in places
    ]
    return table[good].drop(columns=CHECKSUM).reset_index(drop=True)
