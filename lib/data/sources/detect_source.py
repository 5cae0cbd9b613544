"""Chooses how to read a folder; if several ways are plausible, asks which option decides."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lib.data import decode, groups
from lib.data.file_listing import ListedFile
from lib.data.sources import (
    annotation_files,
    columns,
    folders,
    table_files,
    table_source,
    vocabulary,
)
from lib.data.sources.options import Options
from lib.data.sources.reading import Reading, class_counts
from lib.data.sources.table_source import Bundle, Tables
from lib.errors import DarkroomError, few

_NAME_ID = re.compile(r"^([A-Za-z]*[-_ ]?\d+)")
MOST_OPENED = 5000
ENOUGH_AGREEMENT = 0.98


@dataclass(frozen=True)
class Listing:
    """The files of a folder, parted: pictures, other files, and those in hidden folders."""

    pictures: list[ListedFile]
    others: list[ListedFile]
    hidden: list[ListedFile]
    ignored: int = 0


def part(
    files: Sequence[ListedFile], options: Options, looks_like_picture: Callable[[str], bool]
) -> Listing:
    """Returns the files parted by their names; only those whose ending says nothing are opened."""
    pictures, others, hidden, ignored, opened = [], [], [], 0, 0
    for file in files:
        ending = _ending(file.path)
        if options.ignored and _is_below(file.path, options.ignored):
            ignored += 1
        elif file.problem == "hidden":
            hidden.append(file)
        elif ending in vocabulary.PICTURE_ENDINGS:
            pictures.append(file)
        elif ending in vocabulary.OTHER_ENDINGS:
            others.append(file)
        else:
            opened += 1
            is_taken = opened > MOST_OPENED or file.problem is not None
            is_picture = is_taken or looks_like_picture(file.path)
            (pictures if is_picture else others).append(file)
    return Listing(pictures, others, hidden, ignored)


def _is_below(path: str, folders: frozenset[str]) -> bool:
    parts = path.split("/")[:-1]
    return any(name in parts or path.startswith(name + "/") for name in folders)


def _ending(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return name.rpartition(".")[2].lower() if "." in name else ""


def read(raw: Path, listing: Listing, options: Options) -> Reading:
    """Returns how the folder is read. Raises DarkroomError where no reading or several make sense,
    with the reason.
    """
    _refuse_links(raw, listing)
    if (options.label or "").partition(":")[0] == "name":
        reading = _by_name(listing.pictures, options)
    else:
        reading = _by_folder_or_table(raw, listing, options)
    reading = _merge_names(_with_class_names(raw, reading, listing, options), options)
    reading = _with_groups(reading, options)
    return _with_rest(raw, reading, listing, options)


def _by_folder_or_table(raw: Path, listing: Listing, options: Options) -> Reading:
    want_folders = options.kind == "folders" or options.level is not None
    want_table = options.kind == "table" or (
        not want_folders and (options.table or options.image or options.label)
    )
    by_folder, question = ([], "") if want_table else folders.read(listing.pictures, options)
    given = table_source.find(raw, [*listing.others, *listing.pictures], listing.pictures, options)
    options = replace(options, split=None) if given.has_split else options
    if want_folders:
        if question:
            raise DarkroomError(_question(question, []))
        if not by_folder:
            raise DarkroomError(
                f"No folder level of the {len(listing.pictures):,} pictures gives two classes or "
                "more; say kind=table, or give the folder above the class folders."
            )
        return _with_tables(by_folder[0], given, options, may_label=True)
    has_folders = bool(by_folder or question)
    if not options.table and (want_table or not has_folders):
        given = table_source.with_class_lists(given, options)
    labelled = given.labelled
    if has_folders and given.ambiguous and not labelled:
        path, why = next(iter(given.ambiguous.items()))
        raise DarkroomError(
            f"The table {path} is beside the folders, and {why}; or say kind=folders to read the "
            "folders alone."
        )
    if want_table or (labelled and not has_folders):
        return _only_table(given, listing, options)
    if not has_folders:
        raise DarkroomError(_why_not(raw, listing, given))
    certain = [bundle for bundle in labelled if bundle.label.known]
    telling = [bundle for bundle in labelled if bundle.label.columns]
    agreeing = [
        reading for reading in by_folder if any(_agrees(reading, one, options) for one in telling)
    ]
    if len(agreeing) == 1:
        chosen = _pinned(agreeing[0]) if question else agreeing[0]
        return _with_tables(chosen, given, options, may_label=True)
    if question:
        raise DarkroomError(_question(question, certain))
    _refuse_contradiction(by_folder[0], telling)
    return _with_tables(by_folder[0], given, options, may_label=False)


def _pinned(reading: Reading) -> Reading:
    """The reading with its level among the options, so that reading again asks nothing."""
    level = reading.label.rsplit(" ", 1)[-1]
    pinned = {"level": level} if level.isdigit() else {}
    return reading.noting(options=reading.options | pinned)


def _question(question: str, certain: list[Bundle]) -> str:
    ways = [f"kind=table takes column {one.label.columns[0]} of {one.name}" for one in certain]
    return (
        f"The folders can be read in more than one way: {'; '.join([question, *ways])}. Choose by "
        "one of these options."
    )


def _refuse_contradiction(reading: Reading, certain: list[Bundle]) -> None:
    """A table beside class folders is attributes, unless its column is called label or the like, or
    it is a list of files and classes, and says something else.
    """
    for bundle in certain:
        names = bundle.label.columns
        plain = vocabulary.PLAIN_LABELS | {"column_2"}
        if len(names) == 1 and vocabulary.column_key(names[0]) in plain:
            values = bundle.frame[names[0]]
            counts = class_counts(values[values != ""].value_counts(), 4)
            raise DarkroomError(
                f"The folders and {bundle.name} give different labels: kind=folders gives "
                f"{class_counts(reading.counts, 4)}; kind=table takes column {names[0]}, {counts}. "
                "Choose by one of these options."
            )


def _only_table(given: Tables, listing: Listing, options: Options) -> Reading:
    named = given.asked or given.bundles
    bundles = given.labelled or (named if options.label else [])
    if not bundles:
        why = "; ".join(map(_without_label, named)) if given.bundles else given.reasons()
        raise DarkroomError(
            f"No table gives the {len(listing.pictures):,} pictures a label"
            + (f": {why}." if why else "; there is none.")
        )
    certain = [bundle for bundle in bundles if bundle.label.known and not bundle.label.question]
    bundles = certain or bundles
    largest = max(bundles, key=lambda bundle: len(bundle.pictures))
    rivals = (one for one in given.labelled if one not in bundles and _has_words_of(one, largest))
    bundles = [*bundles, *rivals]
    if not all(_repeats(other, largest) for other in bundles):
        listed = "; ".join(
            f"table={bundle.members[0].table.path} names {len(bundle.pictures):,} pictures"
            for bundle in bundles[:6]
        )
        raise DarkroomError(f"Several tables give labels: {listed}. Choose one of them.")
    reading = table_source.read(largest, listing.pictures, options)
    _refuse_few_named(reading, largest, given, options)
    others = [bundle for bundle in given.bundles if bundle is not largest]
    return _with_tables(
        reading, replace(given, bundles=others), options, may_label=False, own=largest
    )


def _refuse_few_named(reading: Reading, bundle: Bundle, given: Tables, options: Options) -> None:
    """Asks where most pictures would have no label, and neither a folder nor a table says that they
    are test pictures.
    """
    if options.kind == "table" or options.table:
        return
    labelled = reading.rows["label"].notna()
    named = bundle.pictures.union(*(one.pictures for one in given.bundles if not one.label))
    open_paths = [
        path
        for path in reading.rows.loc[~labelled, "path"]
        if path not in named and table_files.split_of_path(path) != "test"
    ]
    if len(open_paths) > labelled.sum():
        raise DarkroomError(
            f"{bundle.name} labels {int(labelled.sum()):,} pictures, and {len(open_paths):,} "
            f"others, such as {open_paths[0]}, would have no label. Say kind=table to use the "
            "labelled ones alone, or give the table or folder that says more."
        )


def _without_label(bundle: Bundle) -> str:
    counts = [
        f"{column} ({values.nunique():,} values)"
        for column, values in bundle.frame.drop(columns=bundle.image).items()
    ]
    return f"{bundle.name} names the pictures but has no column that can be a label" + (
        f": {few(counts, 12)}; say label=COLUMN" if counts else ""
    )


def _has_words_of(other: Bundle, largest: Bundle) -> bool:
    """Whether a table's only label column has no other words than that of `largest`."""
    pairs = [(one.frame, one.label.columns) for one in (other, largest)]
    if any(len(columns) != 1 for _, columns in pairs):
        return False
    own, known = (set(frame[columns[0]]) for frame, columns in pairs)
    return own <= known


def _repeats(other: Bundle, largest: Bundle) -> bool:
    """Whether a table gives only pictures of `largest` a label, and the same one."""
    if other is largest:
        return True
    names = largest.label.columns, other.label.columns
    if [len(columns) for columns in names] != [1, 1] or not other.pictures <= largest.pictures:
        return False
    label = dict(zip(largest.paths, largest.frame[names[0][0]], strict=True))
    pairs = zip(other.paths, other.frame[names[1][0]], strict=True)
    return all(label.get(path) == cell for path, cell in pairs if path)


# -- Folders and tables together


def _label_pairs(
    rows: pd.DataFrame, bundle: Bundle, options: Options
) -> tuple[pd.Series, pd.DataFrame]:
    """The label that a table gives each path, and how often it stands for which label of the rows
    (`own`, `table`, `count`), the most frequent first.
    """
    several = replace(options, several=options.several or "first")
    lists = columns.label_lists(bundle.frame, bundle.label, several, name=bundle.name).lists
    is_one = bundle.paths.notna() & (lists.map(len) == 1)
    labels = lists[is_one].str[0].set_axis(bundle.paths[is_one])
    labels = labels[~labels.index.duplicated(keep="last")]
    own = rows.set_index("path")["label"].reindex(labels.index)
    pairs = pd.DataFrame({"own": own, "table": labels}).dropna().value_counts()
    return labels, pairs.reset_index()


def _agrees(reading: Reading, bundle: Bundle, options: Options) -> bool:
    """Whether the table says the same as the folders, perhaps in other words, or labels only what
    they leave open.
    """
    labels, pairs = _label_pairs(reading.rows, bundle, options)
    if pairs.empty:
        unlabelled = reading.rows.loc[reading.rows["label"].isna(), "path"]
        fills = bool(unlabelled.isin(labels.index).any())
        return fills and set(labels) <= set(reading.counts.index)
    best = pairs.drop_duplicates("own")
    enough = ENOUGH_AGREEMENT * pairs["count"].sum()
    return best["table"].is_unique and bool(best["count"].sum() >= enough)


def _with_tables(
    reading: Reading, given: Tables, options: Options, *, may_label: bool, own: Bundle | None = None
) -> Reading:
    """Adds what tables say beside the label: attributes, splits, groups, and labels that the
    folders leave open.
    """
    rows, notes, used = reading.rows, [*given.notes], list(reading.tables)
    split = reading.split
    for bundle in given.bundles:
        paths = bundle.paths.dropna().drop_duplicates()
        if not paths.isin(rows["path"]).any():
            continue
        frame = bundle.frame.loc[paths.index].set_axis(paths)
        notes += bundle.notes
        used += bundle.files
        agrees = bool(bundle.label.columns) and _agrees(reading, bundle, options)
        unlabelled = rows["label"].isna() & rows["path"].isin(bundle.pictures)
        if reading.kind == "folders" and bundle.label.columns and not agrees and unlabelled.any():
            notes.append(
                f"{bundle.name} gives labels to {int(unlabelled.sum()):,} pictures that are in no "
                "class folder, but not by the names of the folders, so they have no label."
            )
        if may_label and agrees:
            rows, number = _fill_labels(rows, bundle, options)
            if number:
                notes.append(
                    f"{number:,} pictures in no class folder have their label from {bundle.name}."
                )
                reading = reading.noting(label=f"{reading.label} and {bundle.name}")
        by_name = bundle.splits.loc[paths.index].set_axis(paths)
        rows, split, column = _fill_splits(rows, split, bundle, frame, by_name, options)
        is_class_list = set(bundle.frame[bundle.image]) == set(rows["label"].dropna())
        if bundle.members[0].table.has_header and not is_class_list:
            rows = _fill_attributes(rows, bundle, frame.drop(columns=[column] if column else []))
    idle = [
        f"{path} ({why})"
        for path, why in given.useless.items()
        if table_files.has_ending(path) or "several times" in why
    ]
    if idle:
        notes.append(f"Tables that are not used: {few(idle, 4)}.")
    reading = reading.noting(*notes, rows=rows, split=split, tables=tuple(used))
    reading = _splits_of_paths(reading, options)
    everything = [bundle for bundle in (own, *given.bundles) if bundle is not None]
    return _groups_of_tables(reading, everything, options)


def _fill_labels(rows: pd.DataFrame, bundle: Bundle, options: Options) -> tuple[pd.DataFrame, int]:
    """The rows with labels of pictures in no class folder that the table names, in the folders'
    words, and how many these are.
    """
    labels, pairs = _label_pairs(rows, bundle, options)
    meaning = pairs.drop_duplicates("table").set_index("table")["own"]
    label = rows["path"].map(labels.map(lambda name: meaning.get(name, name)))
    empty = rows["label"].isna() & label.notna()
    return rows.assign(label=rows["label"].where(~empty, label)), int(empty.sum())


def _fill_splits(
    rows: pd.DataFrame,
    split: str | None,
    bundle: Bundle,
    frame: pd.DataFrame,
    by_name: pd.Series,
    options: Options,
) -> tuple[pd.DataFrame, str | None, str | None]:
    """The rows with the splits that a table gives by a column or by its name, where they come from,
    and the column.
    """
    if options.split == "none" or (options.split or "").startswith("level"):
        return rows, split, None
    wanted = options if options.split in bundle.frame.columns else replace(options, split=None)
    column, values = columns.read_split(frame, wanted, name=bundle.name)
    given = rows["path"].map((by_name if values is None else values).to_dict())
    own = rows["source_split"].where(rows["source_split"].notna(), None)
    differ = given.notna() & own.notna() & (given != own)
    if differ.any() and column is not None:
        if options.split != column:
            raise _contradiction(f"{bundle.name}", rows, differ, f"split={column}")
        own = own.where(~differ, given)
    added = given.notna() & own.isna()
    rows = rows.assign(source_split=own.where(~added, given))
    if not added.any():
        return rows, split, column
    text = f"column {column} of {bundle.name}" if column else f"the names of {bundle.name}"
    return rows, f"{split} and {text}" if split else text, column


def _contradiction(what: str, rows: pd.DataFrame, differ: pd.Series, way: str) -> DarkroomError:
    return DarkroomError(
        f"The folders and {what} give {int(differ.sum()):,} pictures different splits, such as "
        f"{rows.loc[differ, 'path'].iloc[0]}; say {way}, or split=none."
    )


def _fill_attributes(rows: pd.DataFrame, bundle: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of a table beside the label, as `attr_*`; none that repeats the label, the split or
    the file's name.
    """
    box_columns = columns.box_columns(bundle.frame)
    label, added = rows["label"].where(rows["label"].notna(), ""), {}
    for column in frame.columns.difference([bundle.image, *box_columns], sort=False):
        name = columns.attribute_name(column)
        text = rows["path"].map(frame[column].to_dict()).fillna("").astype(object)
        is_empty = (text[rows["label"].notna()] == "").all()
        if not (name in rows or name in added or is_empty or columns.is_bijection(text, label)):
            added[name] = columns.attribute(text)
    if box_columns and "box_left" not in rows and bundle.paths.dropna().is_unique:
        boxes = columns.boxes(bundle.frame).set_axis(bundle.paths)
        added |= {name: rows["path"].map(boxes[name].to_dict()) for name in boxes}
    return rows.assign(**{name: values.to_numpy() for name, values in added.items()})


def _splits_of_paths(reading: Reading, options: Options) -> Reading:
    """The split that folders tell where the label comes from a table and nothing else tells it."""
    rows = reading.rows
    if options.split and options.split.startswith("level"):
        number = re.fullmatch(r"level\s*(\d+)", options.split)
        if not number:
            raise DarkroomError(
                f"`split` is a column, `level N` or `none`. Received: {options.split!r}."
            )
        at = int(number[1]) - 1
        names = rows["path"].map(lambda path: (path.split("/")[:-1] + [""] * (at + 1))[at])
        splits = names.map(folders.splits(set(names), options)).astype(object)
        return reading.noting(rows=rows.assign(source_split=splits), split=f"folder level {at + 1}")
    if reading.kind != "table" or options.split == "none":
        return reading
    from_path, own = rows["path"].map(table_files.split_of_path), rows["source_split"]
    labelled = rows["label"].notna()
    if from_path[labelled].isna().mean() > 0.05 or not labelled.any():
        return reading
    differ = labelled & from_path.notna() & own.notna() & (from_path != own)
    if differ.any() and options.split is None and "column" in (reading.split or ""):
        way = "split=COLUMN, split=level N (of the folders)"
        raise _contradiction(f"the {reading.split}", rows, differ, way)
    if reading.split is not None and own[labelled].notna().all():
        return reading
    filled = own.where(own.notna(), from_path)
    return reading.noting(
        rows=rows.assign(source_split=filled), split=reading.split or "the folders"
    )


# -- Names of classes, names of files, groups


def _by_name(pictures: Sequence[ListedFile], options: Options) -> Reading:
    """The label from the start of the file's name; splits from the folders."""
    pattern = options.label.partition(":")[2]
    paths = pd.Series([file.path for file in pictures], dtype=object)
    label = paths.map(lambda path: _name_part(path, pattern)).astype(object)
    split = paths.map(table_files.split_of_path if options.split != "none" else lambda _: None)
    rows = pd.DataFrame({"path": paths, "label": label, "source_split": split.astype(object)})
    return Reading(
        "names",
        rows.assign(unused="name does not fit the pattern"),
        label=f"file name ({pattern})" if pattern else "the start of the file name",
        split="the folders" if split[label.notna()].notna().any() else None,
        options={"label": options.label},
    )


def _name_part(path: str, pattern: str) -> str | None:
    """The part of a file's name that a pattern matches; without one, the name up to its number, as
    `cat` of `cat.0.jpg`.
    """
    name = path.rsplit("/", 1)[-1]
    if pattern:
        match = re.search(pattern, name)
        return (match[1] if match.re.groups else match[0]) or None if match else None
    stem = name.rpartition(".")[0] or name
    match = re.fullmatch(r"(.*?[^\W\d_])[-_. ]*\(?\d[\d\W_]*", stem)
    return match[1] if match else None


def _with_class_names(raw: Path, reading: Reading, listing: Listing, options: Options) -> Reading:
    """Numbered classes by the names of a list that lies there, such as classes.txt."""
    labels = {label: int(label) for label in reading.counts.index if label.isdigit()}
    if options.names == "keep" or len(labels) < len(reading.counts):
        return reading
    for path, names in annotation_files.class_lists(raw, listing.others):
        meaning = {label: names.get(number) for label, number in labels.items()}
        is_exact = len(labels) == len(names) == len({*meaning.values(), None}) - 1
        if is_exact and (path not in reading.tables or path.endswith(".json")):
            listed = few([f"{label} = {name}" for label, name in sorted(meaning.items())], 4)
            return reading.noting(
                f"The numbers of the classes have their names from {path} ({listed}); names=keep "
                "leaves the numbers.",
                rows=reading.rows.assign(
                    label=reading.rows["label"].map(meaning, na_action="ignore")
                ),
                tables=(*reading.tables, path),
            )
    return reading


def _merge_names(reading: Reading, options: Options) -> Reading:
    """Class names that are certainly the same become one; those that a reader takes for the same
    are asked for.
    """
    counts = reading.counts
    plain: dict[str, Counter[str]] = defaultdict(Counter)
    for name, number in counts.items():
        plain[vocabulary.plain_name(name)][name] += number
    meaning = {name: one for one, members in plain.items() for name in members}
    alike: dict[str, Counter[str]] = defaultdict(Counter)
    for one, members in plain.items():
        alike[vocabulary.skeleton(one)][one] += sum(members.values())
    asked, merged = [], [[*members] for members in plain.values() if len(members) > 1]
    for members in alike.values():
        if len(members) < 2 or options.names == "keep":
            continue
        by_case = len({vocabulary.plain_name(name).casefold() for name in members}) == 1
        if options.names == "merge" or (by_case and min(map(len, members)) > 2):
            best = max(members, key=lambda name: (members[name], name == name.lower(), name))
            merged.append([*members])
            meaning.update({name: best for name, one in meaning.items() if one in members})
        else:
            asked.append(" and ".join(sorted(map(repr, members))))
    if asked:
        raise DarkroomError(
            f"Are these the same classes: {few(asked, 5)}? Say names=merge to unite them, or "
            "names=keep to leave them apart."
        )
    equal = few([" = ".join(sorted(map(repr, names))) for names in merged], 6)
    note = (
        f"{len(counts):,} names are {len(set(meaning.values())):,} classes: {equal} differ only in "
        "case, spaces or Unicode form; names=keep leaves them apart."
    )
    label = reading.rows["label"].map(lambda name: meaning.get(name, name)).astype(object)
    return reading.noting(note if merged else "", rows=reading.rows.assign(label=label))


def _with_groups(reading: Reading, options: Options) -> Reading:
    """Groups by the option `group`, or by the names that Roboflow gives to augmented copies."""
    rows = reading.rows
    if options.group == "none":
        return reading.noting(rows=rows.assign(source_group=None), group=None)
    if options.group is None:
        return reading if reading.group else _group_folders(_group_copies(reading))
    parts = [options.group]
    if not options.group.startswith("name:"):
        parts = [part.strip() for part in options.group.split("+") if part.strip()]
    keys, texts = zip(*(_group_key(rows, wanted) for wanted in parts), strict=True)
    group = groups.named(keys)
    if group.nunique() < 2:
        raise DarkroomError(
            f"`group`={options.group} puts all pictures into one group, since they are linked by "
            "common values; choose fewer columns."
        )
    open_files = int((group.isna() & rows["label"].notna()).sum())
    note = f"{open_files:,} pictures have no group; each is one of its own." if open_files else ""
    return reading.noting(note, rows=rows.assign(source_group=group), group=" + ".join(texts))


def _group_folders(reading: Reading) -> Reading:
    """Groups by folders such as `patient_3` where the label does not come from the folders."""
    names = reading.rows.loc[reading.rows["label"].notna(), "path"].str.split("/").str[:-1]
    has_groups = reading.kind == "folders" or reading.group or names.empty
    for at in range(0 if has_groups else names.map(len).min()):
        own = names.str[at]
        if own.nunique() > 2 and own.duplicated().any() and all(map(folders.is_group, own)):
            group, text = _group_key(reading.rows, f"level {at + 1}")
            note = f"Pictures in one {text} stay in one split; group=none takes each by itself."
            return reading.noting(note, rows=reading.rows.assign(source_group=group), group=text)
    return reading


def _group_copies(reading: Reading) -> Reading:
    """Groups by the names of augmented copies: Roboflow's `a.rf.3f0c….jpg`, or `a_aug1.png` beside
    `a.png`.
    """
    stems = reading.rows["path"].str.rpartition(".")[0]
    if stems.str.contains(r"\.rf\.[0-9a-f]{16,}$", regex=True).mean() > 0.5:
        origin = stems.str.rsplit("/", n=1).str[-1].str.split(".rf.", regex=False).str[0]
        text = "file name before .rf. (augmented copies)"
    else:
        original = stems.str.extract(f"^{vocabulary.COPY_SUFFIX.pattern}$", re.IGNORECASE)[0]
        origin = stems.where(~original.isin(set(stems)), original)
        if (origin != stems).mean() < 0.1:
            return reading
        text = "file name before _aug, _flip or the like (augmented copies)"
    if not origin.duplicated().any():
        return reading
    return reading.noting(rows=reading.rows.assign(source_group=origin), group=text)


def _group_key(rows: pd.DataFrame, wanted: str) -> tuple[pd.Series, str]:
    """The group of each row by a folder level, a part of the file name or a column, and the words
    for it.
    """
    level, pattern = re.fullmatch(r"level\s*(\d+)", wanted), wanted.partition(":")[2]
    column = columns.attribute_name(wanted)
    if level:
        at, text = int(level[1]), f"folder {wanted}"
        folders_above = rows["path"].str.split("/").str[:-1]
        keys = folders_above.str[:at].str.join("/").where(folders_above.str.len() >= at)
    elif wanted.partition(":")[0] == "name":
        keys = rows["path"].map(lambda path: _name_part(path, pattern))
        text = f"file name ({pattern})" if pattern else "the start of the file name"
    elif column in rows:
        keys = groups.in_one_spelling(rows[column].map(str, na_action="ignore").astype(object))
        text = f"column {wanted}"
    else:
        known = [name.removeprefix("attr_") for name in rows.columns if name.startswith("attr_")]
        raise DarkroomError(
            f"`group` takes a column ({few(known, 12)}), `level N` or `name:REGEX`. Received: "
            f"{wanted!r}."
        )
    if keys.nunique() < 2:
        raise DarkroomError(
            f"`group`={wanted} puts all pictures into "
            f"{'one group' if keys.nunique() else 'no group'}; choose another."
        )
    return keys.astype(object).where(keys.notna(), None), text


def _groups_of_tables(reading: Reading, bundles: Sequence[Bundle], options: Options) -> Reading:
    """Groups by columns such as `patient`."""
    if options.group is not None or reading.group is not None:
        return reading
    certain = []
    for bundle in bundles:
        frame = bundle.frame.drop(columns=[bundle.image, *bundle.label.columns])
        names = columns.automatic_groups(frame, bundle.paths)
        certain += [name for name in names if columns.attribute_name(name) in reading.rows]
    certain = [*dict.fromkeys(certain)]
    if not certain:
        return reading
    group = groups.named([_group_key(reading.rows, name)[0] for name in certain])
    if group.value_counts().iloc[0] * 2 > len(group):
        return reading
    note = (
        f"Pictures with the same {' or '.join(certain)} stay in one split; group=none takes each "
        "picture by itself."
    )
    text = " + ".join(f"column {name}" for name in certain)
    return reading.noting(note, rows=reading.rows.assign(source_group=group), group=text)


# -- The rest


def _with_rest(raw: Path, reading: Reading, listing: Listing, options: Options) -> Reading:
    """Counts the files that are no pictures or hidden; those that are no pictures but lie in a
    class folder are judged, too.
    """
    rows, notes = reading.rows, []
    unused = Counter(rows.loc[rows["label"].isna(), "unused"].dropna())
    rows, inside = rows.drop(columns="unused"), []
    if reading.kind == "folders":
        folder = rows["path"].str.rpartition("/")[0]
        known = rows[["label", "source_split"]].set_axis(folder)
        known = known[~known.index.duplicated(keep="last")].dropna(subset="label")
        above = {file.path: file.path.rpartition("/")[0] for file in listing.others}
        inside = [path for path in above if above[path] in known.index and _is_picture(raw / path)]
        more = known.loc[[above[path] for path in inside]].assign(path=inside)
        rows = pd.concat([rows, more], ignore_index=True) if inside else rows
    for file in listing.others:
        if file.path not in inside and file.path not in reading.tables:
            ending = _ending(file.path)
            unused[f"no picture (.{ending})" if ending else "no picture"] += 1
    for file in listing.hidden:
        above = file.path.split("/")[:-1]
        folder = next((part for part in above if part.startswith(".")), None)
        unused[f"in the hidden folder {folder}" if folder else "the name starts with a dot"] += 1
    if listing.hidden:
        notes.append(
            f"{len(listing.hidden):,} files have a name, or a folder, that begins with a dot, and "
            "are not used; hidden=use reads them."
        )
    shut = [
        f"{file.path} ({kind})"
        for file in listing.others
        if file.path not in reading.tables and (kind := _kind_of_closed(file.path))
    ]
    if shut:
        notes.append(f"Not read: {few(shut, 4)}; unpack it, or save it as CSV.")
    if listing.ignored:
        unused["left out by ignore="] += listing.ignored
    rows = rows.assign(
        **{name: None for name in ("source_split", "source_group") if name not in rows}
    )
    notes += _split_notes(rows)
    if options.group != "none":
        notes += _group_notes(rows, reading.group)
    if links := sum(map(_leads_out, listing.pictures)):
        notes.append(
            f"{links:,} links lead out of the folder and are not followed; links=follow reads them."
        )
    return reading.noting(*notes, rows=rows, files_not_used=unused)


def _kind_of_closed(path: str) -> str | None:
    """What a file is that may hold pictures or labels and is not opened."""
    is_archive = path.lower().endswith(vocabulary.ARCHIVES) and not table_files.has_ending(path)
    kind = table_files.FOREIGN.get(_ending(path))
    return "an archive" if is_archive else kind if kind != "an XML file" else None


def _is_picture(path: Path) -> bool:
    """Whether a file whose name promises none is a picture; others may begin like some formats."""
    return decode.kind_of_file(path) not in (None, "PPM", "BMP", "ICO", "SVG")


def _leads_out(file: ListedFile) -> bool:
    return file.problem in ("link_folder", "link_outside")


def _split_notes(rows: pd.DataFrame) -> list[str]:
    """Classes that only some splits have."""
    labelled = rows[rows["label"].notna() & rows["source_split"].notna()]
    by_split = {split: set(part["label"]) for split, part in labelled.groupby("source_split")}
    notes = []
    for name in sorted(set(rows["label"].dropna())):
        where = [split for split in ("train", "val", "test") if name in by_split.get(split, ())]
        lacks = "train" not in where or ("test" in by_split and "test" not in where)
        if 0 < len(where) < len(by_split) and lacks:
            notes.append(f"{name!r} is in {' and '.join(where)} only")
    return [f"Classes that not every split has: {few(notes, 8)}."] if notes else []


def _group_notes(rows: pd.DataFrame, group: str | None) -> list[str]:
    """Columns that may be groups and are not used, and classes of so few groups that no split into
    train, validation and test holds them.
    """
    names = re.findall(r"column (.+?)(?: \+|$)", group or "")
    labelled = rows[rows["label"].notna()]
    used = [columns.attribute_name(name) for name in names]
    for name in rows.columns:
        is_id = vocabulary.ID_WORDS & {*vocabulary.tokens(name)}
        same = name.startswith("attr_") and columns.is_bijection(labelled[name], labelled["label"])
        if same and not is_id:
            used.append(name)  # the label in other words
    possible = [f"{name} ({n:,} values)" for name, n, _ in groups.repeating(rows, grouped=used)]
    notes = []
    if group is None and (ids := _name_ids(rows)):
        notes.append(
            f"File names begin with ids that repeat, such as {few(ids, 2)}: "
            f"group=name:{_NAME_ID.pattern} keeps the pictures of one id in one split."
        )
    if possible:
        notes.append(
            f"Values of {few(possible, 4)} repeat: group=COLUMN keeps pictures that share one in "
            "one split."
        )
    if rows["source_group"].isna().all():
        return notes
    alone = labelled["source_group"].isna().groupby(labelled["label"]).sum()
    numbers = labelled.groupby("label")["source_group"].nunique() + alone
    few_groups = [f"{label} {number:,}" for label, number in numbers.items() if number < 3]
    if few_groups:
        notes.append(
            f"Classes of fewer than three groups: {few(few_groups)}. They cannot be in train, "
            "validation and test at once; group=none, or other groups, divides their pictures."
        )
    return notes


def _name_ids(rows: pd.DataFrame) -> list[str]:
    """The ids at the start of names such as `P01_003.png`, where they are many and repeat."""
    names = rows.loc[rows["label"].notna(), "path"].str.rsplit("/", n=1).str[-1]
    ids = names.str.extract(_NAME_ID.pattern + r"[-_ ]+[A-Za-z]*[-_ ]?\d", expand=False).dropna()
    counts = ids.value_counts()
    if len(ids) < 0.9 * len(names) or len(counts) <= max(2, 1.5 * rows["label"].nunique()):
        return []
    is_repeating = counts.median() >= 2 and counts.iloc[0] * 4 <= len(ids)
    return sorted(counts.index) if is_repeating else []


def _refuse_links(raw: Path, listing: Listing) -> None:
    links = [file for file in (*listing.pictures, *listing.others) if _leads_out(file)]
    if links and len(links) * 2 >= len(listing.pictures):
        raise DarkroomError(
            f"{len(links):,} of the entries in {raw} are links out of the folder, such as "
            f"{links[0].path}, which are not followed; say links=follow, or links=FOLDER to follow "
            "those that lead below that folder."
        )


def _tables_above(raw: Path) -> list[str]:
    """The tables beside the folder, of which it may be the pictures."""
    with contextlib.suppress(OSError), os.scandir(raw.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, MOST_OPENED)]
        return sorted(name for name in names if table_files.has_ending(name))
    return []


def _why_not(raw: Path, listing: Listing, given: Tables) -> str:
    """Why no reading makes sense, in one sentence with the way out."""
    pictures, others = listing.pictures, [file.path for file in listing.others]
    foreign = [
        f"{path} ({table_files.FOREIGN[_ending(path)]})"
        for path in others
        if _ending(path) in table_files.FOREIGN
    ]
    if not pictures:
        archives = [path for path in others if path.lower().endswith(vocabulary.ARCHIVES)]
        videos = sum(path.lower().endswith(vocabulary.VIDEOS) for path in others)
        only, way = "", ""
        if archives:
            only = f"the archives {few(archives, 4)}"
            way = "give one of them, or unpack them first"
        elif videos:
            only, way = f"{videos:,} videos", "write their frames as pictures first"
        elif foreign:
            only = few(foreign, 3)
            way = "write the pictures as files, in a folder for each class"
        if only:
            return f"The folder {raw} holds {only} and no picture; {way}."
        if reasons := given.reasons():
            return f"The folder {raw} holds no picture, and tables that cannot be used: {reasons}."
        hidden = len(listing.hidden)
        also = f"; {hidden:,} files are in hidden folders (hidden=use reads them)" if hidden else ""
        return (
            f"None of the {len(others):,} files in {raw} is an image{also}; expected one folder "
            "for each class with images in it."
        )
    reasons, ways = given.reasons(), []
    if reasons:
        ways.append(f"tables that cannot be used: {reasons}")
    if foreign:
        ways.append(f"not read: {few(foreign, 3)}; save it as CSV")
    unlabelled = [_without_label(bundle) for bundle in given.bundles if not bundle.label]
    ways += unlabelled[:3]
    if above := _tables_above(raw):
        ways.append(
            f"{few(above, 3)} {'lies' if len(above) == 1 else 'lie'} in the folder above; "
            "give that one"
        )
    parts = [file.path.split("/")[:-1] for file in pictures]
    for level in range(1, 1 + max(map(len, parts))):
        own = {part[level - 1] for part in parts if len(part) >= level}
        if len(own) > 1 and all(vocabulary.is_id(name) for name in own):
            ways.append(f"level={level} takes the folders {few(sorted(own), 3)} as classes")
    counts = pd.Series([_name_part(file.path, "") for file in pictures]).value_counts()
    if 1 < len(counts) <= max(2, len(pictures) // 4) and counts.min() > 1:
        ways.append(f"label=name reads the file names, {class_counts(counts, 4)}")
    elif not reasons and not unlabelled:
        ways.append("label=name:REGEX reads a part of the file names")
    names = {file.path.split("/")[0] for file in pictures if "/" in file.path}
    only = (
        "images, but none in a class folder"
        if not names
        else "no folder level with two classes or more"
    )
    if len(names) == 1:
        only = f"only the class {next(iter(names))!r}"
    tail = f" ({'; '.join(ways)})" if ways else ""
    return (
        f"The folder {raw} holds {only}; a classifier needs at least two classes, a folder for "
        f"each or a table with a label for each image{tail}."
    )
