"""A table beside the images: CSV, TSV or Parquet with a row for each image. Other columns become
`attr_*`.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from lib.data import targets
from lib.errors import DarkroomError, suggest

NAME = "table"
ABOUT = "a CSV or Parquet table with a row for each image"
LICENCE = None

IMAGE_COLUMNS = (
    "image",
    "path",
    "file",
    "filename",
    "file_name",
    "image_path",
    "img",
    "image_id",
    "id",
)
LABEL_COLUMNS = (
    "label",
    "class",
    "category",
    "target",
    "genre",
    "style",
    "species",
    "breed",
    "type",
    "name",
)
SPLIT_COLUMNS = ("split", "subset", "set", "fold", "partition")
BOXES = {
    "box_left": ("box_left", "xmin", "x_min", "bbox_x1", "x1", "left"),
    "box_top": ("box_top", "ymin", "y_min", "bbox_y1", "y1", "top"),
    "box_right": ("box_right", "xmax", "x_max", "bbox_x2", "x2", "right"),
    "box_bottom": ("box_bottom", "ymax", "y_max", "bbox_y2", "y2", "bottom"),
}
SIZED_BOXES = {
    "box_left": ("x", "bbox_x", "box_x"),
    "box_top": ("y", "bbox_y", "box_y"),
    "box_right": ("w", "width", "bbox_width", "bbox_w", "box_width"),
    "box_bottom": ("h", "height", "bbox_height", "bbox_h", "box_height"),
}
"""The same box told by its upper left corner and its size, as COCO does."""

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
}
SEVERAL = ("first", "last", "drop", "join")
ENDINGS = (".csv", ".tsv", ".parquet")


def find(
    raw: Path,
    *,
    table: str | None = None,
    image: str | None = None,
    label: str | None = None,
    separator: str | None = None,
    several: str = "first",
) -> dict[str, Any] | None:
    """Returns the options by which `rows` reads the one table in `raw`, or None when there is none
    that names its images.

    `table` is the file's name, `image` and `label` its columns; what is None is guessed from the
    names of the columns and from whether the files are there. With a `separator` (such as "|") a
    cell holds several labels, of which `several` takes the first or last, drops the row's label, or
    joins them in sorted order with " + ".
    Raises DarkroomError when what was asked for is not there.
    """
    if several not in SEVERAL:
        raise DarkroomError(
            f"several must be one of {', '.join(SEVERAL)}. Received: "
            f"{several!r}.{suggest(several, SEVERAL)}"
        )
    asked = table is not None or image is not None or label is not None
    there = (
        sorted(path.name for path in raw.iterdir() if path.suffix.lower() in ENDINGS)
        if raw.is_dir()
        else []
    )
    if table is not None and table not in there:
        raise DarkroomError(
            f"There is no table {table!r} in {raw}; there is {', '.join(there) or 'none'}."
        )
    for name in [table] if table is not None else there:
        frame = _read(raw / name)
        for column, wanted in (("image", image), ("label", label)):
            if (
                wanted is not None
                and wanted not in frame.columns
                and (table is not None or len(there) == 1)
            ):
                raise DarkroomError(
                    f"The table {name} has no column {wanted!r} for {column}=; it has "
                    f"{', '.join(frame.columns)}."
                    f"{suggest(wanted, list(frame.columns))}"
                )
        place = _images(raw, frame, image)
        chosen = label or _label(frame, place[0] if place else None)
        if place and chosen:
            return {
                "table": name,
                "image": place[0],
                "folder": place[1],
                "ending": place[2],
                "label": chosen,
                "separator": separator,
                "several": several,
            }
    if asked:
        raise DarkroomError(
            f"No table in {raw} names images that are there; expected a column such as "
            f"{', '.join(IMAGE_COLUMNS[:4])} with "
            "paths relative to the table or to images/ beside it."
        )
    return None


def rows(
    raw: Path,
    *,
    table: str,
    image: str,
    folder: str,
    ending: str,
    label: str,
    separator: str | None = None,
    several: str = "first",
) -> pd.DataFrame:
    """Returns one row an image of the table, in the columns that sources give; the options are
    those of `find`.

    A path that the table names more than once keeps its first row. An empty cell is a missing
    label. Raises DarkroomError for two columns that would have one name.
    """
    frame = _read(raw / table)
    told = pd.DataFrame({"path": _paths(frame[image], folder, ending)})
    told["label"] = [_one(cell, separator, several) for cell in frame[label]]
    split = _column(frame, SPLIT_COLUMNS)
    told["source_split"] = None
    if split is not None:
        told["source_split"] = (
            frame[split].astype(str).str.strip().str.lower().map(SPLITS).astype(object)
        )
    boxes = _boxes(frame)
    told = told.assign(**{name: boxes[name].to_numpy() for name in boxes.columns})
    taken = {image, split, *boxes.attrs["columns"]}
    if separator is None:
        taken.add(label)
    for column in frame.columns:
        if column not in taken:
            cells, name = frame[column], "attr_" + re.sub(r"\W+", "_", column).strip("_").lower()
            if name in told:
                raise DarkroomError(
                    f"Two columns of {table} would both be called {name}, one of them {column!r}; "
                    "rename one."
                )
            if column == label:  # several labels in a cell, as `targets` reads them
                cells = cells.map(lambda cell: _one(cell, separator, "all"))
            told[name] = cells
    return told[frame[image].notna().to_numpy()].drop_duplicates("path", ignore_index=True)


def _boxes(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns `BOXES` in pixels, or none; `attrs["columns"]` names the table's columns that
    they came from.
    """
    for known, sized in ((BOXES, False), (SIZED_BOXES, True)):
        columns = {name: _column(frame, names) for name, names in known.items()}
        if None in columns.values():
            continue
        table = (
            frame[list(columns.values())].apply(pd.to_numeric, errors="coerce").astype("float64")
        )
        table.columns = list(columns)
        if sized:
            table["box_right"] += table["box_left"]
            table["box_bottom"] += table["box_top"]
        table.attrs["columns"] = list(columns.values())
        return table
    empty = pd.DataFrame(index=frame.index)
    empty.attrs["columns"] = []
    return empty


def _read(path: Path) -> pd.DataFrame:
    import pyarrow

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path).reset_index(drop=True)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                separator = "\t" if path.suffix.lower() == ".tsv" else ","
                frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", index_col=False)
    except (
        ValueError,
        OSError,
        OverflowError,
        pyarrow.ArrowException,
        pd.errors.ParserWarning,
    ) as error:
        longer = isinstance(error, pd.errors.ParserWarning)
        told = "a row has more cells than the header" if longer else str(error).partition("\n")[0]
        raise DarkroomError(
            f"The table {path} cannot be read ({told}); save it as UTF-8 CSV."
        ) from error
    frame = frame.rename(columns=str)
    if not frame.columns.is_unique:
        raise DarkroomError(f"The table {path} has two columns of one name; rename one of them.")
    return frame


def _images(raw: Path, frame: pd.DataFrame, image: str | None) -> tuple[str, str, str] | None:
    """The column that names images, the folder they are relative to, and the ending that the names
    lack.
    """
    known = [name for name in frame.columns if name.strip().lower() in IMAGE_COLUMNS]
    columns = (
        [image]
        if image is not None
        else [*known, *(name for name in frame.columns if name not in known)]
    )
    folders = ["", "images/", "image/", "img/", "data/"]
    for column in (name for name in columns if name in frame.columns):
        sample = frame[column].dropna().astype(str).iloc[:: max(1, len(frame) // 20)][:20]
        for folder in folders:
            for ending in ("", ".jpg", ".png", ".jpeg"):
                there = sum(_is_file(raw / path) for path in _paths(sample, folder, ending))
                if len(sample) and there >= max(1, len(sample) // 2):
                    return column, folder, ending
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a cell that is no file name, such as a long description
        return False


def _paths(cells: pd.Series, folder: str, ending: str) -> pd.Series:
    plain = (
        cells.astype(str)
        .str.strip()
        .str.replace("\\", "/", regex=False)
        .str.replace(r"^(\./)+", "", regex=True)
    )
    return folder + plain + ending


def _label(frame: pd.DataFrame, image: str | None) -> str | None:
    named = _column(frame, LABEL_COLUMNS, besides=image)
    if named is not None:
        return named
    skipped = {image, _column(frame, SPLIT_COLUMNS), *_boxes(frame).attrs["columns"]}
    return next((name for name in frame.columns if name not in skipped), None)


def _column(frame: pd.DataFrame, names: tuple[str, ...], besides: str | None = None) -> str | None:
    lower = {name.strip().lower(): name for name in frame.columns if name != besides}
    return next((lower[name] for name in names if name in lower), None)


def _one(cell: Any, separator: str | None, several: str) -> str | None:
    if cell is None or cell != cell or not str(cell).strip():
        return None
    text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
    parts = (
        [part.strip() for part in text.split(separator) if part.strip()] if separator else [text]
    )
    if several == "all":
        return targets.SEPARATOR.join(parts)
    if several == "join":
        return " + ".join(sorted(set(parts)))
    if len(parts) > 1 and several == "drop":
        return None
    return parts[-1 if several == "last" else 0]
