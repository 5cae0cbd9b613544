"""The confusion matrices of a page, with the images behind each of their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lib.evaluation import confusion as matrices
from lib.evaluation.comparison import Comparison
from lib.evaluation.run_records import Unit

MOST_CLASSES = 20
"""More classes are drawn as a figure, with a list of the largest confusions, and not as a table."""

_OF_A_CONFUSION, _OF_THE_RIGHT = 12, 6  # images behind one cell
_LARGEST = 12  # confusions that are listed where there is no table
_MOST_PICTURES = 240


def confusion(comparison: Comparison, arm: str) -> dict[str, Any]:
    """One arm's matrix for the page: `arm`, `accuracy`, `num`, and `rows` of cells, or `largest`
    cells for many classes.

    A cell holds `count`, `share` (of its row), `right`, `truth`, `predicted` and `paths`, the
    images behind it.
    """
    counts, paths = comparison.confusion(arm), _paths_by_cell(comparison.arms[arm])
    names, shares = comparison.class_names, np.nan_to_num(matrices.shares(counts))

    def cell(row: int, column: int) -> dict[str, Any]:
        most = _OF_THE_RIGHT if row == column else _OF_A_CONFUSION
        return {
            "count": int(counts[row, column]),
            "share": float(shares[row, column]),
            "right": row == column,
            "truth": names[row],
            "predicted": names[column],
            "paths": paths.get((row, column), [])[:most],
        }

    found = {
        "arm": arm,
        "accuracy": float(matrices.accuracy(counts)),
        "num": int(counts.sum()),
        "rows": [],
        "largest": [],
    }
    if len(names) <= MOST_CLASSES:
        found["rows"] = [
            [cell(row, column) for column in range(len(names))] for row in range(len(names))
        ]
        return found
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    places = np.argsort(-wrong, axis=None, kind="stable")[:_LARGEST]
    found["largest"] = [
        cell(*np.unravel_index(place, wrong.shape)) for place in places if wrong.flat[place]
    ]
    return found


def wanted(confusions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The images to show, so that every cell gets its first before any gets its second; of
    confusions before the others.
    """
    cells = [cell for one in confusions for row in [*one["rows"], one["largest"]] for cell in row]
    cells.sort(key=lambda cell: cell["right"])  # confusions are looked at first
    found: dict[str, None] = {}
    for place in range(_OF_A_CONFUSION):
        for cell in cells:
            if place < len(cell["paths"]) and len(found) < _MOST_PICTURES:
                found[cell["paths"][place]] = None
    return list(found)


def _paths_by_cell(units: Sequence[Unit]) -> dict[tuple[int, int], list[str]]:
    cells: dict[tuple[int, int], dict[str, None]] = {}
    for unit in units:
        part = unit.predictions.split("test")
        names, wrong = part.frame["path"].to_numpy(), part.truth != part.predicted
        right = [
            np.flatnonzero(~wrong & (part.truth == place))[:_OF_THE_RIGHT]
            for place in range(len(part.class_names))
        ]
        for row in np.concatenate([np.flatnonzero(wrong), *right]):
            cell = cells.setdefault((int(part.truth[row]), int(part.predicted[row])), {})
            cell[names[row]] = None
    return {cell: list(paths) for cell, paths in cells.items()}
