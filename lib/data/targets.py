"""Which column a model learns: `label`, `attr_style`, or `label:Photo` for one class against the rest."""

from __future__ import annotations

import pandas

from lib.errors import DarkroomError, suggest

REST = "rest"
"""The class of everything that is not the one class asked for."""


def truth(manifest: pandas.DataFrame, target: str = "label") -> pandas.Series:
    """Returns the true class name of each row as strings; rows without one are missing values.

    Args:
        manifest: rows of a manifest.
        target: a column (`label`, `attr_…`), or `column:class` for two classes, that one and `rest`.

    Raises:
        DarkroomError: for a column or class that the data set has not, or a target with fewer than two classes.
    """
    column, _, positive = target.partition(":")
    choices = ["label", *(name for name in manifest.columns if name.startswith("attr_"))]
    if column not in choices:
        raise DarkroomError(
            f"The data set has no column {column!r} to learn. It has: {', '.join(choices)}.{suggest(column, choices)}"
        )
    values = manifest[column].astype("string")
    classes = sorted(values.dropna().unique())
    if positive:
        if positive not in classes:
            raise DarkroomError(f"{positive!r} is no class of {column}.{suggest(positive, classes)}")
        values = values.where(values.isna() | (values == positive), REST)
        classes = [positive, REST]
    if len(classes) < 2:
        raise DarkroomError(
            f"To learn {target!r} takes at least two classes. Received {len(classes)}: {', '.join(classes) or 'none'}. "
            "Put each class into a folder of its own, or choose another target."
        )
    return values


def class_names(manifest: pandas.DataFrame, target: str = "label") -> list[str]:
    """Returns the sorted class names of a target; their order is the order of every model's outputs."""
    return sorted(truth(manifest, target).dropna().unique())
