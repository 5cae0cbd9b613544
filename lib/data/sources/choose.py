"""Chooses how to read a folder; if several ways are plausible, asks which option decides."""

# ruff: noqa: SIM905  word lists read best as text
from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lib.data import decode, groups
from lib.data.file_listing import ListedFile
from lib.data.sources import columns, folders, table, tables, vocabulary
from lib.data.sources.options import Options
from lib.data.sources.reading import Reading, class_counts
from lib.data.sources.table import Bundle, Tables
from lib.errors import DarkroomError, few

PICTURE_ENDINGS = frozenset(
    "jpg jpeg jpe jfif mpo png apng gif bmp dib tif tiff webp avif avifs ppm pgm pbm pnm heic heif "
    "jxl jp2 j2k "
    "dcm dicom npy svg psd ico".split()
)
ARCHIVES = (
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".7z",
    ".rar",
    ".tar.zst",
    ".gz",
)
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")
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
        if options.ignored and _is_below(file.path, options.ignored):
            ignored += 1
            continue
        if file.problem == "hidden":
            hidden.append(file)
            continue
        name = file.path.rsplit("/", 1)[-1]
        ending = name.rpartition(".")[2].lower() if "." in name else ""
        if ending in PICTURE_ENDINGS:
            pictures.append(file)
        elif ending in vocabulary.OTHER_ENDINGS:
            others.append(file)
        else:
            opened += 1
            is_picture = (
                opened > MOST_OPENED or file.problem is not None or looks_like_picture(file.path)
            )
            (pictures if is_picture else others).append(file)
    return Listing(pictures, others, hidden, ignored)


def _is_below(path: str, folders: frozenset[str]) -> bool:
    parts = path.split("/")[:-1]
    return any(name in parts or path.startswith(name + "/") for name in folders)


def read(raw: Path, listing: Listing, options: Options) -> Reading:
    """Returns how the folder is read. Raises DarkroomError where no reading or several make sense,
    with the reason.
    """
    _refuse_links(raw, listing)
    if options.label and (options.label == "name" or options.label.startswith("name:")):
        reading = _by_name(listing.pictures, options)
    else:
        reading = _by_folder_or_table(raw, listing, options)
    reading = _merge_names(reading, options)
    reading = _with_groups(reading, options)
    return _with_rest(raw, reading, listing, options)


def _by_folder_or_table(raw: Path, listing: Listing, options: Options) -> Reading:
    want_folders = options.kind == "folders" or options.level is not None
    want_table = options.kind == "table" or (
        not want_folders and (options.table or options.image or options.label)
    )
    question = None
    by_folder: list[Reading] = []
    try:
        by_folder = [] if want_table else folders.read(listing.pictures, options)
    except folders.LayoutQuestion as error:
        question = str(error)
    found = table.find(raw, [*listing.others, *listing.pictures], listing.pictures, options)
    options = replace(options, split=None) if found.has_split else options
    if want_folders:
        _refuse_folders(by_folder, question, listing)
        return _with_tables(by_folder[0], found, options, may_label=True)
    labelled = found.labelled
    if (by_folder or question) and found.ambiguous and not labelled:
        path, why = next(iter(found.ambiguous.items()))
        raise DarkroomError(
            f"The table {path} is beside the folders, and {why}; or say kind=folders to read the "
            "folders alone."
        )
    if want_table or (labelled and not by_folder and not question):
        return _only_table(found, listing, options)
    certain = [bundle for bundle in labelled if bundle.label.known]
    if by_folder or question:
        agreeing = [
            reading
            for reading in by_folder
            if any(_agrees(reading, bundle, options) for bundle in labelled if bundle.label.columns)
        ]
        if len(agreeing) == 1:
            chosen = _pinned(agreeing[0]) if len(by_folder) > 1 else agreeing[0]
            return _with_tables(chosen, found, options, may_label=True)
        if question or len(by_folder) > 1:
            raise DarkroomError(_question(by_folder, question, certain))
        _refuse_contradiction(by_folder[0], certain)
        return _with_tables(by_folder[0], found, options, may_label=False)
    raise DarkroomError(_why_not(raw, listing, found))


def _pinned(reading: Reading) -> Reading:
    """The reading with its level among the options, so that reading again asks nothing."""
    level = reading.label.rsplit(" ", 1)[-1]
    return (
        reading.noting(options=reading.options | {"level": level}) if level.isdigit() else reading
    )


def _refuse_folders(by_folder: list[Reading], question: str | None, listing: Listing) -> None:
    if question or len(by_folder) > 1:
        raise DarkroomError(_question(by_folder, question, []))
    if not by_folder:
        raise DarkroomError(
            f"No folder level of the {len(listing.pictures):,} pictures gives two classes or more; "
            "say kind=table, or give the "
            "folder above the class folders."
        )


def _question(by_folder: list[Reading], question: str | None, certain: list[Bundle]) -> str:
    ways = [question] if question else [folders.question(by_folder)]
    ways += [
        f"kind=table takes column {bundle.label.columns[0]} of {bundle.name}" for bundle in certain
    ]
    listed = "; ".join(ways)
    return (
        f"The folders can be read in more than one way: {listed}. Choose by one of these options."
    )


def _refuse_contradiction(reading: Reading, certain: list[Bundle]) -> None:
    """A table beside class folders is attributes, unless its column is called label or the like and
    says something else.
    """
    plain = vocabulary.LABEL_COLUMNS[0].split()
    for bundle in certain:
        names = bundle.label.columns
        if len(names) == 1 and vocabulary.column_key(names[0]) in plain:
            values = bundle.frame[names[0]]
            counts = class_counts(values[values != ""].value_counts(), 4)
            raise DarkroomError(
                f"The folders and {bundle.name} give different labels: kind=folders gives "
                f"{class_counts(reading.counts, 4)}; "
                f"kind=table takes column {names[0]}, {counts}. Choose by one of these options."
            )


def _only_table(found: Tables, listing: Listing, options: Options) -> Reading:
    bundles = found.labelled or (found.asked or found.bundles if options.label else [])
    if not bundles:
        reasons = (
            found.reasons()
            if not found.bundles
            else "; ".join(_without_label(one) for one in found.asked or found.bundles)
        )
        raise DarkroomError(
            f"No table gives the {len(listing.pictures):,} pictures a label"
            + (f": {reasons}." if reasons else "; there is none.")
        )
    certain = [bundle for bundle in bundles if bundle.label.known and not bundle.label.question]
    bundles = certain or bundles
    if len(bundles) > 1:
        largest = [
            bundle
            for bundle in bundles
            if all(other.pictures <= bundle.pictures for other in bundles)
        ]
        same = len(largest) and all(_same_labels(largest[0], other) for other in bundles)
        if not same:
            listed = "; ".join(
                f"table={bundle.members[0].table.path} names {len(bundle.pictures):,} pictures"
                for bundle in bundles[:6]
            )
            raise DarkroomError(f"Several tables give labels: {listed}. Choose one of them.")
        bundles = largest[:1]
    reading = table.read(bundles[0], listing.pictures, options)
    _refuse_few_named(reading, bundles[0], found, options)
    return _with_tables(
        reading,
        replace(found, bundles=[one for one in found.bundles if one is not bundles[0]]),
        options,
        may_label=False,
        own=bundles[0],
    )


def _refuse_few_named(reading: Reading, bundle: Bundle, found: Tables, options: Options) -> None:
    """Asks where most pictures would have no label, and neither a folder nor a table says that they
    are test pictures.
    """
    if options.kind == "table" or options.table:
        return
    labelled = reading.rows["label"].notna()
    others = set().union(*(one.pictures for one in found.bundles if not one.label))
    open_paths = [
        path
        for path in reading.rows.loc[~labelled, "path"]
        if path not in bundle.pictures | others and tables.split_of_path(path) != "test"
    ]
    if len(open_paths) > labelled.sum():
        raise DarkroomError(
            f"{bundle.name} labels {int(labelled.sum()):,} pictures, and {len(open_paths):,} "
            f"others, such as {open_paths[0]}, would have no label. Say kind=table to use the "
            "labelled ones alone, or give the table or folder that says more."
        )


def _without_label(bundle: Bundle) -> str:
    counts = [
        f"{column} ({bundle.frame[column].nunique():,} values)"
        for column in bundle.frame.columns
        if column != bundle.image
    ]
    return f"{bundle.name} names the pictures but has no column that can be a label" + (
        f": {few(counts, 12)}; say label=COLUMN" if counts else ""
    )


def _same_labels(first: Bundle, other: Bundle) -> bool:
    if first is other:
        return True
    if len(first.label.columns) != 1 or len(other.label.columns) != 1:
        return False
    one = dict(zip(first.paths, first.frame[first.label.columns[0]], strict=True))
    return all(
        one.get(path) == label
        for path, label in zip(other.paths, other.frame[other.label.columns[0]], strict=True)
        if path
    )


# -- Folders and tables together


def _table_labels(bundle: Bundle, options: Options) -> dict[str, str]:
    lists = columns.label_lists(
        bundle.frame,
        bundle.label,
        replace(options, several=options.several or "first"),
        name=bundle.name,
    ).lists
    return {
        path: classes[0]
        for path, classes in zip(bundle.paths, lists, strict=True)
        if path and len(classes) == 1
    }


def _agrees(reading: Reading, bundle: Bundle, options: Options) -> bool:
    """Whether the table says the same as the folders, perhaps in other words, or labels only what
    they leave open.
    """
    labels = _table_labels(bundle, options)
    own = dict(zip(reading.rows["path"], reading.rows["label"], strict=True))
    pairs = Counter(
        (own[path], label) for path, label in labels.items() if own.get(path) is not None
    )
    if not pairs:
        classes = set(reading.rows["label"].dropna())
        return (
            bool(labels)
            and set(labels.values()) <= classes
            and any(own.get(path, "") is None for path in labels)
        )
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    for (one, other), number in pairs.items():
        by_class[one][other] += number
    chosen = {one: others.most_common(1)[0] for one, others in by_class.items()}
    agreed = sum(number for _, number in chosen.values())
    return len({other for other, _ in chosen.values()}) == len(
        chosen
    ) and agreed >= ENOUGH_AGREEMENT * sum(pairs.values())


def _with_tables(
    reading: Reading, found: Tables, options: Options, *, may_label: bool, own: Bundle | None = None
) -> Reading:
    """Adds what tables say beside the label: attributes, splits, groups, and labels that the
    folders leave open.
    """
    rows, notes, used = reading.rows, [*found.notes], list(reading.tables)
    split = reading.split
    for bundle in found.bundles:
        known = bundle.paths.notna()
        if not set(bundle.paths[known]) & set(rows["path"]):
            continue
        first = pd.DataFrame({"path": bundle.paths[known]}).drop_duplicates("path")
        frame = bundle.frame.loc[first.index].set_axis(first["path"])
        notes += bundle.notes
        used += bundle.files
        agrees = bool(bundle.label.columns) and _agrees(reading, bundle, options)
        if reading.kind == "folders" and bundle.label.columns and not agrees:
            number = rows.loc[rows["label"].isna(), "path"].isin(bundle.pictures).sum()
            if number:
                notes.append(
                    f"{bundle.name} gives labels to {number:,} pictures that are in no class "
                    "folder, but not by the names of the folders, so they have no label."
                )
        if may_label and agrees:
            before = rows["label"].notna().sum()
            rows, label_note = _fill_labels(rows, reading, bundle, options)
            notes += label_note
            if label_note:
                unused = _less(reading.files_not_used, int(rows["label"].notna().sum() - before))
                reading = reading.noting(
                    label=f"{reading.label} and {bundle.name}", files_not_used=unused
                )
        rows, split, split_column = _fill_splits(rows, split, bundle, frame, first, options)
        is_class_list = set(bundle.frame[bundle.image]) == set(rows["label"].dropna())
        if bundle.members[0].table.has_header and not is_class_list:
            unsplit = frame.drop(columns=[split_column] if split_column else [])
            rows = _fill_attributes(rows, bundle, unsplit)
    idle = [
        f"{path} ({why})"
        for path, why in found.useless.items()
        if path.lower().endswith(tables.ENDINGS)
    ]
    if idle:
        notes.append(f"Tables that are not used: {few(idle, 4)}.")
    reading = reading.noting(*notes, rows=rows, split=split, tables=tuple(used))
    reading = _splits_of_paths(reading, options)
    everything = [bundle for bundle in (own, *found.bundles) if bundle is not None]
    return _groups_of_tables(reading, everything, options)


def _less(unused: Counter[str], number: int) -> Counter[str]:
    """The counts with `number` fewer, taken from the first reasons."""
    left = Counter(unused)
    for reason in list(left):
        taken = min(number, left[reason])
        left[reason] -= taken
        number -= taken
    return left


def _fill_labels(
    rows: pd.DataFrame, reading: Reading, bundle: Bundle, options: Options
) -> tuple[pd.DataFrame, list[str]]:
    """Labels of pictures in no class folder that the table names, in the folders' words."""
    labels = _table_labels(bundle, options)
    own = dict(zip(rows["path"], rows["label"], strict=True))
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for path, label in labels.items():
        if own.get(path) is not None:
            words[label][own[path]] += 1
    meaning = {label: counts.most_common(1)[0][0] for label, counts in words.items()}
    empty = rows["label"].isna() & rows["path"].isin(labels.keys())
    if not empty.any():
        return rows, []
    values = rows.loc[empty, "path"].map(labels)
    rows = rows.copy()
    rows.loc[empty, "label"] = values.map(lambda label: meaning.get(label, label))
    return rows, [
        f"{int(empty.sum()):,} pictures in no class folder have their label from {bundle.name}."
    ]


def _fill_splits(
    rows: pd.DataFrame,
    split: str | None,
    bundle: Bundle,
    frame: pd.DataFrame,
    first: pd.DataFrame,
    options: Options,
) -> tuple[pd.DataFrame, str | None, str | None]:
    """The rows with the splits that a table gives, where they come from, and the table's column of
    them.
    """
    if options.split == "none" or (options.split or "").startswith("level"):
        return rows, split, None
    wanted = (
        options
        if options.split is None or options.split in bundle.frame.columns
        else replace(options, split=None)
    )
    column, values = columns.read_split(frame, wanted, name=bundle.name)
    if values is None:
        values = pd.Series(
            bundle.splits.loc[first.index].to_numpy(), index=frame.index, dtype=object
        )
    given = rows["path"].map(values.to_dict())
    filled = rows["source_split"].where(rows["source_split"].notna(), None)
    differ = given.notna() & filled.notna() & (given != filled)
    if differ.any() and (column is not None):
        if options.split == column:
            filled = filled.where(~differ, given)
        else:
            raise DarkroomError(
                f"The folders and {bundle.name} give {int(differ.sum()):,} pictures different "
                "splits, such as "
                f"{rows.loc[differ, 'path'].iloc[0]}; say split={column}, or split=none."
            )
    added = given.notna() & filled.isna()
    if not added.any():
        return rows.assign(source_split=filled), split, column
    text = f"column {column} of {bundle.name}" if column else f"the names of {bundle.name}"
    filled = filled.where(~added, given)
    return rows.assign(source_split=filled), f"{split} and {text}" if split else text, column


def _fill_attributes(rows: pd.DataFrame, bundle: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of a table beside the label, as `attr_*`; none that repeats the label, the split or
    the file's name.
    """
    taken = {bundle.image, *columns.box_columns(bundle.frame)}
    label = rows["label"].where(rows["label"].notna(), "")
    added = {}
    for column in frame.columns:
        name = columns.attribute_name(column)
        cells = rows["path"].map(frame[column].to_dict())
        text = cells.fillna("").astype(object)
        repeats = (
            text.nunique() == label.nunique()
            and len(pd.DataFrame({"a": text, "b": label}).drop_duplicates()) == text.nunique()
        )
        is_empty = (text[rows["label"].notna()] == "").all()
        if column in taken or name in rows or name in added or repeats or is_empty:
            continue
        added[name] = columns.attribute(text)
    boxes = columns.boxes(bundle.frame)
    if (
        len(boxes.columns)
        and "box_left" not in rows
        and not bundle.paths.dropna().duplicated().any()
    ):
        at = dict(zip(bundle.paths, bundle.frame.index, strict=True))
        place = rows["path"].map(at)
        added |= {
            name: pd.Series(
                [boxes[name].get(one) if one == one else None for one in place], dtype="float64"
            )
            for name in boxes
        }
    return rows.assign(**{name: values.to_numpy() for name, values in added.items()})


def _splits_of_paths(reading: Reading, options: Options) -> Reading:
    """The split that folders tell where the label comes from a table and nothing else tells it."""
    if options.split and options.split.startswith("level"):
        number = re.fullmatch(r"level\s*(\d+)", options.split)
        if not number:
            raise DarkroomError(
                f"`split` is a column, `level N` or `none`. Received: {options.split!r}."
            )
        at = int(number[1]) - 1
        names = reading.rows["path"].map(lambda path: (path.split("/")[:-1] + [""] * (at + 1))[at])
        splits = {
            **vocabulary.splits_of(set(names)),
            **{
                n: options.named_splits[n.casefold()]
                for n in set(names)
                if n.casefold() in options.named_splits
            },
        }
        return reading.noting(
            rows=reading.rows.assign(source_split=names.map(splits).astype(object)),
            split=f"folder level {at + 1}",
        )
    if reading.kind != "table" or options.split == "none":
        return reading
    rows = reading.rows
    from_path = rows["path"].map(tables.split_of_path)
    labelled = rows["label"].notna()
    if from_path[labelled].isna().mean() > 0.05 or not labelled.any():
        return reading
    differ = (
        labelled
        & from_path.notna()
        & rows["source_split"].notna()
        & (from_path != rows["source_split"])
    )
    if differ.any() and options.split is None and "column" in (reading.split or ""):
        raise DarkroomError(
            f"The folders and the {reading.split} give {int(differ.sum()):,} pictures different "
            "splits, such as "
            f"{rows.loc[differ, 'path'].iloc[0]}; say split=COLUMN, split=level N (of the folders) "
            "or split=none."
        )
    if reading.split is not None and not rows.loc[labelled, "source_split"].isna().any():
        return reading
    filled = rows["source_split"].where(rows["source_split"].notna(), from_path)
    return reading.noting(
        rows=rows.assign(source_split=filled), split=reading.split or "the folders"
    )


# -- Names of classes, names of files, groups


def _by_name(pictures: Sequence[ListedFile], options: Options) -> Reading:
    """The label from the start of the file's name; splits from the folders."""
    pattern = options.label.partition(":")[2]
    labels = [_name_part(file.path, pattern) for file in pictures]
    rows = pd.DataFrame(
        {"path": [file.path for file in pictures], "label": pd.Series(labels, dtype=object)}
    )
    rows["source_split"] = (
        rows["path"]
        .map(tables.split_of_path if options.split != "none" else lambda path: None)
        .astype(object)
    )
    unused = Counter({"name does not fit the pattern": int(rows["label"].isna().sum())})
    text = f"file name ({pattern})" if pattern else "the start of the file name"
    split = "the folders" if rows.loc[rows["label"].notna(), "source_split"].notna().any() else None
    return Reading(
        "names",
        rows,
        label=text,
        split=split,
        files_not_used=unused,
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
    asked, merged = (
        [],
        [sorted(map(repr, members)) for members in plain.values() if len(members) > 1],
    )
    for members in alike.values():
        if len(members) < 2 or options.names == "keep":
            continue
        by_case = len({vocabulary.plain_name(name).casefold() for name in members}) == 1
        if options.names == "merge" or (by_case and min(map(len, members)) > 2):
            best = max(members, key=lambda name: (members[name], name == name.lower(), name))
            merged.append(sorted(map(repr, members)))
            meaning.update({name: best for name, one in meaning.items() if one in members})
        else:
            asked.append(" and ".join(sorted(map(repr, members))))
    if asked:
        raise DarkroomError(
            f"Are these the same classes: {few(asked, 5)}? Say names=merge to unite them, or "
            "names=keep to leave them apart."
        )
    if not merged and all(name == one for name, one in meaning.items()):
        return reading
    rows = reading.rows.assign(
        label=reading.rows["label"].map(lambda name: meaning.get(name, name)).astype(object)
    )
    equal = few([" = ".join(names) for names in merged], 6)
    note = (
        f"{len(counts):,} names are {len(set(meaning.values())):,} classes: {equal} differ only in "
        "case, spaces or Unicode form; names=keep leaves them apart."
    )
    return reading.noting(note if merged else "", rows=rows)


def _with_groups(reading: Reading, options: Options) -> Reading:
    """Groups by the option `group`, or by the names that Roboflow gives to augmented copies."""
    if options.group == "none":
        return reading.noting(rows=reading.rows.assign(source_group=None), group=None)
    rows = reading.rows
    if options.group is None:
        return reading if reading.group else _group_copies(reading)
    keys = [_group_key(rows, wanted.strip()) for wanted in _group_parts(options.group)]
    group = columns.unite(keys)
    if group.nunique() < 2:
        raise DarkroomError(
            f"`group`={options.group} puts all pictures into one group, since they are linked by "
            "common values; choose fewer columns."
        )
    text = " + ".join(_group_text(part) for part in _group_parts(options.group))
    open_files = int((group.isna() & rows["label"].notna()).sum())
    note = f"{open_files:,} pictures have no group; each is one of its own." if open_files else ""
    return reading.noting(note, rows=rows.assign(source_group=group), group=text)


def _group_copies(reading: Reading) -> Reading:
    """Groups by the names of augmented copies: Roboflow's `a.rf.3f0c….jpg`, or `a_aug1.png` beside
    `a.png`.
    """
    paths = reading.rows["path"]
    stems = paths.str.rpartition(".")[0]
    if stems.str.contains(r"\.rf\.[0-9a-f]{16,}$", regex=True).mean() > 0.5:
        origin = stems.str.rsplit("/", n=1).str[-1].str.split(".rf.", regex=False).str[0]
        text = "file name before .rf. (augmented copies)"
    else:
        there = set(stems)
        copied = stems.map(lambda stem: vocabulary.COPY_SUFFIX.fullmatch(stem))
        origin = pd.Series(
            [
                match[1] if match and match[1] in there else stem
                for match, stem in zip(copied, stems, strict=True)
            ],
            index=stems.index,
            dtype=object,
        )
        if (origin != stems).mean() < 0.1:
            return reading
        text = "file name before _aug, _flip or the like (augmented copies)"
    if not origin.duplicated().any():
        return reading
    return reading.noting(rows=reading.rows.assign(source_group=origin), group=text)


def _group_parts(group: str) -> list[str]:
    return (
        [group]
        if group.startswith("name:")
        else [part.strip() for part in group.split("+") if part.strip()]
    )


def _group_text(wanted: str) -> str:
    if wanted.startswith("name"):
        return (
            f"file name ({wanted.partition(':')[2]})"
            if ":" in wanted
            else "the start of the file name"
        )
    return f"folder {wanted}" if wanted.startswith("level") else f"column {wanted}"


def _group_key(rows: pd.DataFrame, wanted: str) -> pd.Series:
    level = re.fullmatch(r"level\s*(\d+)", wanted)
    if level:
        at = int(level[1])
        keys = rows["path"].map(
            lambda path: "/".join(path.split("/")[:-1][:at]) if path.count("/") >= at else None
        )
    elif wanted == "name" or wanted.startswith("name:"):
        keys = rows["path"].map(lambda path: _name_part(path, wanted.partition(":")[2]))
    else:
        there = {name: name for name in rows.columns if name.startswith("attr_")}
        key = columns.attribute_name(wanted)
        if key not in there:
            known = [name.removeprefix("attr_") for name in there]
            raise DarkroomError(
                f"`group` takes a column ({few(known, 12)}), `level N` or `name:REGEX`. Received: "
                f"{wanted!r}."
            )
        keys = rows[key].map(
            lambda value: str(value) if value is not None and value == value else None
        )
    keys = keys.astype(object)
    if keys.nunique() < 2:
        raise DarkroomError(
            f"`group`={wanted} puts all pictures into "
            f"{'one group' if keys.nunique() else 'no group'}; choose another."
        )
    return keys.where(keys.notna(), None)


def _groups_of_tables(reading: Reading, bundles: Sequence[Bundle], options: Options) -> Reading:
    """Groups by columns such as `patient`."""
    if options.group is not None or reading.group is not None:
        return reading
    certain = []
    for bundle in bundles:
        frame = bundle.frame.drop(columns=[bundle.image, *bundle.label.columns])
        found = columns.automatic_groups(frame, bundle.paths)
        certain += [name for name in found if columns.attribute_name(name) in reading.rows]
    if not certain:
        return reading
    group = columns.unite([_group_key(reading.rows, name) for name in certain])
    if group.value_counts().iloc[0] * 2 > len(group):
        return reading
    text = " + ".join(f"column {name}" for name in certain)
    note = (
        f"Pictures with the same {' or '.join(certain)} stay in one split; group=none takes each "
        "picture by itself."
    )
    return reading.noting(note, rows=reading.rows.assign(source_group=group), group=text)


# -- The rest


def _with_rest(raw: Path, reading: Reading, listing: Listing, options: Options) -> Reading:
    """Counts the files that are no pictures or hidden; those that are no pictures but lie in a
    class folder are judged, too.
    """
    rows, unused, notes = reading.rows, Counter(reading.files_not_used), []
    if reading.kind == "folders":
        folder_label = {}
        for path, label, split in zip(
            rows["path"], rows["label"], rows["source_split"], strict=True
        ):
            folder_label[path.rpartition("/")[0]] = (label, split)
        inside = [
            file
            for file in listing.others
            if folder_label.get(file.path.rpartition("/")[0], (None,))[0] is not None
            and _is_picture(raw / file.path)
        ]
        if inside:
            known = [folder_label[file.path.rpartition("/")[0]] for file in inside]
            more = pd.DataFrame(
                {
                    "path": [file.path for file in inside],
                    "label": [label for label, _ in known],
                    "source_split": [split for _, split in known],
                },
                dtype=object,
            )
            rows = pd.concat([rows, more], ignore_index=True)
        names = {file.path for file in inside}
    else:
        names = set()
    for file in listing.others:
        if file.path not in names and file.path not in reading.tables:
            unused[
                f"no picture (.{_ending(file.path)})" if _ending(file.path) else "no picture"
            ] += 1
    for file in listing.hidden:
        *folders_above, _ = file.path.split("/")
        folder = next((part for part in folders_above if part.startswith(".")), None)
        unused[f"in the hidden folder {folder}" if folder else "the name starts with a dot"] += 1
    if listing.hidden:
        notes.append(
            f"{len(listing.hidden):,} files have a name, or a folder, that begins with a dot, and "
            "are not used; hidden=use reads them."
        )
    if listing.ignored:
        unused["left out by ignore="] += listing.ignored
    notes += _split_notes(rows)
    if options.group != "none":
        notes += _group_notes(rows, reading.group)
    links = sum(file.problem in ("link_folder", "link_outside") for file in listing.pictures)
    if links:
        notes.append(
            f"{links:,} links lead out of the folder and are not followed; links=follow reads them."
        )
    columns_needed = {
        name: None for name in ("label", "source_split", "source_group") if name not in rows
    }
    return reading.noting(*notes, rows=rows.assign(**columns_needed), files_not_used=unused)


def _is_picture(path: Path) -> bool:
    """Whether a file whose name promises none is a picture."""
    try:
        with path.open("rb") as file:
            return decode.kind(file.read(decode.HEAD_BYTES)) not in (
                None,
                "PPM",
                "BMP",
                "ICO",
                "SVG",
            )
    except OSError:
        return False


def _ending(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return name.rpartition(".")[2].lower() if "." in name else ""


def _split_notes(rows: pd.DataFrame) -> list[str]:
    """Classes that only some splits have."""
    labelled = rows[rows["label"].notna() & rows["source_split"].notna()]
    by_split = {split: set(part["label"]) for split, part in labelled.groupby("source_split")}
    every = set(rows["label"].dropna())
    notes = []
    for name in sorted(every):
        where = [split for split in ("train", "val", "test") if name in by_split.get(split, ())]
        if (
            len(by_split) > 1
            and where
            and len(where) < len(by_split)
            and ("train" not in where or "test" in by_split and "test" not in where)
        ):
            notes.append(f"{name!r} is in {' and '.join(where)} only")
    return [f"Classes that not every split has: {few(notes, 8)}."] if notes else []


def _group_notes(rows: pd.DataFrame, group: str | None) -> list[str]:
    """Columns that may be groups and are not used, and classes of so few groups that no split into
    train, validation and test holds them.
    """
    used = [
        columns.attribute_name(part) for part in re.findall(r"column (.+?)(?: \+|$)", group or "")
    ]
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
    if "source_group" not in rows or rows["source_group"].isna().all():
        return notes
    labelled = rows[rows["label"].notna()]
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
    classes = rows["label"].nunique()
    if len(ids) < 0.9 * len(names) or len(counts) <= max(2, 1.5 * classes):
        return []
    is_repeating = counts.median() >= 2 and counts.iloc[0] * 4 <= len(ids)
    return sorted(counts.index) if is_repeating else []


def _refuse_links(raw: Path, listing: Listing) -> None:
    links = [
        file
        for file in (*listing.pictures, *listing.others)
        if file.problem in ("link_folder", "link_outside")
    ]
    if links and len(links) * 2 >= len(listing.pictures):
        raise DarkroomError(
            f"{len(links):,} of the entries in {raw} are links out of the folder, such as "
            f"{links[0].path}, which are not followed; "
            "say links=follow, or links=FOLDER to follow those that lead below that folder."
        )


def _why_not(raw: Path, listing: Listing, found: Tables) -> str:
    """Why no reading makes sense, in one sentence with the way out."""
    pictures, others = listing.pictures, listing.others
    if not pictures:
        archives = [file.path for file in others if file.path.lower().endswith(ARCHIVES)]
        if archives:
            return (
                f"The folder {raw} holds the archives {few(archives, 4)} and no picture; give one "
                "of them, or unpack them first."
            )
        videos = sum(file.path.lower().endswith(VIDEOS) for file in others)
        if videos:
            return (
                f"The folder {raw} holds {videos:,} videos and no picture; write their frames as "
                "pictures first."
            )
        foreign = [
            f"{file.path} ({tables.FOREIGN[ending]})"
            for file in others
            for ending in tables.FOREIGN
            if file.path.lower().endswith(ending)
        ]
        if foreign:
            return (
                f"The folder {raw} holds {few(foreign, 3)} and no picture; write the pictures as "
                "files, in a folder for each class."
            )
        hidden = (
            f"; {len(listing.hidden):,} files are in hidden folders (hidden=use reads them)"
            if listing.hidden
            else ""
        )
        return (
            f"None of the {len(others):,} files in {raw} is an image{hidden}; expected one folder "
            "for each class with images in it."
        )
    ways = []
    reasons = found.reasons()
    foreign = [
        f"{file.path} ({tables.FOREIGN[ending]})"
        for file in others
        for ending in tables.FOREIGN
        if file.path.lower().endswith(ending)
    ]
    if reasons:
        ways.append(f"tables that cannot be used: {reasons}")
    if foreign:
        ways.append(f"not read: {few(foreign, 3)}; save it as CSV")
    unlabelled = [_without_label(bundle) for bundle in found.bundles if not bundle.label]
    ways += unlabelled[:3]
    counts = pd.Series(
        [_name_part(file.path, "") for file in pictures], dtype=object
    ).value_counts()
    if 1 < len(counts) <= max(2, len(pictures) // 4) and counts.min() > 1:
        ways.append(f"label=name reads the file names, {class_counts(counts, 4)}")
    elif not reasons and not unlabelled:
        ways.append("label=name:REGEX reads a part of the file names")
    names = {file.path.split("/")[0] for file in pictures if "/" in file.path}
    only = (
        f"only the class {next(iter(names))!r}"
        if len(names) == 1
        else "images, but none in a class folder"
        if not names
        else ("no folder level with two classes or more")
    )
    tail = f" ({'; '.join(ways)})" if ways else ""
    return (
        f"The folder {raw} holds {only}; a classifier needs at least two classes, a folder for "
        "each or a table with a label for "
        f"each image{tail}."
    )
