"""Reads tables of any kind as text: CSV, TSV, list files, JSON Lines, JSON, Parquet."""

# ruff: noqa: SIM905  word lists read best as text
from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import posixpath
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources import vocabulary
from lib.errors import few

ENDINGS = (".csv", ".tsv", ".tab", ".parquet", ".jsonl", ".ndjson", ".manifest")
"""Endings of files that are tables; `.txt`, `.lst` and `.json` may be."""

MAYBE = (".txt", ".lst", ".list", ".json", ".dat", ".xml")
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_FOREIGN = {
    "an Excel workbook": "xlsx xls",
    "a spreadsheet": "ods",
    "a MATLAB file": "mat",
    "an HDF5 file": "h5 hdf5",
    "an array file": "npz",
    "a Python pickle": "pkl",
    "a TFRecord file": "tfrecord",
    "an Arrow file": "arrow feather",
    "a database": "sqlite db lmdb mdb lance",
    "a record file": "rec",
    "an XML file": "xml",
}
FOREIGN = {ending: kind for kind, endings in _FOREIGN.items() for ending in endings.split()}
"""Endings of files that may hold labels and are not read, and what they are."""

MOST_TABLES = 60
MAX_BYTES = 2_000_000_000
_MOST_UNPACKED = 500_000_000
_SEPARATORS = (",", ";", "\t", "|")
_NEUTRAL = frozenset("sample submission example template".split())


class NoTable(ValueError):
    """A file that cannot be read as a table; the message is the reason, without the file's name."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table as text. `path` is relative to the data set; an empty cell is ""."""

    path: str
    frame: pd.DataFrame
    has_header: bool = True
    notes: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    """The annotation files that give it together; no option can name them."""

    @property
    def folder(self) -> str:
        """Returns the folder of the table, "" or with a slash at its end."""
        return self.path[: self.path.rfind("/") + 1]

    @property
    def split(self) -> str | None:
        """Returns the split that the name of the file or, where all files are called alike, of its
        folder tells.
        """
        *folders, name = self.path.split("/")
        splits = [vocabulary.split_and_rest(folder)[0] for folder in reversed(folders)]
        return next(filter(None, [split_of_table(name.rsplit(".", 1)[0]), *splits]), None)

    @property
    def is_sample(self) -> bool:
        """Whether the name says that this is a sample submission."""
        words = vocabulary.tokens(self.path.rsplit("/", 1)[-1])
        return "submission" in words or (
            "sample" in words and not _NEUTRAL.isdisjoint(words) and len(words) <= 3
        )


def has_ending(path: str) -> bool:
    """Whether the name is that of a table, perhaps a compressed one: `labels.csv.gz`."""
    return _unpacked_name(path).lower().endswith(ENDINGS)


def _unpacked_name(path: str) -> str:
    stem, dot, ending = path.rpartition(".")
    is_packed = dot + ending.lower() in (*_OPENERS, ".zip") and stem.lower().endswith(ENDINGS)
    return stem if is_packed else path


def is_called(path: str, name: str) -> bool:
    """Whether a path is `name`, or its file is called so."""
    return name in (path, path.rsplit("/", 1)[-1])


def split_of_table(stem: str) -> str | None:
    """Returns the split that a table's name tells, such as `train` of `train_labels`."""
    return vocabulary.split_in(vocabulary.tokens(stem))


def candidates(files: Iterable[ListedFile], pictures: Sequence[ListedFile]) -> list[str]:
    """Returns the paths of files that may be tables, those nearest to the top first."""
    stems = {file.path.rsplit("/", 1)[-1].rpartition(".")[0] for file in pictures}
    counts: Counter[str] = Counter()
    paths = []
    for file in files:
        folder, _, name = file.path.rpartition("/")
        lower, size = name.lower(), file.size
        may_be = lower.endswith(MAYBE) and name.rpartition(".")[0] not in stems
        is_plain = "." not in name and 0 < size < 50_000_000 and folder.count("/") < 2
        is_readable = file.problem is None and size <= MAX_BYTES
        if is_readable and (has_ending(name) or may_be or is_plain):
            counts[folder] += 1
            paths.append(file.path)
    rare = [path for path in paths if counts[path.rpartition("/")[0]] <= 12 or has_ending(path)]
    return sorted(rare, key=lambda path: (path.count("/"), path))[:MOST_TABLES]


def load(
    raw: Path, path: str, *, names: frozenset[str] = frozenset(), encoding: str | None = None
) -> Table:
    """Returns the file as a table of text. `names` are casefolded names of pictures, by which a
    missing header is known.

    Raises NoTable with the reason when it is none.
    """
    import pyarrow

    ending = _unpacked_name(path).rsplit("/", 1)[-1].rpartition(".")[2].lower()
    try:
        if ending == "parquet":
            return Table(path, _from_parquet(raw / path))
        if ending == "xml":
            return Table(path, _from_cvat((raw / path).read_bytes()))
        text, used = _decode(_read_bytes(raw / path), encoding)
        if ending in ("jsonl", "ndjson", "manifest"):
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
            return Table(path, _from_records(records))
        if ending == "json":
            return Table(path, _from_json(json.loads(text), names))
        is_list = ending not in ("csv", "tsv", "tab")
        frame, has_header, note = _from_text(text, names, is_list=is_list)
        if {"LabelName", "Confidence"} <= set(frame.columns):
            frame, note = _without_absent(frame, note)
        if {"filename", "region_attributes"} <= set(frame.columns):
            frame = _from_via(map(_via_row, frame.to_dict("records")))
    except NoTable:
        raise
    except (
        ValueError,
        OSError,
        EOFError,
        lzma.LZMAError,
        zipfile.BadZipFile,
        OverflowError,
        RecursionError,
        csv.Error,
        pyarrow.ArrowException,
    ) as error:
        raise NoTable(str(error).partition("\n")[0][:200] or type(error).__name__) from error
    notes = []
    if used not in ("utf-8-sig", "ascii") and not encoding:
        notes.append(f"{path} was read as {used}, since it is not UTF-8.")
    notes += [note.format(path)] if note else []
    return Table(path, frame if has_header else _named_split(path, frame), has_header, tuple(notes))


def _read_bytes(path: Path) -> bytes:
    """The bytes of a table, unpacked where its name says that it is packed."""
    if _unpacked_name(path.name) == path.name:
        return path.read_bytes()
    with contextlib.ExitStack() as opened:
        if path.suffix.lower() == ".zip":
            archive = opened.enter_context(zipfile.ZipFile(path))
            names = [one for one in archive.infolist() if not one.is_dir()]
            if len(names) != 1:
                raise NoTable(f"it holds {len(names)} files; unpack it")
            file = opened.enter_context(archive.open(names[0]))
        else:
            file = opened.enter_context(_OPENERS[path.suffix.lower()](path))
        data = file.read(_MOST_UNPACKED + 1)
    if len(data) > _MOST_UNPACKED:
        raise NoTable(f"it is larger than {_MOST_UNPACKED:,} bytes; unpack it")
    return data


def _without_absent(frame: pd.DataFrame, note: str) -> tuple[pd.DataFrame, str]:
    """The rows of Open Images' labels of classes that the picture shows. Source: Open Images V7,
    data formats: confidence 0 is a class verified to be absent.
    """
    absent = frame["Confidence"].isin(["0", "0.0"])
    if not absent.any() or absent.all():
        return frame, note
    text = f"{int(absent.sum()):,} rows of {{}} say by Confidence 0 that a class is absent."
    return frame[~absent].reset_index(drop=True), f"{note} {text}".strip()


def _named_split(path: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The columns with the last one named where it is a split by number, as the file's name says.
    Source: the readme of CUB-200-2011 (`train_test_split.txt`: 1 is train), CelebA's
    `list_eval_partition.txt`.
    """
    words, last = set(vocabulary.tokens(path.rsplit("/", 1)[-1])), frame.columns[-1]
    if frame.shape[1] != 2 or not set(frame[last]) <= {"0", "1", "2"}:
        return frame
    if "partition" in words:
        return frame.rename(columns={last: "partition"})
    is_flag = {"train", "test", "split"} <= words and "2" not in set(frame[last])
    return frame.rename(columns={last: "is_train"}) if is_flag else frame


def _decode(data: bytes, encoding: str | None) -> tuple[str, str]:
    if encoding is not None:
        try:
            return data.decode(encoding), encoding
        except (LookupError, UnicodeError) as error:
            raise NoTable(f"it is not {encoding} ({error})") from error
    head = data[:4096]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16"), "UTF-16"
    if b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) * 4 <= len(head):
            raise NoTable("it is no text")
        return data.decode("utf-16-le" if odd > even else "utf-16-be"), "UTF-16"
    way = "; say encoding=NAME, such as encoding=cp1251"
    try:
        return data.decode("utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise NoTable(f"its text is neither UTF-8 nor cp1252{way}") from error
    if word := _garbled_word(text):
        raise NoTable(f"its text is not UTF-8, and as cp1252 it gives words such as {word!r}{way}")
    return text, "cp1252"


def _garbled_word(text: str) -> str | None:
    """Returns a word with an accented capital after a lower-case letter or with ƒ, or adjacent
    characters outside ASCII if most of these are adjacent, which no language in cp1252 has.
    """
    text = text[:200_000]
    if inside := re.search(r"[^\W\d_]*(?:[a-zß-ÿ][À-ÖØ-ÞŠŒŽ]|ƒ)[^\W\d_]*", text):
        return inside[0]
    signs = re.findall(r"[^\x00-\x7f]+", re.sub("ç[ãõ]|éé", "", text))  # as in informação, créée
    runs = [run for run in signs if len(run) > 1]
    return runs[0] if len(runs) * 2 > len(signs) else None


def _from_text(
    text: str, names: frozenset[str], *, is_list: bool
) -> tuple[pd.DataFrame, bool, str]:
    """Rows of text, whether they have a header, and a note on further lines above them; the
    separator is that by which the rows have equally many cells.
    """
    declared = re.match(r"sep=(.)\r?\n", text)  # as Excel writes it
    text = text[declared.end() :] if declared else text
    text = text.replace("\ufeff", "")  # of files that were written one behind the other
    lines = text.splitlines()
    sample = [
        line for line in lines[:400] if line.strip() and not (is_list and line.startswith("#"))
    ]
    if not sample:
        raise NoTable("it is empty")
    separator = declared[1] if declared else _separator(sample, names)
    if separator == " ":
        kept = [line for line in lines if line.strip() and not line.startswith("#")]
        rows = _split_list(kept, names)
    else:
        file = io.StringIO(text, newline="")
        rows = [*csv.reader(file, delimiter=separator, skipinitialspace=True)]
        rows = [row for row in rows if any(cell.strip() for cell in row)]
    rows, note = _with_one_header(rows, names)
    is_short = len(rows) > 2 and {len(row) for row in rows[1:]} == {len(rows[0]) + 1}
    if is_short and vocabulary.column_key(rows[0][0]) not in vocabulary.IMAGE_COLUMNS:
        rows[0] = ["image", *rows[0]]  # CelebA's lists: no name above the first column
    width = len(rows[0])
    if width > 400:
        raise NoTable(
            f"it has {width:,} columns, so a row holds the pixels of a picture; write the pictures "
            "as files"
        )
    for number, row in enumerate(rows, start=1):
        row[:] = [cell.strip() for cell in row]
        while len(row) > width and not row[-1]:
            row.pop()
        if len(row) > width:
            raise NoTable(
                f"row {number} has {len(row)} cells and the first row has {width}; the separator "
                f"seems to be {separator!r}"
            )
        row += [""] * (width - len(row))
    numbered = [f"column {at + 1}" for at in range(width)]
    has_header = _is_header(rows, names)
    header = numbered
    if has_header:
        rows = [rows[0], *(row for row in rows[1:] if row != rows[0])]
        header = [cell or name for cell, name in zip(rows[0], numbered, strict=True)]
    repeated = [name for name, number in Counter(header).items() if number > 1]
    if repeated:
        raise NoTable(f"two columns are called {repeated[0]!r}; rename one of them")
    frame = pd.DataFrame(rows[has_header:], columns=header, dtype=object)
    if any(frame[name].str.len().max() > 2000 for name in frame.columns[:8]):
        raise NoTable("its cells hold the pixels of pictures; write the pictures as files")
    return frame, has_header, note


def _is_header(rows: list[list[str]], names: frozenset[str]) -> bool:
    number = re.compile(r"-?\d+(\.\d+)?")
    if len(rows) < 2 or all(map(number.fullmatch, rows[0])):
        return False
    is_pair = len(rows[0]) == 2 and re.search(r"\d", rows[0][0])
    if is_pair and all(number.fullmatch(row[1]) for row in rows):  # 3f-07 1 above 3f-08 0
        return False
    return not any(
        _is_file_cell(cell, names) and ("." in cell or "." not in below)
        for cell, below in zip(rows[0], rows[1], strict=True)
    )


def _with_one_header(rows: list[list[str]], names: frozenset[str]) -> tuple[list[list[str]], str]:
    """The rows with one header, and a note where a title, a line of units or a second header
    stands above the rows that name files; {} in the note is the table.
    """
    head = [[cell.strip() for cell in row] for row in rows[:20]]
    first = next((at for at, row in enumerate(head) if _place_of_file(row, names) is not None), 0)
    remarks = [at for at, row in enumerate(head[: max(0, first - 1)]) if row[0].startswith("#")]
    if remarks:
        rows = [row for at, row in enumerate(rows) if at not in remarks]
        return _with_one_header(rows, names)
    if first < 2:
        return rows, ""
    sizes = [sum(map(bool, row)) for row in head[:first]]
    if sizes[-1] > 1 and max(sizes[:-1]) * 2 <= sizes[-1] + 1:
        title = f"The first {first - 1} lines of {{}} are a title above its header."
        return rows[first - 1 :], title
    place = _place_of_file(head[first], names)
    top, low = head[:2]
    if first > 2 or len(top) != len(low) or re.search(r"\d", low[place]):
        return rows, ""  # a row whose file is not there
    is_header = all(top) and len(set(top)) == len(top)
    if is_header and vocabulary.column_key(top[place]) in vocabulary.IMAGE_COLUMNS:
        return [top, *rows[2:]], "The second line of {} names no picture; it is read as units."
    header = [below or above for above, below in zip(top, low, strict=True)]
    return [header, *rows[2:]], "The first two lines of {} are read as one header."


def _place_of_file(row: list[str], names: frozenset[str]) -> int | None:
    return next((at for at, cell in enumerate(row) if _is_file_cell(cell, names)), None)


def _separator(sample: list[str], names: frozenset[str]) -> str:
    best, most = None, (False, 1)
    for separator in _SEPARATORS:
        try:
            rows = [*csv.reader(sample, delimiter=separator, skipinitialspace=True)]
        except csv.Error:
            continue
        widths = [len(row) for row in rows if row]
        width, number = Counter(widths).most_common(1)[0]
        order = (widths[0] == width, width)  # decimal commas are not in the header
        if width > 1 and order > most and number >= 0.9 * len(widths):
            best, most = separator, order
    if best is not None:
        return best
    spaced = [len(line.split()) for line in sample]
    usual = Counter(spaced).most_common(1)[0][1]
    begin = sum(_is_file_cell(line.split()[0], names) for line in sample)  # with a file
    is_even = max(usual, begin) >= 0.5 * len(spaced)
    if len(sample) > 1 and min(spaced[2:] or spaced) > 1 and is_even:
        return " "
    return ","


def _split_list(lines: list[str], names: frozenset[str]) -> list[list[str]]:
    """Rows of a list file, whose file names or labels may hold spaces."""
    widths = Counter(len(line.split()) for line in lines)
    width = widths.most_common(1)[0][0]
    named = [_words_of_path(line.split(), names) for line in lines[:50]]
    spaced = min(named, default=0) > 1  # every file name holds a space
    has_words = any(map(str.isalpha, "".join(line.partition(" ")[2] for line in lines[:50])))
    ends = {line.split()[-1].casefold() for line in lines}
    has_split = ends <= vocabulary.SPLIT_WORDS.keys()
    inner = [*zip(*(line.split()[1 : width - has_split] for line in lines), strict=False)]
    constant = [column[0].casefold() for column in inner if len({*column}) == 1]
    # of `a.png red car` and `b.png blue car` the label is red car and blue car
    is_shared = bool(constant) and vocabulary.SPLIT_WORDS.keys().isdisjoint(constant)
    is_shared = is_shared and not re.search(r"\d", " ".join(map(" ".join, inner)))
    if set(named) == {1} and (len(widths) > 1 or is_shared) and has_words:
        return [_with_label_of_words(line.split(), has_split=has_split) for line in lines]
    rows = []
    for line in lines:
        cells = line.split()
        extra = _words_of_path(cells, names) if spaced else len(cells) - width + 1
        rows.append([" ".join(cells[:extra]), *cells[extra:]] if extra > 1 else cells)
    return rows


def _with_label_of_words(cells: list[str], *, has_split: bool) -> list[str]:
    end = len(cells) - has_split
    return [cells[0], " ".join(cells[1:end]), *cells[end:]]


def _words_of_path(cells: list[str], names: frozenset[str]) -> int:
    """Number of leading words that form the path of a file; 0 if none do."""
    return next((n for n in range(1, len(cells)) if _is_file_cell(" ".join(cells[:n]), names)), 0)


def _is_file_cell(cell: str, names: frozenset[str]) -> bool:
    name = _folded(cell.strip().replace("\\", "/").rsplit("/", 1)[-1])
    return name in names or bool(re.search(r"\.(jpe?g|png|tiff?|bmp|gif|webp)$", name))


def _from_parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as parquet

    if picture_columns(parquet.read_schema(path)):
        raise NoTable("it holds the pictures themselves")
    return _as_text(parquet.read_table(path).to_pandas().reset_index(drop=True))


def picture_columns(schema: Any) -> list[str]:
    """Returns the columns of a Parquet schema that hold encoded pictures: bytes, or `bytes` and
    `path` as `datasets` writes.
    """
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return types.is_binary(kind) or types.is_large_binary(kind)

    return [field.name for field in schema if holds_bytes(field.type)]


def _from_records(records: list[Any]) -> pd.DataFrame:
    if records and all(isinstance(record, list) for record in records):  # [[path, class], …]
        frame = pd.DataFrame(records)
        frame.columns = [f"column {at + 1}" for at in range(frame.shape[1])]
        return _as_text(frame)
    if not records or not all(isinstance(record, dict) for record in records):
        raise NoTable("its lines are no records of names and values")
    return _as_text(pd.json_normalize(records, max_level=1))


def _from_json(value: Any, names: frozenset[str]) -> pd.DataFrame:
    if isinstance(value, list):
        is_export = all(
            isinstance(one, dict) and {"data", "annotations"} <= one.keys() for one in value
        )
        return _from_label_studio(value) if value and is_export else _from_records(value)
    if isinstance(value, dict) and {*map(type, map(value.get, ("classes", "labels")))} == {
        list,
        dict,
    }:
        classes = dict(enumerate(value["classes"]))  # as FiftyOne writes
        pairs = [(key, classes.get(label, label)) for key, label in value["labels"].items()]
        return _as_text(pd.DataFrame(pairs, columns=["file", "label"], dtype=object))
    if isinstance(value, dict) and "_via_img_metadata" in value:
        value = value["_via_img_metadata"]
    if isinstance(value, dict) and value and all(map(_is_via, value.values())):
        return _from_via(value.values())
    if isinstance(value, dict) and {"images", "annotations", "categories"} <= value.keys():
        return _from_coco(value)
    if isinstance(value, dict) and value:
        frame = _from_names(value, names)
        if frame is not None:
            return frame
        inner = {key: part for key, part in value.items() if isinstance(part, list | dict)}
        records = {key: part for key, part in inner.items() if _is_records(part)}
        inner = records or {key: part for key, part in inner.items() if len(part) > 1}
        if len(inner) > 1:
            raise NoTable(f"it holds several lists ({few([*inner], 4)}); write one of them as CSV")
        if inner:
            return _from_json(next(iter(inner.values())), names)
    raise NoTable("it is JSON, but no list of records, no names with labels and no COCO export")


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _from_names(value: dict[str, Any], names: frozenset[str]) -> pd.DataFrame | None:
    """Rows of an object whose keys are files, labels or splits; None where they are neither."""
    parts = list(value.values())
    is_split = all(vocabulary.split_and_rest(key)[0] for key in value)
    if is_split and all(isinstance(part, list) and part for part in parts):
        items = [(split, item) for split, part in value.items() for item in part]
        if all(isinstance(item, dict) for _, item in items):
            return _from_records([{**item, "split": split} for split, item in items])
        if all(isinstance(item, list) for _, item in items):  # [[path, number, class], …]
            frame = _from_records([item for _, item in items])
            return frame.assign(split=[split for split, _ in items])
    if len(value) < 2:
        return None
    if all(isinstance(part, str | int | float) for part in parts):
        return _as_text(pd.DataFrame({"column 1": list(value), "column 2": parts}))
    are_files = sum(_is_file_cell(key, names) for key in value) * 2 > len(value)
    if all(isinstance(part, dict) for part in parts) and (
        are_files or (len(parts) > 3 and len({tuple(part) for part in parts}) == 1)
    ):
        return _from_records([{"key": key, **part} for key, part in value.items()])
    lists = all(
        isinstance(part, list) and all(isinstance(item, str) for item in part) for part in parts
    )
    if not lists:
        return None
    pairs = [(item, key) for key, part in value.items() for item in part]
    if are_files:
        pairs = [(file, label) for label, file in pairs]
    return _as_text(
        pd.DataFrame(pairs, columns=["file", "split" if is_split else "label"], dtype=object)
    )


def _from_label_studio(tasks: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a choice, or a label of a region. Source: labelstud.io, JSON export."""
    rows = []
    for task in tasks:
        file = next((cell for cell in task["data"].values() if isinstance(cell, str)), "")
        done = [one for one in task["annotations"] if not one.get("was_cancelled")]
        values = [part.get("value", {}) for one in done for part in one.get("result", [])]
        labels = [
            label
            for value in values
            for key, names in value.items()
            if key == "choices" or key.endswith("labels")
            for label in names
        ]
        rows += [(file, label) for label in labels or [""]]
    return _as_text(pd.DataFrame(rows, columns=["file", "label"], dtype=object))


def _is_via(picture: Any) -> bool:
    return isinstance(picture, dict) and {"filename", "regions"} <= picture.keys()


def _via_row(row: dict[str, str]) -> dict[str, Any]:
    """A row of VIA's CSV export as its JSON export has it."""
    parts = {
        name: json.loads(row.get(name) or "{}")
        for name in ("file_attributes", "region_shape_attributes", "region_attributes")
    }
    region = {
        "shape_attributes": parts["region_shape_attributes"],
        "region_attributes": parts["region_attributes"],
    }
    return {"filename": row["filename"], "regions": [region], **parts}


def _from_via(pictures: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a region, with its box and attributes and those of its file. Source: Dutta and
    Zisserman 2019, The VIA Annotation Software, export formats.
    """
    rows = []
    for picture in pictures:
        regions = picture["regions"]
        for region in (regions.values() if isinstance(regions, dict) else regions) or [{}]:
            shape = region.get("shape_attributes", {})
            given = {
                **{name: shape[name] for name in ("x", "y", "width", "height") if name in shape},
                **picture.get("file_attributes", {}),
                **region.get("region_attributes", {}),
            }
            ticked = {
                name: [key for key, is_on in value.items() if is_on]
                for name, value in given.items()
                if isinstance(value, dict)
            }
            rows.append({"filename": picture["filename"], **given, **ticked})
    return _as_text(pd.DataFrame(rows))


def _from_coco(value: dict[str, Any]) -> pd.DataFrame:
    """One row a box of a COCO export. Source: Lin et al. 2014, Microsoft COCO, the data format."""
    files = {image["id"]: image["file_name"] for image in value["images"]}
    classes = {category["id"]: category["name"] for category in value["categories"]}
    rows = [
        (
            files.get(box["image_id"], ""),
            classes.get(box["category_id"], ""),
            *(box.get("bbox") or ()),
        )
        for box in value["annotations"]
    ]
    columns = ["file_name", "category_name", "x", "y", "width", "height"]
    return _as_text(pd.DataFrame(rows, columns=columns[: max(map(len, rows), default=6)]))


def parse_xml(data: bytes, most: int) -> ElementTree.Element:
    """Returns the root of an XML file. Raises NoTable for entities, for more than `most` bytes and
    for a file that is not XML.
    """
    if b"<!ENTITY" in data or len(data) > most:
        raise NoTable("it is XML with entities, or too large")
    try:
        return ElementTree.fromstring(data)  # noqa: S314  without entities, which are refused above
    except ElementTree.ParseError as error:
        raise NoTable(f"it is not XML ({error})") from error


def _from_cvat(data: bytes) -> pd.DataFrame:
    """One row a tag or shape of a picture. Source: docs.cvat.ai, CVAT for images 1.1."""
    root = parse_xml(data, _MOST_UNPACKED)
    columns = {"xmin": "xtl", "ymin": "ytl", "xmax": "xbr", "ymax": "ybr"}
    rows = [
        {"file_name": image.get("name", ""), "label": shape.get("label", "")}
        | {column: shape.get(name, "") for column, name in columns.items() if shape.tag == "box"}
        for image in (root.iter("image") if root.tag == "annotations" else ())
        for shape in (list(image) or [image])
    ]
    if not rows:
        raise NoTable("it is XML, but not an export of CVAT")
    return _as_text(pd.DataFrame(rows))


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.rename(columns=str)
    if not frame.columns.is_unique:
        raise NoTable("two columns have one name; rename one of them")
    return pd.DataFrame(
        {name: [cell_text(value) for value in frame[name]] for name in frame.columns}, dtype=object
    )


def cell_text(value: Any) -> str:
    """Returns a value as the text that a table would hold; a missing one is empty."""
    if isinstance(value, str):
        return value.strip()
    if hasattr(value, "tolist"):
        return cell_text(value.tolist())
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if pd.isna(value):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


# -- Which picture a cell names


class FileIndex:
    """Finds the picture that a cell of a table means, by path, name, name without ending, or the
    end of a longer path.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths, self._known = paths, set(paths)
        self._by_path: dict[str, str] = {}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_number: dict[int, list[str]] = defaultdict(list)
        for path in paths:
            key = _folded(path)
            self._by_path[key] = "" if key in self._by_path else path
            name = key.rsplit("/", 1)[-1]
            self.by_name[name].append(path)
            stem = name.rpartition(".")[0] or name
            self.by_stem[stem].append(path)
            if stem.isdigit():
                self._by_number[int(stem)].append(path)

    def named(self, cell: str) -> list[str]:
        """Returns all pictures of the name that `cell` ends in, whatever folder and ending."""
        name = _folded(cell.replace("\\", "/").rsplit("/", 1)[-1])
        return self.by_name.get(name) or self.by_stem.get(name) or []

    def find(self, cell: str, table: Table) -> str | None:
        """Returns the path of the picture that `cell` of `table` names, or None where none or
        several fit.
        """
        plain = re.sub(r"^(file://)?(\./)+", "", cell.strip().replace("\\", "/")).lstrip("/")
        plain = plain.partition("/?d=")[2] or plain  # Label Studio's local files
        if "://" in plain:
            plain = plain.split("?")[0].split("#")[0]
        if not plain:
            return None
        for exact in (posixpath.normpath(table.folder + plain), plain):
            if path := exact if exact in self._known else self._by_path.get(_folded(exact)):
                return path
        key = _folded(plain)
        name = key.rsplit("/", 1)[-1]
        matches = self.by_name.get(name) or self.by_stem.get(name) or []
        if not matches and (upload := re.fullmatch(r"[0-9a-f]{8}-(.+)", name)):
            matches = self.by_name.get(upload[1], [])  # as Label Studio renames
        if not matches and (number := re.fullmatch(r"(\d{1,18})(\.0)?", name)):
            matches = self._by_number.get(int(number[1]), [])  # 7 or 7.0 for 00007.png
        if not matches and (words := unquote(plain)) != plain:  # my%20cat.png
            return self.find(words, table)
        return self._nearest(matches, key, table)

    def of_annotation(self, path: str) -> str | None:
        """Returns the picture of an annotation file's name, the nearest by its folders."""
        stem = _folded(path.rpartition(".")[0])
        name = stem.rsplit("/", 1)[-1]
        matches = self.by_stem.get(name) or self.by_name.get(name, [])  # a.json or a.png.json
        return self._nearest(matches, stem, Table(path, pd.DataFrame()))

    def _nearest(self, matches: list[str], key: str, table: Table) -> str | None:
        """Of files of one name that whose folders agree with the cell's the longest, then with the
        table's place and split.
        """
        if len(matches) < 2:
            return matches[0] if matches else None
        wanted = key.split("/")[:-1]
        agree = [_common_tail(_folded(path).split("/")[:-1], wanted) for path in matches]
        matches = [path for path, n in zip(matches, agree, strict=True) if n == max(agree)]
        if table.folder:
            matches = [path for path in matches if path.startswith(table.folder)] or matches
        if len(matches) > 1 and table.split:
            matches = [path for path in matches if _tells(path, table.split)] or matches
        return matches[0] if len(matches) == 1 else None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _tells(path: str, split: str) -> bool:
    return any(vocabulary.split_and_rest(part)[0] == split for part in path.split("/")[:-1])


def split_of_path(path: str) -> str | None:
    """Returns the split that a folder of the path tells, or None."""
    folders = path.split("/")[:-1]
    return next(
        (split for name in folders for split in vocabulary.splits_of([name]).values()), None
    )


def _common_tail(first: list[str], second: list[str]) -> int:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
