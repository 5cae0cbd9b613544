"""Reads a data set by its tables: which tables belong together, and their rows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources import annotation_files, columns, table_files, vocabulary
from lib.data.sources.columns import LabelChoice, Named
from lib.data.sources.options import Options
from lib.data.sources.reading import Reading
from lib.data.sources.table_files import FileIndex, NoTable
from lib.errors import DarkroomError, few

_SEVERAL = {
    "first": "the first counts",
    "last": "the last counts",
    "drop": "these images have no label",
    "join": "they are joined to a class",
    "all": "each counts",
}


@dataclass(frozen=True, eq=False)
class Bundle:
    """Tables of the same columns that are read as one. `paths` and `splits` have a value for each
    row of `frame`.
    """

    name: str
    members: tuple[Named, ...]
    frame: pd.DataFrame
    paths: pd.Series
    splits: pd.Series
    image: str
    label: LabelChoice

    @property
    def pictures(self) -> set[str]:
        """Returns the pictures that the tables name."""
        return set(self.paths.dropna())

    @property
    def files(self) -> tuple[str, ...]:
        """Returns the paths of the tables, or of the annotation files that they are made of."""
        return tuple(
            path
            for member in self.members
            for path in member.table.annotations or (member.table.path,)
        )

    @property
    def notes(self) -> list[str]:
        """Returns what was noticed when the tables were read."""
        return [note for member in self.members for note in member.table.notes]


@dataclass
class Tables:
    """The tables of a folder: those that name its pictures, and why the others do not."""

    bundles: list[Bundle] = field(default_factory=list)
    useless: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has_split: bool = False
    """Whether the option `split` names one of the tables."""
    asked: list[Bundle] = field(default_factory=list)
    """Those of the option `table`, which alone give labels then."""

    @property
    def labelled(self) -> list[Bundle]:
        """Returns the bundles with a label column, or a question which it is."""
        return [bundle for bundle in self.asked or self.bundles if bundle.label]

    def reasons(self) -> str:
        """Returns why tables could not be used: `labels.csv (row 3 has 4 cells …)`."""
        reasons = [f"{path} ({why})" for path, why in self.useless.items()]
        return few(reasons, 4) if reasons else ""


def find(
    raw: Path, files: Sequence[ListedFile], pictures: Sequence[ListedFile], options: Options
) -> Tables:
    """Returns the tables among `files` that name `pictures`, united where they are parts of one.

    Raises DarkroomError when the table that was asked for is not there or cannot be used.
    """
    index = FileIndex([file.path for file in pictures])
    stems = {stem for stem in index.by_stem if any(map(str.isdigit, stem))}
    names = frozenset({*index.by_name, *stems})
    paths = table_files.candidates(files, pictures)
    asked = [] if options.table is None else _asked(options.table, files, paths)
    given, named = Tables(), []
    loaded = [] if asked else [*annotation_files.tables(raw, files, index)]
    for path in dict.fromkeys([*asked, *paths]):
        try:
            loaded.append(table_files.load(raw, path, names=names, encoding=options.encoding))
        except NoTable as error:
            given.useless[path] = str(error)
    answers = [(table, *columns.name_pictures(table, index, options.image)) for table in loaded]
    direct = [one for _, one, _ in answers if one is not None]
    for table, one, why in answers:
        one = one or columns.name_by_ids(table, direct)
        if one is None:
            given.useless[table.path] = why
            if "several times" in why and _has_label(table):
                given.ambiguous[table.path] = why
        elif table.is_sample and table.path not in asked:
            given.useless[table.path] = "its name says that it is a sample; say table= to use it"
        else:
            named.append(one)
    given.asked = _bundles([one for one in named if one.table.path in asked], options)
    if asked and not given.asked:
        why = few([given.useless[path] for path in asked], 2)
        raise DarkroomError(f"The table {options.table} cannot be used: {why}.")
    others = _bundles([one for one in named if one.table.path not in asked], options)
    given.bundles = _one_split([*given.asked, *others], options, given)
    given.useless = {path: why for path, why in given.useless.items() if _may_be_asked(path)}
    return given


def with_class_lists(given: Tables, options: Options) -> Tables:
    """Returns the tables with lists of one class each, such as `cat.txt` and `dog.txt`, as one
    table, where no other gives a label.
    """
    lists = [bundle for bundle in given.bundles if _is_marked(bundle.frame)]
    lists = lists or [bundle for bundle in given.bundles if bundle.frame.shape[1] == 1]
    others = [bundle for bundle in given.bundles if bundle not in lists]
    members = [member for bundle in lists for member in bundle.members]
    names = [_class_of_list(member.table.path) for member in members]
    is_asked = options.label is None
    has_label = any(one.label.columns or (is_asked and one.label.question) for one in others)
    if has_label or not all(names) or len(set(names)) < 2:
        return given
    parts, pictures = [], []
    for one, name in zip(members, names, strict=True):
        of_class = one.table.frame[one.table.frame.iloc[:, -1] != "-1"]
        given_split = {"label": name, "split": one.table.split}
        parts.append(pd.DataFrame({"file": of_class[one.image], **given_split}))
        pictures.append(one.paths[of_class.index])
    paths = tuple(member.table.path for member in members)
    frame = pd.concat(parts, ignore_index=True).dropna(axis=1)
    table = table_files.Table(f"the lists {few(paths, 3)}", frame, annotations=paths)
    named = Named(table, "file", pd.concat(pictures, ignore_index=True))
    return replace(given, bundles=[*others, _bundle([named], options)])


def _is_marked(frame: pd.DataFrame) -> bool:
    """Whether a list says by 1, -1 or 0 (difficult) whether pictures show its class. Source:
    Everingham et al. 2010, The Pascal VOC Challenge, image sets.
    """
    marks = set(frame.iloc[:, -1])
    return frame.shape[1] == 2 and "-1" in marks and marks <= {"1", "-1", "0"}


def _class_of_list(path: str) -> str:
    """The class that a list is named after; "" where it is a part of the data set, such as `val`,
    `extra` or `images_2`.
    """
    stem = path.rsplit("/", 1)[-1].rpartition(".")[0]
    words = [word for word in re.split(r"[\W_]+", stem) if not vocabulary.split_in([word.lower()])]
    name = "_".join(words)
    is_part = vocabulary.is_vague_split(name) or vocabulary.are_chunks([name])
    other = vocabulary.IMAGE_WORDS | {"list", "lists", "all", "names", "id", "ids", "labeled"}
    return "" if is_part or {*vocabulary.tokens(name)} <= other else name


def _may_be_asked(path: str) -> bool:
    return table_files.has_ending(path) or path.lower().endswith((".json", ".txt"))


def _has_label(table: table_files.Table) -> bool:
    known = " ".join(vocabulary.LABEL_COLUMNS).split()
    return any(vocabulary.column_key(name) in known for name in table.frame.columns)


def _asked(wanted: str, files: Sequence[ListedFile], paths: Sequence[str]) -> list[str]:
    there = [file.path for file in files if table_files.is_called(file.path, wanted)]
    if not there:
        known = few([path for path in paths if _may_be_asked(path)], 8)
        raise DarkroomError(f"There is no table {wanted!r} here; there is {known}.")
    return there


def _bundles(named: Sequence[Named], options: Options) -> list[Bundle]:
    alike: dict[tuple, list[Named]] = defaultdict(list)
    for one in named:
        keys = tuple(sorted(vocabulary.column_key(column) for column in one.table.frame.columns))
        alike[(keys, one.table.has_header)].append(one)
    bundles = []
    for members in alike.values():
        bundles += [_bundle(part, options) for part in _united(members)]
    return _join_splits(bundles, options)


def _join_splits(bundles: list[Bundle], options: Options) -> list[Bundle]:
    """Tables of different splits that agree on their image and label columns become one."""
    parts: dict[tuple, list[Bundle]] = defaultdict(list)
    for one in bundles:
        header = one.members[0].table.has_header and one.label.known
        parts[(one.image, one.label.columns) if header else (id(one),)].append(one)
    joined = []
    for ones in parts.values():
        members = [member for one in ones for member in one.members]
        is_one = len(ones) > 1 and _have_own_splits(members)
        joined += [_bundle(members, options)] if is_one else ones
    return joined


def _one_split(bundles: list[Bundle], options: Options, given: Tables) -> list[Bundle]:
    """The tables without the splits that their names tell, where these contradict each other and
    `split` chooses none of them.
    """
    splits = [bundle for bundle in bundles if bundle.splits.notna().any()]
    chosen = [
        bundle
        for bundle in splits
        if options.split
        and any(table_files.is_called(path, options.split) for path in bundle.files)
    ][:1]
    given.has_split = bool(chosen)
    pairs = {
        pair for one in splits for pair in zip(one.paths, one.splits, strict=True) if all(pair)
    }
    if not chosen and len({path for path, _ in pairs}) == len(pairs):
        return bundles
    if not chosen:
        given.notes.append(
            f"The lists {few([one.name for one in splits], 3)} divide the pictures in different "
            f"ways, and none of them is used; split={splits[0].files[0]} uses that one and those "
            "that go with it."
        )
    return [
        one if one in chosen else replace(one, splits=one.splits.map(lambda _: None))
        for one in bundles
    ]


def _united(members: list[Named]) -> list[list[Named]]:
    """Tables of the same columns: one that holds what others hold together goes; parts without
    overlap are one.
    """
    kept = list(members)
    for one in sorted(members, key=lambda item: -len(item.pictures)):
        inside = [other for other in kept if other is not one and other.pictures <= one.pictures]
        parts = set().union(*(other.pictures for other in inside))
        name = vocabulary.tokens(one.table.path.rsplit("/", 1)[-1])
        is_whole = one.table.split is None or "trainval" in name or {"train", "val"} <= {*name}
        if is_whole and len(inside) > 1 and parts >= one.pictures:
            kept.remove(one)
    total = sum(len(one.pictures) for one in kept)
    if len(set().union(*(one.pictures for one in kept))) == total or _have_own_splits(kept):
        return [kept]
    series: dict[tuple, list[Named]] = defaultdict(list)  # train1 and test1, train2 and test2
    for one in kept:
        words = vocabulary.tokens(one.table.path.rsplit("/", 1)[-1])
        series[tuple(word for word in words if word not in vocabulary.SPLIT_WORDS)].append(one)
    return [
        part
        for ones in series.values()
        for part in ([ones] if _have_own_splits(ones) else [[one] for one in ones])
    ]


def _have_own_splits(members: Sequence[Named]) -> bool:
    splits = {one.table.split for one in members}
    return None not in splits and len(splits) == len(members)


def _bundle(members: Sequence[Named], options: Options) -> Bundle:
    first = members[0]
    name = few([one.table.path for one in members], 3).replace(", ", " and ")
    keys = {vocabulary.column_key(column): column for column in first.table.frame.columns}
    frames = [first.table.frame]
    for one in members[1:]:
        names = {
            column: keys.get(vocabulary.column_key(column), column) for column in one.table.frame
        }
        frames.append(one.table.frame.rename(columns=names))
    frame = pd.concat(frames, ignore_index=True).fillna("")
    paths = pd.concat([one.paths for one in members], ignore_index=True)
    splits = [one.table.split for one in members for _ in range(len(one.table.frame))]
    try:
        choice = columns.choose_label(frame, first.image, options, name=name)
    except DarkroomError as error:
        choice = LabelChoice(question=str(error))
    return Bundle(
        name, tuple(members), frame, paths, pd.Series(splits, dtype=object), first.image, choice
    )


def read(bundle: Bundle, pictures: Sequence[ListedFile], options: Options) -> Reading:
    """Returns the reading of tables with a label: one row a picture, those that they do not name
    without a label.

    Raises DarkroomError for a question: which column, which of several labels, which split.
    """
    if bundle.label.question:
        raise DarkroomError(_sentence(bundle.label.question))
    frame, name = bundle.frame, bundle.name
    labels = columns.label_lists(frame, bundle.label, options, name=name)
    split_column, splits = columns.read_split(frame, options, name=name)
    rows = pd.DataFrame({"path": _paths(bundle), "lists": labels.lists})
    rows["split"] = splits if splits is not None else bundle.splits
    unused, notes = Counter(), [*bundle.notes]
    if split_column is None and options.split is None and (folds := columns.unread_splits(frame)):
        notes.append(
            f"{few(folds)} in {name} is not read as a split, since its values are none that is "
            "known; split=COLUMN with split_names=VALUE:train,VALUE:test reads it."
        )
    if others := columns.other_labels(frame, bundle.label):
        notes.append(f"Labels are also in {few(others)} of {name}; label=COLUMN uses one of them.")
    empty = frame[bundle.image] == ""
    unused["no file name in the row"] += int(empty.sum())
    missing = bundle.paths.isna() & ~empty
    unused["missing: the file is not there"] += int(missing.sum())
    if missing.any():
        notes.append(
            f"{int(missing.sum()):,} of {len(frame):,} rows of {name} name a file that is not "
            f"there (or several of one name), such as {frame.loc[missing, bundle.image].iloc[0]!r}."
        )
    rows = rows[~empty]
    one = _one_row_each(rows, notes, name)
    several = _several(one, rows, labels.column, options, unused, notes, name)
    one["label"] = [columns.one_label(classes, several) for classes in one["lists"]]
    extra = _extra_columns(bundle, split_column)
    table = one.join(extra.loc[one["first_row"]].reset_index(drop=True))
    if (one["lists"].map(len) > 1).any() or options.separator or options.several == "all":
        names = bundle.label.columns
        column = columns.attribute_name(names[0]) if len(names) == 1 else "attr_classes"
        table[column] = [columns.joined(classes, options.several) for classes in one["lists"]]
        notes.append(f"{column} holds all labels of an image: target = '{column}/all' learns each.")
    table = table.drop(columns=["lists", "first_row"])
    without = int(table["label"].isna().sum()) - int(missing.sum())
    if without > 0:
        unused["no label in the row"] += without
    named = set(table["path"])
    unnamed = [file.path for file in pictures if file.path not in named]
    more = pd.DataFrame(
        {"path": unnamed, "unused": f"unlabelled: not named in {name}"}, dtype=object
    )
    split_text = f"the names of {name}" if one["source_split"].notna().any() else None
    return Reading(
        "table",
        pd.concat([table.assign(unused=None), more], ignore_index=True),
        label=labels.column,
        split=f"column {split_column} of {name}" if split_column else split_text,
        rows_not_used=unused,
        notes=tuple(notes),
        options={"kind": "table"} | _pinned(bundle),
        tables=bundle.files,
    )


def _sentence(question: str) -> str:
    text = question if question.endswith(("?", ".")) else question + "."
    return text[0].upper() + text[1:]


def _pinned(bundle: Bundle) -> dict[str, str]:
    pinned, names = {}, bundle.label.columns
    if len(bundle.members) == 1 and not bundle.members[0].table.annotations:
        pinned["table"] = bundle.members[0].table.path
    return pinned | ({"label": names[0]} if len(names) == 1 else {})


def _paths(bundle: Bundle) -> pd.Series:
    """The picture of each row; where none is there, the path at which it should be."""
    cells = bundle.frame[bundle.image].str.replace("\\", "/", regex=False).str.lstrip("./")
    known = bundle.paths.notna()
    before: Counter[tuple[str, str]] = Counter()
    for path, cell in zip(bundle.paths[known].head(500), cells[known].head(500), strict=True):
        at = path.casefold().rfind(cell.casefold())
        if at >= 0:
            before[path[:at], path[at + len(cell) :]] += 1
    (prefix, ending), _ = before.most_common(1)[0] if before else (("", ""), 0)
    return bundle.paths.where(known, prefix + cells + ending)


def _extra_columns(bundle: Bundle, split_column: str | None) -> pd.DataFrame:
    """Boxes and attributes: every column that is not the image, the label or the split."""
    frame = bundle.frame
    taken = {bundle.image, split_column, *columns.box_columns(frame), *bundle.label.columns}
    extra = columns.boxes(frame)
    for column in frame.columns:
        if column in taken or (column.startswith("column ") and frame[column].nunique() == 1):
            continue
        name = columns.attribute_name(column)
        if name in extra:
            raise DarkroomError(
                f"Two columns of {bundle.name} would both be called {name}, one of them "
                f"{column!r}; rename one."
            )
        extra[name] = columns.attribute(frame[column])
    return extra


def _one_row_each(rows: pd.DataFrame, notes: list[str], name: str) -> pd.DataFrame:
    """One row a picture: `path`, `source_split`, `lists` (its classes in the order of the rows),
    `first_row`.
    """
    rank = rows["split"].map({"test": 3, "val": 2, "train": 1}).fillna(0)
    rows = rows.assign(rank=rank, first_row=rows.index)
    by_path = rows.groupby("path", sort=False)
    result = by_path.agg(first_row=("first_row", "first"), rank=("rank", "max"))
    astray = int((by_path["rank"].nunique() > 1).sum())
    if astray:
        notes.append(
            f"{astray:,} pictures are in several splits of {name}; each counts for test before val "
            "before train."
        )
    lists = rows.explode("lists").dropna(subset="lists").drop_duplicates(["path", "lists"])
    classes = lists.groupby("path", sort=False)["lists"].agg(list)
    result["lists"] = [classes.get(path, []) for path in result.index]
    split = result.pop("rank").map({3: "test", 2: "val", 1: "train"}).astype(object)
    result["source_split"] = split.where(split.notna(), None)
    return result.reset_index()


def _several(
    one: pd.DataFrame,
    rows: pd.DataFrame,
    column: str,
    options: Options,
    unused: Counter[str],
    notes: list[str],
    name: str,
) -> str:
    """Decides what becomes of pictures with several classes, and counts the rows that say so."""
    first = rows.drop_duplicates("path").set_index("path")["lists"]
    again = rows[rows.duplicated("path")]
    other = sum(
        not set(classes) <= set(first[path])
        for path, classes in zip(again["path"], again["lists"], strict=True)
    )
    conflicts = int((one["lists"].map(len) > 1).sum())
    several = options.several or ("first" if options.separator else None)
    if several is None and conflicts > columns.FEW_CONFLICTS * len(one):
        why = f"By {column}"
        if other:
            why = f"{other:,} rows of {name} name an image again with another label, so that"
        example = next(classes for classes in one["lists"] if len(classes) > 1)
        raise DarkroomError(
            f"{why} {conflicts:,} of {len(one):,} images have several labels, such as "
            f"{' and '.join(example[:3])}. Say several=all (each is learned), several=first, "
            "several=last, several=join (a class of its own) or several=drop (no label)."
        )
    several = several or "drop"
    if other:
        if several not in ("join", "all"):
            unused["names an image again with another label"] += other
        notes.append(
            f"{other:,} rows of {name} name an image again with another label ({conflicts:,} "
            f"images); several={several}: {_SEVERAL[several]}."
        )
    elif conflicts:
        notes.append(f"{conflicts:,} images have several labels; several={several}.")
    if same := len(again) - other:
        notes.append(f"{same:,} rows of {name} name an image again with the same label.")
    return several
