"""Metrics on other labels of a data set: coarser classes, and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.errors import DarkroomError, suggest
from lib.evaluation import class_grouping, statistics
from lib.evaluation.predictions import Predictions

UNNAMED = "other"
"""The group of classes whose attribute is not known."""

_BOX = ("box_left", "box_top", "box_right", "box_bottom")


def has_boxes(accepted: pd.DataFrame) -> bool:
    """Whether at least one image has a box."""
    return all(name in accepted for name in _BOX) and bool(
        accepted[list(_BOX)].notna().all(axis=1).any()
    )


def box_shares(accepted: pd.DataFrame) -> pd.DataFrame:
    """Returns `image` and `box` (pixels) and `share` of every image with a box, in the rows' order.

    Raises DarkroomError where no image has one.
    """
    if not has_boxes(accepted):
        raise DarkroomError(
            "No image of this data set has a box; boxes come with the source (box_left, box_top, "
            "…)."
        )
    rows = accepted[accepted[list(_BOX)].notna().all(axis=1)]
    left, top, right, bottom = (rows[name].astype(float) for name in _BOX)
    area, image = (right - left) * (bottom - top), rows["width"].astype(float) * rows["height"]
    return pd.DataFrame(
        {"path": rows["path"], "image": image, "box": area, "share": area / image}
    ).reset_index(drop=True)


def groups(accepted: pd.DataFrame, column: str, class_names: Sequence[str]) -> dict[str, str]:
    """Returns each class name's value of `column` as text, "other" where it has none.

    Raises DarkroomError for an unknown column, and where images of one class differ in it: then it
    is no coarser label.
    """
    known = [name for name in accepted.columns if name.startswith("attr_")]
    if column not in known:
        raise DarkroomError(
            f"The data set has no column {column!r}. It has: "
            f"{', '.join(known) or 'none'}.{suggest(column, known)}"
        )
    coarse_of: dict[str, str] = {}
    for name in class_names:
        values = accepted.loc[accepted["label"] == name, column].dropna().unique()
        if len(values) > 1:
            raise DarkroomError(
                f"{column} is no coarser label: images of {name!r} have {len(values)} values of it."
            )
        coarse_of[name] = str(values[0]) if len(values) else UNNAMED
    return coarse_of


def coarse(
    predictions: Predictions, accepted: pd.DataFrame, columns: Sequence[str]
) -> dict[str, Predictions]:
    """Returns the predictions as they are under "label", and folded by each column."""
    fold = {
        name: class_grouping.fold(predictions, groups(accepted, name, predictions.class_names))
        for name in columns
    }
    return {"label": predictions, **fold}


def judged(tables: dict[str, Predictions]) -> pd.DataFrame:
    """Returns one row a table of `coarse`: classes, accuracy, macro F1 and kappa on test, each with
    its 95 % interval.
    """
    rows = {}
    for name, part in tables.items():
        numbers = statistics.headline(part, "test")
        row: dict[str, object] = {"classes": len(part.class_names)}
        for number in ("accuracy", "macro_f1", "kappa"):
            row[number] = numbers.get(number, float("nan"))
            if f"{number}_low" in numbers:
                row[f"{number} 95 %"] = (
                    f"{numbers[f'{number}_low']:.3f} to {numbers[f'{number}_high']:.3f}"
                )
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("judged by")
