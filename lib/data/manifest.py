"""The manifest of a data set: `manifest.parquet`, one row a file, sorted by path."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from lib import files
from lib.errors import DarkroomError

FILE = "manifest.parquet"

COLUMNS = {
    "path": "str",  # POSIX, relative to raw
    "label": "str",
    "sha256": "str",  # hex, of the file's bytes
    "pixels": "str",  # hex BLAKE3 of shape and decoded RGB; missing where it does not decode
    "bytes": "int64",
    "format": "str",
    "width": "Int32",
    "height": "Int32",
    "mode": "str",
    "verdict": "str",
    "reasons": "object",  # list of str: the names of its findings
    "group": "int64",  # what must not straddle a split; counted from 0 in the order of paths
    "source_split": "str",  # train, test, val or missing
}
"""The columns that every manifest has, and their pandas types."""

OPTIONAL = {
    "copy_group": "int64",  # verified near-duplicates share one
    "source_group": "str",  # what the user or the source names as a group: a patient, a film
}
"""Columns that manifests of today have; `group` unites the two."""

BOXES = ("box_left", "box_top", "box_right", "box_bottom")
"""Float columns in pixels, only where the source gives boxes."""

VERDICTS = ("keep", "review", "reject")


def write(folder: Path, frame: pd.DataFrame, *, ledger_bytes: int = 0) -> None:
    """Writes `folder/manifest.parquet` at once.

    `ledger_bytes` is how much of the ledger the table reflects; see `ledger_bytes`. Raises
    ValueError for a lacking column, an unknown verdict or a wrong order.
    """
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise ValueError(
            f"a manifest needs the columns {', '.join(COLUMNS)}. Missing: {', '.join(lacking)}."
        )
    if not frame["path"].is_monotonic_increasing or not frame["path"].is_unique:
        raise ValueError("a manifest holds each path once, sorted by path.")
    strange = sorted(set(frame["verdict"]) - set(VERDICTS))
    if strange:
        raise ValueError(
            f"a verdict is one of {', '.join(VERDICTS)}. Received: {', '.join(map(str, strange))}."
        )
    extra = sorted(name for name in frame.columns if name.startswith("attr_"))
    boxes = [name for name in BOXES if name in frame.columns]
    optional = {name: kind for name, kind in OPTIONAL.items() if name in frame.columns}
    typed = frame[[*COLUMNS, *optional, *boxes, *extra]].astype(
        {**COLUMNS, **optional, **dict.fromkeys(boxes, "float64")}
    )
    for name in extra:  # a column that mixes texts and numbers cannot be stored
        if typed[name].dtype == object:
            typed[name] = typed[name].astype("str")
    typed["reasons"] = [list(reasons) for reasons in typed["reasons"]]
    noted = {"ledger_bytes": ledger_bytes}
    files.write_parquet(folder / FILE, typed.reset_index(drop=True), metadata=noted)


def ledger_bytes(folder: Path) -> int:
    """Returns how many bytes of the ledger the manifest in `folder` reflects; 0 where unknown."""
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(folder / FILE).metadata or {}
        return int(json.loads(metadata.get(b"darkroom", b"{}")).get("ledger_bytes", 0))
    except (pyarrow.ArrowException, OSError, ValueError, AttributeError):
        return 0


def read(folder: Path, *, name: str | None = None) -> pd.DataFrame:
    """Returns the manifest with the types of `COLUMNS`; missing texts read as None-like (test with
    `isna`).

    Raises DarkroomError when there is none, or none that can be read.
    """
    path, name = folder / FILE, name or folder.name
    if not path.is_file():
        raise DarkroomError(
            f"The data set {name!r} has no manifest yet; run 1_clean with data={name!r} first."
        )
    import pyarrow

    try:
        if not files.is_sealed(path):
            raise ValueError("not as it was written")
        frame = pd.read_parquet(path)
        texts = pyarrow.Table.from_pandas(frame.select_dtypes("str"), preserve_index=False)
        texts.validate(
            full=True
        )  # bytes that are no UTF-8 would else come to light wherever a text is looked at
        frame["reasons"] = [list(reasons) for reasons in frame["reasons"]]
        return frame.astype({name: kind for name, kind in COLUMNS.items() if name != "reasons"})
    except (
        pyarrow.ArrowException,
        ArithmeticError,
        ValueError,
        TypeError,
        KeyError,
        OSError,
    ) as error:  # of a damaged table
        raise DarkroomError(
            f"{path} is damaged ({type(error).__name__}); run 1_clean with data={name!r} again."
        ) from error
