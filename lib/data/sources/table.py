"""Reads a data set by its tables: which tables belong together, and their rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources import columns, exports, tables, vocabulary
from lib.data.sources.columns import LabelChoice, Named
from lib.data.sources.options import Options
from lib.data.sources.reading import Reading
from lib.data.sources.tables import FileIndex, NoTable
from lib.errors import DarkroomError, few

NAME = "table"
ABOUT = "a table with a row for each image"
LICENCE = None


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
    paths = tables.candidates(files, pictures)
    asked = [] if options.table is None else _asked(options.table, files, paths)
    found, named = Tables(), []
    loaded = [] if asked else [*exports.tables(raw, files, index)]
    for path in dict.fromkeys([*asked, *paths]):
        try:
            loaded.append(tables.load(raw, path, names=names, encoding=options.encoding))
        except NoTable as error:
            found.useless[path] = str(error)
    answers = [(table, *columns.name_pictures(table, index, options.image)) for table in loaded]
    direct = [one for _, one, _ in answers if one is not None]
    for table, one, why in answers:
        one = one or columns.name_by_ids(table, direct)
        if one is None:
            found.useless[table.path] = why
            if "several times" in why and _has_label(table):
                found.ambiguous[table.path] = why
        elif table.is_sample and table.path not in asked:
            found.useless[table.path] = "its name says that it is a sample; say table= to use it"
        else:
            named.append(one)
    found.asked = _bundles([one for one in named if one.table.path in asked], options)
    if asked and not found.asked:
        why = few([found.useless[path] for path in asked], 2)
        raise DarkroomError(f"The table {options.table} cannot be used: {why}.")
    others = [one for one in named if one.table.path not in asked]
    found.bundles = _one_split([*found.asked, *_bundles(others, options)], options, found)
    for path in [*found.useless]:
        if not path.lower().endswith((*tables.ENDINGS, ".json", ".txt")):
            del found.useless[path]
    return found


def _has_label(table: tables.Table) -> bool:
    known = {word for words in vocabulary.LABEL_COLUMNS for word in words.split()}
    return any(vocabulary.column_key(name) in known for name in table.frame.columns)


def _asked(wanted: str, files: Sequence[ListedFile], paths: Sequence[str]) -> list[str]:
    there = [file.path for file in files if tables.is_called(file.path, wanted)]
    if not there:
        known = few(
            [path for path in paths if path.lower().endswith((*tables.ENDINGS, ".json", ".txt"))], 8
        )
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
        splits = {member.table.split for member in members}
        is_one = len(ones) > 1 and None not in splits and len(splits) == len(members)
        joined += [_bundle(members, options)] if is_one else ones
    return joined


def _one_split(bundles: list[Bundle], options: Options, found: Tables) -> list[Bundle]:
    """The tables without the splits that their names tell, where these contradict each other and
    `split` chooses none of them.
    """
    splits = [bundle for bundle in bundles if bundle.splits.notna().any()]
    chosen = [
        bundle
        for bundle in splits
        if options.split and any(tables.is_called(path, options.split) for path in bundle.files)
    ]
    rest = [bundle for bundle in splits if bundle not in chosen[:1]]
    named = pd.concat(
        [pd.DataFrame({"path": one.paths, "split": one.splits}).dropna() for one in splits]
        or [pd.DataFrame({"path": [], "split": []})]
    ).drop_duplicates()
    found.has_split = bool(chosen)
    if not chosen and not named["path"].duplicated().any():
        return bundles
    if not chosen:
        found.notes.append(
            f"The lists {few([one.name for one in splits], 3)} divide the pictures in different "
            f"ways, and none of them is used; split={splits[0].files[0]} uses that one and those "
            "that go with it."
        )
    return [
        replace(one, splits=one.splits.map(lambda _: None)) if one in rest else one
        for one in bundles
    ]


def _united(members: list[Named]) -> list[list[Named]]:
    """Tables of the same columns: one that holds what others hold together goes; parts without
    overlap are one.
    """
    kept = list(members)
    for one in sorted(members, key=lambda item: -len(item.pictures)):
        others = [other for other in kept if other is not one]
        inside = [other for other in others if other.pictures <= one.pictures]
        if (
            one.table.split is None
            and len(inside) > 1
            and set().union(*(other.pictures for other in inside)) >= one.pictures
        ):
            kept.remove(one)
    splits = [one.table.split for one in kept]
    total = sum(len(one.pictures) for one in kept)
    apart = len(set().union(*(one.pictures for one in kept))) == total
    if apart or (None not in splits and len(set(splits)) == len(splits)):
        return [kept]
    series: dict[tuple, list[Named]] = defaultdict(list)  # train1 and test1, train2 and test2
    for one in kept:
        words = vocabulary.tokens(one.table.path.rsplit("/", 1)[-1])
        series[tuple(word for word in words if word not in vocabulary.SPLIT_WORDS)].append(one)
    parts = []
    for members in series.values():
        splits = {one.table.split for one in members}
        is_series = None not in splits and len(splits) == len(members)
        parts += [members] if is_series else [[one] for one in members]
    return parts


def _bundle(members: Sequence[Named], options: Options) -> Bundle:
    first = members[0]
    name = (
        few([one.table.path for one in members], 3).replace(", ", " and ")
        if len(members) > 1
        else first.table.path
    )
    keys = {vocabulary.column_key(column): column for column in first.table.frame.columns}
    frames = [first.table.frame] + [
        one.table.frame.rename(
            columns=lambda column: keys.get(vocabulary.column_key(column), column)
        )
        for one in members[1:]
    ]
    frame = pd.concat(frames, ignore_index=True).fillna("")
    paths = pd.concat([one.paths for one in members], ignore_index=True)
    splits = pd.Series(
        [one.table.split for one in members for _ in range(len(one.table.frame))], dtype=object
    )
    wanted = (
        options
        if options.label is None or options.label in frame.columns or len(members)
        else Options()
    )
    try:
        choice = columns.choose_label(frame, first.image, wanted, name=name)
    except DarkroomError as error:
        choice = LabelChoice(question=str(error))
    return Bundle(name, tuple(members), frame, paths, splits, first.image, choice)


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
    unused, notes = labels.unused, [*bundle.notes, *labels.notes]
    if split_column is None and options.split is None and (folds := columns.unread_splits(frame)):
        notes.append(
            f"{few(folds)} in {name} is not read as a split, since its values are none that is "
            "known; split=COLUMN with split_names=VALUE:train,VALUE:test reads it."
        )
    empty = frame[bundle.image] == ""
    unused["no file name in the row"] += int(empty.sum())
    missing = bundle.paths.isna() & ~empty
    unused["missing: the file is not there"] += int(missing.sum())
    if missing.any():
        notes.append(
            f"{int(missing.sum()):,} of {len(frame):,} rows of {name} name a file that is not "
            "there (or several of one name), "
            f"such as {frame.loc[missing, bundle.image].iloc[0]!r}."
        )
    kept = rows[~empty]
    extra = _extra_columns(
        bundle,
        split_column,
        is_listed=options.separator is not None or len(bundle.label.columns) > 1,
    )
    one = _one_row_each(kept, labels.column, options, unused, notes, name)
    table = one.join(extra.loc[one["first_row"]].reset_index(drop=True))
    if (one["lists"].map(len) > 1).any() or options.separator or options.several == "all":
        column = (
            columns.attribute_name(bundle.label.columns[0])
            if len(bundle.label.columns) == 1
            else "attr_classes"
        )
        table[column] = [columns.joined(classes, options.several) for classes in one["lists"]]
        notes.append(f"{column} holds all labels of an image: target = '{column}/all' learns each.")
    table = table.drop(columns=["lists", "first_row"])
    named = set(table["path"])
    unnamed = [file.path for file in pictures if file.path not in named]
    table = pd.concat([table, pd.DataFrame({"path": unnamed}, dtype=object)], ignore_index=True)
    split_text = (
        f"column {split_column} of {name}"
        if split_column
        else f"the names of {name}"
        if one["source_split"].notna().any()
        else None
    )
    without = int(table["label"].isna().sum()) - len(unnamed) - int(missing.sum())
    if without > 0:
        unused["no label in the row"] += without
    return Reading(
        "table",
        table,
        label=labels.column,
        split=split_text,
        rows_not_used=unused,
        files_not_used=Counter({f"unlabelled: not named in {name}": len(unnamed)}),
        notes=tuple(notes),
        options={"kind": "table"} | _pinned(bundle),
        tables=bundle.files,
    )


def _sentence(question: str) -> str:
    text = question if question.endswith(("?", ".")) else question + "."
    return text[0].upper() + text[1:]


def _pinned(bundle: Bundle) -> dict[str, str]:
    pinned = (
        {"table": bundle.members[0].table.path}
        if len(bundle.members) == 1 and not bundle.members[0].table.annotations
        else {}
    )
    return pinned | ({"label": bundle.label.columns[0]} if len(bundle.label.columns) == 1 else {})


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


def _extra_columns(bundle: Bundle, split_column: str | None, *, is_listed: bool) -> pd.DataFrame:
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


def _one_row_each(
    rows: pd.DataFrame,
    column: str,
    options: Options,
    unused: Counter[str],
    notes: list[str],
    name: str,
) -> pd.DataFrame:
    """One row a picture: `path`, `lists` (its classes in the order of the rows), `label`,
    `source_split`, `first_row`.
    """
    first = rows.drop_duplicates("path").copy()
    first["first_row"] = first.index
    again = rows[rows.duplicated("path")]
    repeated = rows[rows["path"].isin(set(again["path"]))]
    merged = repeated.groupby("path", sort=False)["lists"].agg(
        lambda lists: list(dict.fromkeys(sum(lists, [])))
    )
    own = first.set_index("path")["lists"].map(lambda classes: list(dict.fromkeys(classes)))
    own.update(merged)
    lists = own.reindex(first["path"]).reset_index(drop=True)
    rank = rows["split"].map({"test": 3, "val": 2, "train": 1}).fillna(0)
    best = (
        rows.assign(rank=rank)
        .groupby("path", sort=False)["rank"]
        .agg(["max", "nunique"])
        .reindex(first["path"])
    )
    astray = int((best["nunique"] > 1).sum())
    if astray:
        notes.append(
            f"{astray:,} pictures are in several splits of {name}; each counts for test before val "
            "before train."
        )
    result = pd.DataFrame(
        {
            "path": first["path"].to_numpy(),
            "lists": lists.to_numpy(),
            "first_row": first["first_row"].to_numpy(),
            "source_split": best["max"]
            .map({3: "test", 2: "val", 1: "train"})
            .astype(object)
            .to_numpy(),
        }
    )
    result["source_split"] = result["source_split"].where(result["source_split"].notna(), None)
    several = _several(result, again, merged, rows, column, options, unused, notes, name)
    result["label"] = [columns.one_label(classes, several) for classes in result["lists"]]
    return result[["path", "label", "source_split", "lists", "first_row"]]


def _several(
    result: pd.DataFrame,
    again: pd.DataFrame,
    merged: pd.Series,
    rows: pd.DataFrame,
    column: str,
    options: Options,
    unused: Counter[str],
    notes: list[str],
    name: str,
) -> str:
    """Decides what becomes of pictures with several classes, and counts the rows that say so."""
    first = rows.drop_duplicates("path").set_index("path")["lists"]
    other = sum(
        not set(classes) <= set(first[path])
        for path, classes in zip(again["path"], again["lists"], strict=True)
    )
    conflicts = int((result["lists"].map(len) > 1).sum())
    share = conflicts / max(1, len(result))
    several = options.several or ("first" if options.separator else None)
    if conflicts and several is None and share > columns.FEW_CONFLICTS:
        rows_text = (
            f"{other:,} rows of {name} name an image again with another label, so that"
            if other
            else f"By {column}"
        )
        example = next(classes for classes in result["lists"] if len(classes) > 1)
        raise DarkroomError(
            f"{rows_text} {conflicts:,} of {len(result):,} images have several labels, such as "
            f"{' and '.join(example[:3])}. Say "
            "several=all (each is learned), several=first, several=last, several=join (a class of "
            "its own) or several=drop (no label)."
        )
    several = several or "drop"
    if other:
        unused["names an image again with another label"] += (
            other if several not in ("join", "all") else 0
        )
        notes.append(
            f"{other:,} rows of {name} name an image again with another label ({conflicts:,} "
            f"images); several={several}: "
            f"{_SEVERAL[several]}."
        )
    elif conflicts:
        notes.append(f"{conflicts:,} images have several labels; several={several}.")
    same = len(again) - other
    if same:
        notes.append(f"{same:,} rows of {name} name an image again with the same label.")
    return several
