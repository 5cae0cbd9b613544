"""The groups of a data set's scan, found once for the same pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib import files, hashing
from lib.cleaning import duplicates, scan
from lib.data.dataset import Dataset
from lib.data.decode import ImageError

FILE = "groups.parquet"
_FOUND = ["group", "likeness", "look_alike", "alikeness"]


def of(
    dataset: Dataset,
    scanned: pd.DataFrame,
    *,
    grouping: str = "copies",
    num_threads: int | None = None,
) -> pd.DataFrame:
    """Returns the scan with the columns of `duplicates.group`, which are kept beside it, by
    pictures and way of grouping.
    """
    path = dataset.folder / "scan" / FILE
    pixels = scanned["pixels"].where(scanned["pixels"].notna(), "")
    key = hashing.digest(f"{duplicates.VERSION} {grouping}", *scanned["path"], *pixels)
    known = _stored(path, key, rows=len(scanned))
    if known is None:
        found = duplicates.group(
            scanned,
            scan.thumbs(dataset.folder),
            read=lambda file: _grey(dataset, file),
            grouping=grouping,
            num_threads=num_threads,
        )
        known = found[_FOUND]
        known.attrs["note"] = found.attrs["note"]
        files.write_parquet(path, known, metadata={"key": key, "note": known.attrs["note"]})
    grouped = scanned.assign(**{name: known[name].to_numpy() for name in _FOUND})
    grouped.attrs["note"] = known.attrs["note"]
    return grouped


def _stored(path: Path, key: str, *, rows: int) -> pd.DataFrame | None:
    """The groups found before for the same pictures; None where there are none that can be read."""
    found = files.read_cache(path)
    if found is None or found[1].get("key") != key:
        return None
    table, about = found
    if len(table) != rows or not set(_FOUND) <= set(table.columns):
        return None
    table.attrs["note"] = about.get("note")
    return table


def _grey(dataset: Dataset, path: str) -> np.ndarray | None:
    """The picture as grey; None when it has gone or changed since it was scanned, so that it is
    nobody's copy.
    """
    try:
        return cv2.cvtColor(dataset.image(path).pixels, cv2.COLOR_RGB2GRAY)
    except (OSError, ImageError):
        return None
