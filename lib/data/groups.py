"""Groups of files that must share a split: by columns, folder levels, name patterns or runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.errors import DarkroomError

_ID_WORDS = """
    patient subject person participant individual animal lesion case study series slide specimen
    sample biopsy wafer module panel batch lot product item sku film movie video clip episode scene
    session visit camera device scanner site hospital center centre location plot field tile burst
    sequence track user family group id uid uuid accession donor exam mouse plate tree
"""
ID_WORDS = frozenset(_ID_WORDS.split())
"""Words of a column's name that promise an identity: files that share a value show the same thing
or place.
"""

_SPLIT_NAME = re.compile(r"[^a-z0-9]+|(?<=[a-z])(?=\d)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def united(columns: Sequence[pd.Series]) -> pd.Series:
    """Returns an id for each row, such that rows which share a value in any column, directly or by
    others, share an id.

    Missing values join no group. The ids are int64, counted from 0 in the order of rows; the result
    has the index of the first column.
    """
    number = offset = len(columns[0])
    rows, values = [np.arange(number)], [np.arange(number)]
    for column in columns:
        codes, distinct = pd.factorize(column)  # -1 for a missing value
        known = np.flatnonzero(codes >= 0)
        rows.append(known)
        values.append(codes[known] + offset)
        offset += len(distinct)
    edges = np.concatenate(rows), np.concatenate(values)
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(offset, offset))
    _, component = connected_components(graph, directed=False)
    ids, _ = pd.factorize(component[:number])
    return pd.Series(ids.astype("int64"), index=columns[0].index)


def in_one_spelling(values: pd.Series) -> pd.Series:
    """Returns texts with those that differ in case or in leading zeros alone, such as `P7` and `p7`
    or `007` and `7`, as the first of them: kept together, they leak nothing if they are two.
    """
    plain = (
        values.astype("string").str.strip().str.casefold().str.replace(r"^0+(?=\d)", "", regex=True)
    )
    return values.groupby(plain).transform("first")


def named(keys: Sequence[pd.Series]) -> pd.Series:
    """Returns one group a row as text: the values of the only column, or the number of what several
    columns link; None where all are missing.
    """
    if len(keys) == 1:
        return keys[0]
    is_known = pd.concat(keys, axis=1).notna().any(axis=1)
    return united(keys).astype(str).astype(object).where(is_known, None)


def by_runs(paths: Sequence[str], length: int) -> list[str]:
    """Returns a name of its own for each run of at most `length` neighbours: consecutive files of a
    folder in natural order of their names, whatever their class.
    """
    if length < 2:
        raise DarkroomError(f"A run has at least two files. Received: {length}.")
    groups = [""] * len(paths)
    order = name_order(paths)
    folder, count, number = None, 0, -1
    for position in order:
        own = paths[position].rpartition("/")[0]
        if own != folder or count == length:
            folder, count, number = own, 0, number + 1
        groups[position] = f"run {number}"
        count += 1
    return groups


def name_order(paths: Sequence[str]) -> list[int]:
    """Returns the positions of the paths in natural order: numbers in names count as numbers, so 9
    comes before 10.
    """
    keys = [
        [
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"(\d+)", path)
        ]
        for path in paths
    ]
    return sorted(range(len(paths)), key=keys.__getitem__)


def repeating(frame: pd.DataFrame, *, grouped: Sequence[str] = ()) -> list[tuple[str, int, bool]]:
    """Returns the columns of a table that look like identities whose values repeat: (column, number
    of values, whether its name says so).

    A column of attributes (`attr_*`) counts where its name holds a word of `ID_WORDS`, or where its
    texts repeat as those of an identity do: more than 20 of them and more than twice as many as
    classes, each on 2 to 50 rows as a rule. Columns in `grouped` are left out.
    """
    columns = []
    for name in frame.columns:
        if not name.startswith("attr_") or name in grouped:
            continue
        values = frame[name].dropna()
        counts = values.value_counts()
        if not 2 <= len(counts) < len(values) or counts[counts > 1].sum() < max(
            4, 0.02 * len(frame)
        ):
            continue
        plain = name.removeprefix("attr_")
        named = bool(words(plain) & ID_WORDS)
        if named or _repeats_as_identity(values, counts, frame["label"].explode().nunique()):
            columns.append((plain, len(counts), named))
    return columns


def words(name: str) -> set[str]:
    """Returns the lower-case words of a column's name: `patientID` and `patient_id` give patient
    and id.
    """
    return set(_SPLIT_NAME.split(_CAMEL.sub("_", name).lower())) - {""}


def _repeats_as_identity(values: pd.Series, counts: pd.Series, num_classes: int) -> bool:
    if pd.to_numeric(values, errors="coerce").notna().all():
        return False  # ages, years and measurements repeat, too
    many = len(counts) > max(20, 2 * num_classes)
    return many and 2 <= counts.median() <= 50 and counts.max() <= 0.1 * len(values)
