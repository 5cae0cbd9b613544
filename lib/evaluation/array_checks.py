"""What a prediction table must be: refused with file and row, before any number is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lib.errors import DarkroomError, few

if TYPE_CHECKING:
    import pyarrow

    from lib.evaluation.predictions import Predictions

SPLITS = ("train", "val", "test")
COLUMNS = ("path", "split", "label", "group")
"""Every table has these, and one column a class."""
TOLERANCE = 1e-4
"""How far the probabilities of one row may be from summing to 1 (float16 softmax stays well within
it).
"""

_BLOCK = 65_536  # rows looked at together, so that a million rows of 200 classes never exist twice


def class_names(names: object, where: str) -> None:
    """Raises DarkroomError unless these are the names of at least one class."""
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise DarkroomError(f"{where}: `class_names` must be a list of names. Received: {names!r}.")


def types(schema: pyarrow.Schema, where: str) -> None:
    """Raises DarkroomError for a column of a Parquet file whose values are no texts, whole numbers
    or probabilities.
    """
    from pyarrow import types as kinds

    def is_text(kind: pyarrow.DataType) -> bool:
        plain = kind.value_type if kinds.is_dictionary(kind) else kind
        return kinds.is_string(plain) or kinds.is_large_string(plain)

    wanted = dict.fromkeys(("path", "split"), is_text) | {"group": kinds.is_integer}
    wanted["label"] = lambda kind: is_text(
        kind.value_type if kinds.is_list(kind) or kinds.is_large_list(kind) else kind
    )
    for column in schema:
        fits = wanted.get(
            column.name, kinds.is_floating if column.name.startswith("p_") else lambda kind: True
        )
        if not fits(column.type):
            raise DarkroomError(
                f"{where}: the column {column.name!r} holds values of type {column.type}, which it "
                "must not."
            )


def columns(found: Predictions, where: str) -> None:
    """Raises DarkroomError for a row without path or group, a path that is there twice, an unknown
    split or label.
    """
    frame = found.frame
    if frame.empty:
        raise DarkroomError(f"{where} holds no rows.")
    bad_rows = {
        "has no path": frame["path"].isna(),
        "holds a path that is there twice": frame["path"].duplicated(),
        f"names a split other than {', '.join(SPLITS)}": ~frame["split"].isin(SPLITS),
        "has no group": frame["group"].isna(),
        "has a label that is no class": _unknown_label(found),
    }
    for what, bad in bad_rows.items():
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            told = frame.iloc[row][list(COLUMNS)].to_dict()
            raise DarkroomError(f"{where}, row {row} {what}: {told} ({int(bad.sum())} such rows).")


def values(found: Predictions, where: str) -> None:
    """Raises DarkroomError for NaN, for probabilities outside 0 to 1, and for rows that do not sum
    to 1.
    """
    for start, block in blocks(found.probabilities):
        bad = ~np.isfinite(block).all(axis=1)
        what = "holds NaN or infinity"
        if not bad.any() and found.kind != "score":
            bad, what = (
                ((block < 0) | (block > 1)).any(axis=1),
                "holds a probability outside 0 to 1",
            )
        if not bad.any() and found.kind == "probability":
            sums = block.sum(axis=1, dtype=np.float64)
            bad, what = np.abs(sums - 1) > TOLERANCE, "does not sum to 1"
        if bad.any():
            row = start + int(np.flatnonzero(bad)[0])
            total = float(found.probabilities[row].sum(dtype=np.float64))
            raise DarkroomError(
                f"{where}, row {row} ({found.frame['path'].iloc[row]}) {what}; its sum is "
                f"{total:.6g}."
            )


def images(received: pd.Series, expected: Sequence[str], where: str) -> None:
    """Raises DarkroomError unless the table holds just the expected images."""
    missing = sorted(set(expected) - set(received))
    extra = sorted(set(received) - set(expected))
    if missing or extra:
        raise DarkroomError(
            f"{where} must hold exactly {len(set(expected))} images. "
            f"Missing: {len(missing)} ({few(missing)}). Not expected: {len(extra)} ({few(extra)})."
        )


def blocks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, contiguous rows) until all rows of `values` have passed."""
    for start in range(0, len(values), _BLOCK):
        yield start, np.ascontiguousarray(values[start : start + _BLOCK])


def _unknown_label(found: Predictions) -> pd.Series:
    labels, known = found.frame["label"], set(found.class_names)
    if (
        found.kind != "multilabel" and labels.dtype == object
    ):  # lists, say, of which `isin` finds some by the chance of a hash
        return ~labels.map(lambda name: isinstance(name, str) and name in known)
    if found.kind != "multilabel":
        return ~labels.isin(known)
    return labels.map(
        lambda names: (
            isinstance(names, str) or not np.iterable(names) or not known.issuperset(names)
        )
    )
