"""Label columns: the label and all attributes of the images, as classes for probes and maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

MAX_CLASSES = 40
"""Classes of one column that are used, the most frequent ones."""
BANDS = 5
MIN_IMAGES = 6
"""Images that a class needs, so that two or three remain for the test."""
_MAX_VALUES = 12  # a numeric column with more different values becomes bands


def names(table: pd.DataFrame) -> list[str]:
    """Returns the columns of a manifest with at least two classes: `label`, then each `attr_*`."""
    columns = [name for name in table.columns if name == "label" or name.startswith("attr_")]
    columns.sort(key=lambda name: (name != "label", name))
    return [name for name in columns if classes(table[name]).nunique() > 1]


def title(name: str, label: str = "label") -> str:
    """Returns a column's title: "module type" of `attr_module_type`, and `label` of the label."""
    return label if name == "label" else name.removeprefix("attr_").replace("_", " ")


def label_title(source: dict[str, Any]) -> str:
    """Returns the name of the label in a data set's source, such as "style", or "class"."""
    return str(source.get("options", {}).get("label") or "class").replace("_", " ")


def classes(values: pd.Series) -> pd.Series:
    """Returns each image's class as text, missing if it has none or the class is too rare.

    A column of many numbers (a year) becomes five bands of equal size, such as "1874–1901".
    """
    numbers = pd.to_numeric(values, errors="coerce")
    num_numeric = (values.notna() & numbers.notna()).sum()
    if num_numeric >= 0.9 * values.notna().sum() and numbers.nunique() > _MAX_VALUES:
        labels = _bands(numbers)
    else:
        labels = values.astype("string").str.strip().replace("", pd.NA)
    counts = labels.value_counts()
    frequent = counts[counts >= MIN_IMAGES].index[:MAX_CLASSES]
    return labels.where(labels.isin(frequent))


def _bands(numbers: pd.Series) -> pd.Series:
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, BANDS + 1)))
    index = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    labels = pd.Series(pd.NA, index=numbers.index, dtype="string")
    for band in range(len(edges) - 1):
        rows = (index == band) & numbers.notna()
        if rows.any():
            labels[rows] = f"{numbers[rows].min():g}–{numbers[rows].max():g}"
    return labels
