"""Label columns: whatever came with the images, as classes that a feature space can be asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

MOST_CLASSES = 40
"""Classes of one column that are asked about; of more, the most frequent are."""
BANDS = 5
FEWEST = 6
"""Images that a class needs to be asked about: two or three must remain for the test."""
_MANY_VALUES = 12


def names(table: pd.DataFrame) -> list[str]:
    """Returns the label columns of a manifest that have at least two classes: `label` first, then
    each `attr_*`.
    """
    found = [name for name in table.columns if name == "label" or name.startswith("attr_")]
    return [
        name
        for name in sorted(found, key=lambda name: (name != "label", name))
        if classes(table[name]).nunique() > 1
    ]


def title(name: str, label: str = "label") -> str:
    """Returns a column's name for people: `attr_module_type` is "module type", and the label is
    called `label`.
    """
    return label if name == "label" else name.removeprefix("attr_").replace("_", " ")


def label_of(source: dict[str, Any]) -> str:
    """Returns what the label of a data set is called where its source tells, such as "style", else
    "class".
    """
    return str(source.get("options", {}).get("label") or "class").replace("_", " ")


def classes(values: pd.Series) -> pd.Series:
    """Returns each image's class as text, missing where it has none or its class is too rare to be
    asked about.

    A column of many different numbers (a year) becomes five bands of equal size, named by their
    ends ("1874–1901").
    """
    numbers = pd.to_numeric(values, errors="coerce")
    is_number = values.notna() & numbers.notna()
    if is_number.sum() >= 0.9 * values.notna().sum() and numbers.nunique() > _MANY_VALUES:
        found = _bands(numbers)
    else:
        found = values.astype("string").str.strip().replace("", pd.NA)
    counts = found.value_counts()
    kept = counts[counts >= FEWEST].index[:MOST_CLASSES]
    return found.where(found.isin(kept))


def _bands(numbers: pd.Series) -> pd.Series:
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, BANDS + 1)))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    labels = pd.Series(pd.NA, index=numbers.index, dtype="string")
    for band in range(len(edges) - 1):
        mine = (place == band) & numbers.notna()
        if mine.any():
            labels[mine] = f"{numbers[mine].min():g}–{numbers[mine].max():g}"
    return labels
