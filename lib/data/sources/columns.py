"""Roles of the columns of a table: pictures, label, split, groups, boxes, attributes."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from lib.data import targets
from lib.data.sources import vocabulary
from lib.data.sources.options import Options
from lib.data.sources.table_files import FileIndex, Table
from lib.data.sources.vocabulary import column_key
from lib.errors import DarkroomError, few, suggest

BOXES = {
    "box_left": ("box_left", "xmin", "x_min", "bbox_x1", "x1", "left", "roi_x1"),
    "box_top": ("box_top", "ymin", "y_min", "bbox_y1", "y1", "top", "roi_y1"),
    "box_right": ("box_right", "xmax", "x_max", "bbox_x2", "x2", "right", "roi_x2"),
    "box_bottom": ("box_bottom", "ymax", "y_max", "bbox_y2", "y2", "bottom", "roi_y2"),
}
SIZED_BOXES = {
    "box_left": ("x", "bbox_x", "box_x"),
    "box_top": ("y", "bbox_y", "box_y"),
    "box_right": ("w", "width", "bbox_width", "bbox_w", "box_width"),
    "box_bottom": ("h", "height", "bbox_height", "bbox_h", "box_height"),
}
"""The same box given by its upper left corner and its size, as COCO does."""

NO_LABEL = "none"
"""The class of a picture without a label, where a picture may have any number of them."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|(\d+\.\d*|\.\d+)(e[-+]?\d+)?)", re.IGNORECASE)
_PREDICTIONS = {
    6: re.compile(r"(?:\S+(?: +-?\d+(?:\.\d+)?){5}(?: +|$))+"),
    5: re.compile(r"(?:[^\s\d]\S*(?: +-?\d+(?:\.\d+)?){4}(?: +|$))+"),
}
"""Cells as in Kaggle's `PredictionString`: class, confidence and a box, or class and box, repeated;
by the number of words of each.
"""

_TRUE = frozenset({"1", "1.0", "true", "yes"})
_FALSE = frozenset({"0", "0.0", "-1", "-1.0", "false", "no", ""})
_PARTITIONS = {"0": "train", "1": "val", "2": "test"}
"""Source: Liu et al. 2015, CelebA, list_eval_partition."""
FEW_CONFLICTS = 0.05
"""Share of pictures that may have rows with different labels before `several` is asked for; below,
they have no label.
"""


@dataclass(frozen=True, eq=False)
class Named:
    """A table whose cells name pictures: `image` is that column, `paths` the pictures, None where
    none fits.
    """

    table: Table
    image: str
    paths: pd.Series

    @property
    def pictures(self) -> set[str]:
        """Returns the pictures that the table names."""
        return set(self.paths.dropna())


@dataclass(frozen=True)
class LabelChoice:
    """The label of a table: `columns` (several where they are one-hot), or the `question` to ask;
    `known` by its name.
    """

    columns: tuple[str, ...] = ()
    known: bool = False
    question: str | None = None

    def __bool__(self) -> bool:
        return bool(self.columns or self.question)


def name_pictures(table: Table, index: FileIndex, wanted: str | None) -> tuple[Named | None, str]:
    """Returns the table with the column that names pictures, or None and why there is none."""
    frame = table.frame
    columns = [*frame.columns]
    if wanted is not None:
        columns = _columns_named(frame, wanted)[:1]
        if not columns:
            return None, f"it has {_no_column(frame, wanted)}"
    sample = frame.iloc[:: max(1, len(frame) // 200)]
    scored = []
    for place, name in enumerate(columns):
        cells = [cell for cell in sample[name] if cell]
        matches = [path for cell in cells if (path := index.find(cell, table)) is not None]
        is_known = column_key(name) in vocabulary.IMAGE_COLUMNS
        like_files = any("." in cell or "/" in cell for cell in cells[:5])
        is_enough = len(matches) * 2 >= len(cells) or wanted or (like_files and is_known)
        is_class = len(set(cells)) * 4 < len(cells) and not (like_files or is_known or wanted)
        if matches and is_enough and not is_class:  # the class 1 is not the picture 1.png
            scored.append((len(set(matches)), is_known, like_files, -place, name, set(matches)))
    if not scored:
        return None, _why_unnamed(sample, columns, index)
    best = max(scored)
    name = best[-2]
    for *_, is_known, _, _, other, pictures in scored:
        if is_known == best[1] and len(pictures - best[-1]) * 2 > len(pictures):
            pair = f"{other!r} and {name!r}"
            return None, f"its columns {pair} name different pictures; say image=COLUMN"
    paths = {cell: index.find(cell, table) for cell in frame[name].unique()}
    return Named(table, name, frame[name].map(paths).astype(object)), ""


def _why_unnamed(sample: pd.DataFrame, columns: list[str], index: FileIndex) -> str:
    for name in columns:
        for cell in sample[name][:20]:
            paths = index.named(cell)
            if len(paths) > 1 and any(map(str.isdigit, cell)):
                return (
                    f"its column {name!r} names files that are there several times, such as "
                    f"{few(paths, 2)}; write the folder into the column, or leave one of the "
                    "folders out with ignore=FOLDER"
                )
    for name in sample.columns:
        if sample[name].str.contains(r"\.(?:jpe?g|png|tiff?|bmp|gif|webp)$", case=False).any():
            return f"its column {name!r} names files that are not there"
    return "no column names pictures that are there"


def name_by_ids(table: Table, named: Sequence[Named]) -> Named | None:
    """Returns a table whose first column repeats the ids that another table gives the pictures, as
    CUB's lists do, or None.
    """
    first = table.frame.columns[0]
    for other in named:
        for column in other.table.frame.columns.drop(other.image):
            ids = other.table.frame[column]
            known = dict(zip(ids, other.paths, strict=True))
            rows = table.frame[first].isin(known.keys()).sum()
            if len(known) == len(ids) and rows == len(table.frame) >= len(ids) // 2:
                return Named(table, first, table.frame[first].map(known).astype(object))
    return None


# -- The label


def choose_label(frame: pd.DataFrame, image: str, options: Options, *, name: str) -> LabelChoice:
    """Returns which column is the label: the one asked for, one whose name says so, one-hot
    columns, or the only one left of a list without a header.

    Raises DarkroomError when the column that was asked for is not there.
    """
    if options.label is not None:
        return LabelChoice((_column_named(frame, options.label, name),), known=True)
    partition = {column for column in frame.columns if column_key(column) == "partition"}
    taken = {image, *box_columns(frame), *_split_columns(frame), *partition}
    columns = [
        column for column in frame.columns if column not in taken and _may_be_label(frame[column])
    ]
    for words in vocabulary.LABEL_COLUMNS:
        keys = words.split()
        known = [column for column in columns if column_key(column) in keys]
        known = _one_of_equals(frame, known)
        if len(known) == 1:
            return LabelChoice((known[0],), known=True)
        if known:
            return LabelChoice(question=_label_question(frame, known, name))
    one_hot = _one_hot(frame, [column for column in frame.columns if column not in taken])
    if one_hot:
        return LabelChoice(one_hot, known=True)
    rest = _one_of_equals(frame, [column for column in columns if not _is_id_column(column)])
    if len(rest) == 1 and rest[0].startswith("column "):  # a list file: path and class
        return LabelChoice((rest[0],))
    return LabelChoice(question=_label_question(frame, rest, name)) if rest else LabelChoice()


def other_labels(frame: pd.DataFrame, choice: LabelChoice) -> list[str]:
    """Returns further columns that are named like a label and differ from the chosen one."""
    if len(choice.columns) != 1:
        return []
    known, own = " ".join(vocabulary.LABEL_COLUMNS).split(), frame[choice.columns[0]]
    return [
        name
        for name in frame.columns
        if column_key(name) in known
        and _may_be_label(frame[name])
        and not is_bijection(own, frame[name])
    ]


def _columns_named(frame: pd.DataFrame, wanted: str) -> list[str]:
    exact = [column for column in frame.columns if column == wanted]
    return exact or [name for name in frame.columns if column_key(name) == column_key(wanted)]


def _column_named(frame: pd.DataFrame, wanted: str, name: str) -> str:
    columns = _columns_named(frame, wanted)
    if len(columns) != 1:
        raise DarkroomError(f"The table {name} has {_no_column(frame, wanted)}")
    return columns[0]


def _no_column(frame: pd.DataFrame, wanted: str) -> str:
    names = list(frame.columns)
    return f"no column {wanted!r}; it has {few(names, 12)}.{suggest(wanted, names)}"


def _may_be_label(cells: pd.Series) -> bool:
    """Not constant, not unique, not a number of many values."""
    values = cells[cells != ""]
    if _prediction_words(values):
        return True
    distinct = values.nunique()
    if distinct < 2 or (distinct == len(values) and distinct > 2):
        return False
    some = values.unique()[:2000]
    if not all(map(_NUMBER.fullmatch, some)):
        return True
    has_fractions = any("." in value and not value.endswith(".0") for value in some)
    return not has_fractions and (distinct <= 20 or distinct * 10 <= len(values))


def _prediction_words(values: pd.Series) -> int:
    """The number of words of each prediction in the cells; 0 where they are none."""
    fits = (number for number, one in _PREDICTIONS.items() if all(map(one.fullmatch, values)))
    return next(fits, 0) if len(values) else 0


def _is_id_column(name: str) -> bool:
    words = vocabulary.tokens(name)
    return any(word in vocabulary.ID_WORDS for word in words) or words[-1:] == ("id",)


def _one_of_equals(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    """Of equivalent columns (`class_id`, `class_name`) the one with words."""
    kept: list[str] = []
    numeric = {
        name: all(cell.replace(".", "").isdigit() for cell in frame[name].unique()[:50])
        for name in columns
    }
    for column in sorted(columns, key=numeric.get):
        if not any(is_bijection(frame[column], frame[other]) for other in kept):
            kept.append(column)
    return kept


def is_bijection(first: pd.Series, second: pd.Series) -> bool:
    """Whether two columns say the same in other words."""
    pairs = pd.DataFrame({"a": first, "b": second}).drop_duplicates()
    return len(pairs) == first.nunique() == second.nunique()


def _label_question(frame: pd.DataFrame, columns: Sequence[str], name: str) -> str:
    listed = few([f"{column} ({frame[column].nunique():,} values)" for column in columns], 12)
    return (
        f"which column of {name} is the label? It may be {listed}; say label=COLUMN, such as "
        f"label={columns[0]}"
    )


def _one_hot(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns of zeros and ones that are classes: at least three, or two of which each
    row has one.
    """
    values = {name: set(frame[name].str.lower()) for name in columns}
    values = {name: cells for name, cells in values.items() if cells <= _TRUE | _FALSE}
    every = set().union(*values.values())
    if every & {"-1", "-1.0"} and every & {"0", "0.0"}:  # uncertain and absent, as in CheXpert
        return ()
    marks = pd.DataFrame({name: frame[name].str.lower().isin(_TRUE) for name in values})
    marked = marks.columns[marks.any()]
    sums = marks[marked].sum(axis=1)
    if len(marked) < 2 or (len(marked) == 2 and not (sums == 1).all()):
        return ()
    return tuple(marked) if (sums <= 1).mean() > 0.5 or len(marked) >= len(columns) - 1 else ()


# -- Split, boxes, attributes, groups


def _split_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if any(_read_split(frame[name], name).values())]


def _read_split(cells: pd.Series, name: str) -> dict[str, str | None]:
    """Cell -> split of a column that tells one, else nothing; an unknown word is mapped to None."""
    key, values = column_key(name), [value for value in cells.unique() if value]
    words = {value: _split_word(value) for value in values}
    if key == "partition" and "2" in values and set(values) <= _PARTITIONS.keys():
        return {value: _PARTITIONS[value] for value in values}
    are_words = 1 < len(values) <= 5 and all(words.values())  # more are names such as train_07
    is_path = any(set("./") & set(value) for value in values)
    if are_words and not is_path and key not in vocabulary.PLAIN_LABELS:
        return words  # whatever the column is called
    is_flag = {value.lower() for value in values} <= _TRUE | _FALSE
    for yes, no, names in (
        ("train", "test", vocabulary.TRAIN_FLAGS),
        ("test", "train", vocabulary.TEST_FLAGS),
        ("val", "train", vocabulary.VAL_FLAGS),
    ):
        if key in names and is_flag:
            return {value: yes if value.lower() in _TRUE else no for value in values}
    return words if key in vocabulary.SPLIT_COLUMNS and len(values) <= 20 else {}


def _split_word(value: str) -> str | None:
    split, rest = vocabulary.split_and_rest(value)
    return split if set(rest) <= {"public", "private"} else None


def unread_splits(frame: pd.DataFrame) -> list[str]:
    """Returns the columns that are called like a split but hold no word of one, with their
    values.
    """
    columns = []
    for name in frame.columns:
        read = _read_split(frame[name], name)
        if len(read) > 1 and not any(read.values()):
            columns.append(f"{name} ({few(sorted(read), 4)})")
    return columns


def read_split(
    frame: pd.DataFrame, options: Options, *, name: str
) -> tuple[str | None, pd.Series | None]:
    """Returns the column of the source's own split and the split of each row.

    Raises DarkroomError for a column that is not there, and for words that are no split that is
    known.
    """
    if options.split == "none" or (options.split or "").startswith("level"):
        return None, None
    if options.split:
        column = _column_named(frame, options.split, name)
    else:
        column = next(iter(_split_columns(frame)), None)
    if column is None:
        return None, None
    known = _read_split(frame[column], column) or {
        value: _split_word(value) for value in frame[column].unique() if value
    }
    named = options.named_splits
    known = {value: named.get(value.casefold(), split) for value, split in known.items()}
    strange = [
        value for value, split in known.items() if split is None and value.casefold() not in named
    ]
    if strange:
        rows = int(frame[column].isin(strange).sum())
        raise DarkroomError(
            f"The column {column!r} of {name} names the splits {few(sorted(known), 6)}, of which "
            f"{few(sorted(strange))} ({rows:,} rows) is none that is known; say "
            f"split_names={strange[0]}:test (or train, val, none), or split=none to read no split."
        )
    return column, frame[column].map(known).astype(object)


def box_columns(frame: pd.DataFrame) -> dict[str, str]:
    """Returns the table's columns that give a box, and what they are; none unless all four are
    there.
    """
    lower = {column_key(name): name for name in frame.columns}
    for known in (BOXES, SIZED_BOXES):
        columns = {
            box: next((lower[name] for name in names if name in lower), None)
            for box, names in known.items()
        }
        if None not in columns.values():
            return {name: box for box, name in columns.items()}
    return {}


def boxes(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the columns `box_*` in pixels, or no column."""
    columns = box_columns(frame)
    table = pd.DataFrame(index=frame.index)
    for name, box in columns.items():
        table[box] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    sized = {name for names in SIZED_BOXES.values() for name in names}
    if not sized.isdisjoint(map(column_key, columns)):
        table["box_right"] += table["box_left"]
        table["box_bottom"] += table["box_top"]
    return table


def attribute(cells: pd.Series) -> pd.Series:
    """Returns cells as numbers where all are plain numbers, else as text; leading zeros stay text.
    Empty cells are missing.
    """
    filled = cells[cells != ""]
    values = filled.unique()
    cells = cells.where(cells != "", None)
    if len(values) and all(map(_PLAIN_NUMBER.fullmatch, values)):
        return pd.to_numeric(cells)
    return cells.astype(object)


def attribute_name(column: str) -> str:
    """Returns the manifest's name of a column of a table."""
    return "attr_" + (re.sub(r"\W+", "_", column).strip("_").lower() or "column")


def automatic_groups(frame: pd.DataFrame, paths: pd.Series) -> list[str]:
    """Returns the columns whose repeated values keep pictures together without being asked for.

    These are columns such as `patient` (from three values on) or `product_id` (from ten on).
    """
    names = []
    beside = {"id", "ids", "no", "nr", "number", "uid", "name", "code"}
    for column in frame.columns:
        cells = frame.loc[paths.notna(), column]
        cells = cells[cells != ""]
        counts, words = cells.value_counts(), set(vocabulary.tokens(column))
        if not words & vocabulary.AUTOMATIC_IDS or not words <= vocabulary.ID_WORDS | beside:
            continue
        enough = 3 if words & vocabulary.PERSON_WORDS else 10
        if enough <= len(counts) < len(cells) and counts.iloc[0] * 2 <= len(cells):
            names.append(column)
    return names


# -- From rows of a table to one row a picture


@dataclass
class Labels:
    """The label of each row as a list of classes, and what was noticed about them."""

    lists: pd.Series
    column: str
    notes: list[str] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)


def label_lists(frame: pd.DataFrame, choice: LabelChoice, options: Options, *, name: str) -> Labels:
    """Returns the classes that each row gives its picture. Raises DarkroomError for cells that seem
    to hold several.
    """
    if len(choice.columns) > 1:
        names = list(choice.columns)
        marks = frame[names].apply(lambda cells: cells.str.lower().isin(_TRUE)).to_numpy()
        lists = [[*itertools.compress(names, row)] for row in marks]
        return Labels(
            pd.Series(lists, index=frame.index, dtype=object),
            f"one-hot columns {few(names, 4)} of {name}",
        )
    column = choice.columns[0]
    cells = frame[column]
    source = f"{'' if column.startswith('column ') else 'column '}{column} of {name}"
    filled = cells[cells != ""]
    if step := _prediction_words(filled):
        return Labels(cells.map(lambda cell: [*dict.fromkeys(cell.split()[::step])]), source)
    if len(filled) and filled.str.fullmatch(r"\{.*\}").all():
        cells = cells.map(_only_value)
    if len(filled) and filled.str.fullmatch(r"\[.*\]").all():
        parts = cells.str.strip("[]").str.split(",")
        return Labels(
            parts.map(lambda cell: [*filter(None, (p.strip(" '\"") for p in cell))]), source
        )
    separator = options.separator
    is_plural = column_key(column).endswith(("tags", "labels", "classes", "categories"))
    separators = _list_separator(cells, loose=is_plural) if separator is None else None
    if separators and options.several == "all":
        separator = separators[0]
    elif separators and options.several is None:
        sign, number = separators
        example = next(cell for cell in cells if sign in cell)
        raise DarkroomError(
            f"{number:,} cells of the column {column!r} of {name} seem to hold several labels, "
            f"such as {example!r}. Say several=all to keep them all, separator={sign!r} and "
            "several=first, last, join or drop to read them apart; several=join without a "
            "separator takes each cell as one class."
        )
    parts = cells.str.split(separator, regex=False) if separator else cells.map(lambda cell: [cell])
    return Labels(parts.map(lambda cell: [*filter(None, map(str.strip, cell))]), source)


def _only_value(cell: str) -> str:
    """The value of a JSON object with one name, such as {"animal": "cat"}; else the cell."""
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    texts = [*value.values()] if isinstance(value, dict) else []
    return texts[0] if len(texts) == 1 and isinstance(texts[0], str) else cell


def _list_separator(cells: pd.Series, *, loose: bool) -> tuple[str, int] | None:
    """The sign between several labels: one that no name holds, or one where the cells with it are
    made of parts that are cells too or (`loose`, and for `,`) recur in other cells.
    """
    values = cells[cells != ""]
    distinct = set(values.unique())
    for sign in ("|", ";", ",", "/", "+", " "):
        several = {cell for cell in distinct if sign in cell.strip()}
        parts = [[*filter(None, map(str.strip, cell.split(sign)))] for cell in several]
        if max(map(len, parts), default=0) < 2:
            continue
        uses = Counter(part for cell in parts for part in set(cell))
        alone = {part for part in uses if part in distinct}
        is_strict = sign in (" ", "/", "+", ",") and not loose
        recurring = all(any(part in alone or uses[part] > 1 for part in cell) for cell in parts)
        if sign in "|;" or (len(alone) == len(uses) if is_strict else recurring):
            return sign, int(values.isin(several).sum())
    return None


def one_label(lists: Sequence[str], several: str) -> str | None:
    """Returns the one class of a picture that has several: the first, the last, none (`drop`), or
    all joined by ` + `. With `all` it is the first, or `NO_LABEL` where there is none.
    """
    distinct = list(dict.fromkeys(lists))
    if several == "all":
        return distinct[0] if distinct else NO_LABEL
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    if several == "drop":
        return None
    if several == "join":
        return " + ".join(sorted(distinct))
    return distinct[0 if several == "first" else -1]


def joined(lists: Sequence[str], several: str | None = None) -> str | None:
    """Returns the classes of a picture as `targets` reads them, a|b. No class is missing (None), or
    with several="all" known to be none ("").
    """
    return targets.SEPARATOR.join(dict.fromkeys(lists)) or ("" if several == "all" else None)
