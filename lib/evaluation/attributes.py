"""The other labels of a data set: how many images each value has, and fine classes judged as coarse
ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from lib.errors import DarkroomError, suggest
from lib.evaluation import class_grouping, metrics, statistics
from lib.evaluation.predictions import Predictions
from lib.reporting import plots, style
from lib.reporting.style import Drawing

UNNAMED = "other"
"""The group of classes whose attribute is not known."""

_MOST_VALUES = 40
_BOX = ("box_left", "box_top", "box_right", "box_bottom")


def counts(accepted: pd.DataFrame, names: Sequence[str]) -> Drawing:
    """One panel a column of `names` (attr_*): how many images each value has, years in their order,
    names by number.
    """
    tables = {name: _counted(accepted[name]) for name in names}
    drawing = Drawing(7.0, sum(0.21 * len(each) + 0.9 for each in tables.values()) + 0.4)
    with matplotlib.rc_context(style.settings()):
        heights = [len(each) + 3 for each in tables.values()]
        panels = drawing.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, table) in zip(panels, tables.items(), strict=True):
            places = np.arange(len(table))
            axes.barh(places, table.to_numpy(), height=0.68, color=style.RIGHT, alpha=0.85)
            for place, num in zip(places, table, strict=True):
                axes.annotate(
                    f"{num:,}",
                    (num, place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
            axes.set_yticks(
                places, [style.label(str(value)) for value in table.index], fontsize=8.5
            )
            axes.tick_params(axis="y", length=0)
            axes.set(xlim=(0, 1.1 * table.max()), ylim=(len(table) - 0.4, -0.6))
            axes.set_title(name.removeprefix("attr_"))
            axes.grid(axis="x")
        panels[-1].set_xlabel("images")
    told = [
        f"{name.removeprefix('attr_')}: most {table.idxmax()} ({table.max():,})"
        for name, table in tables.items()
    ]
    drawing.alt = f"Images of each value; {', '.join(told)}."
    return drawing


def boxes(accepted: pd.DataFrame) -> Drawing:
    """The area of each image's box against that of the image, on logarithmic axes, with lines of
    equal shares.
    """
    table = box_shares(accepted)
    drawing = Drawing(5.8, 4.8)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        axes.scatter(table["image"], table["box"], s=12, color=style.RIGHT, alpha=0.4, linewidths=0)
        ends = np.array([table["image"].min() / 1.3, table["image"].max() * 1.3])
        for share in (1.0, 0.5, 0.25, 0.1):
            axes.plot(
                ends,
                share * ends,
                color=style.MUTED,
                linewidth=0.8,
                linestyle=(0, (4, 3)),
                zorder=0,
            )
            axes.annotate(
                f"{100 * share:.0f} %",
                (ends[1], share * ends[1]),
                (3, -3),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set(
            xscale="log", yscale="log", xlim=ends, xlabel="image, pixels", ylabel="box, pixels"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(
                lambda value, _: f"{value / 1000:g} k" if value >= 1000 else f"{value:g}"
            )
            axis.set_minor_formatter(NullFormatter())
        style.set_title(drawing, "How much of the image the object fills")
    shares = table["share"]
    drawing.alt = (
        f"Boxes of {len(table):,} images fill {100 * shares.median():.0f} % of the image in the "
        "median, "
        f"{100 * shares.quantile(0.05):.0f} % to {100 * shares.quantile(0.95):.0f} % in nine of "
        "ten."
    )
    return drawing


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
    found: dict[str, str] = {}
    for name in class_names:
        values = accepted.loc[accepted["label"] == name, column].dropna().unique()
        if len(values) > 1:
            raise DarkroomError(
                f"{column} is no coarser label: images of {name!r} have {len(values)} values of it."
            )
        found[name] = str(values[0]) if len(values) else UNNAMED
    return found


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
    for name, each in tables.items():
        found = statistics.intervals(each, "test")
        row: dict[str, object] = {"classes": len(each.class_names)}
        for number in ("accuracy", "macro_f1", "kappa"):
            row[number] = found.loc[number, "value"]
            row[f"{number} 95 %"] = (
                f"{found.loc[number, 'low']:.3f} to {found.loc[number, 'high']:.3f}"
            )
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("judged by")


def confusion(tables: dict[str, Predictions], name: str) -> Drawing:
    """The confusion matrix of one of the tables of `coarse`, on test."""
    test = tables[name].split("test")
    title = f"Confusion by {name.removeprefix('attr_')}"
    return plots.confusion_matrix(metrics.confusion(test), test.class_names, title=title)


def _counted(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        if values.nunique() > _MOST_VALUES:
            ranges = pd.cut(values.astype(float), 20)
            return ranges.map(lambda each: f"{each.left:g} to {each.right:g}").value_counts(
                sort=False
            )
        return values.dropna().value_counts().sort_index()
    counted = values.dropna().value_counts()
    if len(counted) > _MOST_VALUES:
        rest = counted[_MOST_VALUES - 1 :]
        counted = pd.concat(
            [counted[: _MOST_VALUES - 1], pd.Series({f"{len(rest)} others": rest.sum()})]
        )
    return counted
