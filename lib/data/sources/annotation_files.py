"""Annotation files, one beside each picture, as tables: YOLO and label texts, Pascal VOC, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources import table_files, vocabulary
from lib.data.sources.table_files import FileIndex, Table

MOST_FILES = 200_000
LONGEST_LABEL = 60
LARGEST_LIST = 200_000
_NAME_LISTS = frozenset(
    ("classes.txt", "labels.txt", "class_names.txt", "names.txt", "obj.names", "_darknet.labels")
)
_MAP_WORDS = frozenset(("map", "mapping", "names", "classes", "idx", "index", "indices"))
_YOLO_LINE = re.compile(r"\d+( -?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)
_BOX_COLUMNS = ["file_name", "label", "xmin", "ymin", "xmax", "ymax"]
_LABEL_KEYS = frozenset(" ".join(vocabulary.LABEL_COLUMNS[:2]).split())


def tables(raw: Path, files: Sequence[ListedFile], index: FileIndex) -> Iterator[Table]:
    """Yields a table of the labels or boxes that files beside at least half of the pictures give,
    as `a.txt` for `a.png`, in their folder or another.
    """
    for ending, read, name in (
        (".txt", _texts, "the label files (.txt)"),
        (".xml", _voc, "the VOC annotation files"),
        (".json", _json, "the label files (.json)"),
    ):
        beside = {}
        for file in files:
            if file.path.lower().endswith(ending) and file.problem is None:
                picture = index.of_annotation(file.path)
                if picture is not None and len(beside) < MOST_FILES:
                    beside[file.path] = picture
        if len(beside) * 2 < len(index.paths) or len(beside) < 4:
            continue
        rows = read(raw, files, beside)
        if rows:
            columns = _BOX_COLUMNS[: len(rows[0])]
            frame = pd.DataFrame(rows, columns=columns, dtype=object)
            yield Table(name, frame, annotations=tuple(beside))


def _texts(raw: Path, files: Sequence[ListedFile], beside: dict[str, str]) -> list[tuple]:
    """Labels of text files: YOLO's `class x y width height`, whose names are in data.yaml or
    classes.txt, or a label in each line.
    """
    lines = {
        path: [line.strip() for line in _text(raw / path).splitlines() if line.strip()]
        for path in beside
    }
    every = [line for own in lines.values() for line in own]
    if not every:
        return []
    if all(map(_YOLO_LINE.fullmatch, every)):
        names = next((names for _, names in class_lists(raw, files)), {})
        numbers = [(beside[p], int(line.split()[0])) for p, own in lines.items() for line in own]
        return [(picture, names.get(number, str(number))) for picture, number in numbers]
    if max(map(len, every)) > LONGEST_LABEL:
        return []
    return [(beside[path], line) for path, own in lines.items() for line in own]


def _text(path: Path) -> str:
    return path.read_text("utf-8-sig", errors="replace")


def class_lists(raw: Path, files: Sequence[ListedFile]) -> Iterator[tuple[str, dict[int, str]]]:
    """Yields the files that may name numbered classes, with the name of each number: a name a line,
    also behind its number, a data.yaml, or JSON such as {"0": "cat"} and {"cat": 0}. Names without
    numbers come twice, counted from 0 and from 1.
    """
    for file in files:
        name = file.path.rsplit("/", 1)[-1].lower()
        if file.problem is not None or file.size > LARGEST_LIST:
            continue
        if name in _NAME_LISTS:
            names = [line.strip() for line in _text(raw / file.path).splitlines() if line.strip()]
            numbered = [re.fullmatch(r"(\d+)[\s:,]+(\S.*)", line) for line in names]
            if names and all(numbered):
                yield file.path, {int(match[1]): match[2] for match in numbered}
            else:
                yield from ((file.path, dict(enumerate(names, start))) for start in (0, 1))
        elif name in ("data.yaml", "data.yml", "dataset.yaml"):
            names = _names_of_yaml(_text(raw / file.path))
            yield from ((file.path, dict(enumerate(names, start))) for start in (0, 1))
        elif name.endswith(".json") and not _MAP_WORDS.isdisjoint(vocabulary.tokens(name)):
            yield file.path, _names_of_json(_text(raw / file.path))


def _names_of_json(text: str) -> dict[int, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    pairs = [*value.items()] if isinstance(value, dict) else []
    pairs += [(name, number) for number, name in pairs]  # in either direction
    return {
        int(number): name
        for number, name in pairs
        if isinstance(name, str) and str(number).isdigit() and not name.isdigit()
    }


def _names_of_yaml(text: str) -> list[str]:
    """The list `names` of a data.yaml, written in brackets or one a line."""
    inline = re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    if inline:
        return [part.strip().strip("'\"") for part in inline[1].split(",") if part.strip()]
    block = re.search(r"^names:\s*\n((?:[ \t]*(?:-|\d+:).*\n?)+)", text, re.MULTILINE)
    lines = block[1].splitlines() if block else []
    return [re.sub(r"^\s*(-|\d+:)\s*", "", line).strip().strip("'\"") for line in lines]


def _voc(raw: Path, files: Sequence[ListedFile], beside: dict[str, str]) -> list[tuple]:
    """Boxes of Pascal VOC XML files. Source: Everingham et al. 2010, The Pascal VOC Challenge,
    annotation format.
    """
    rows = []
    for path, picture in beside.items():
        try:
            root = table_files.parse_xml((raw / path).read_bytes(), 1_000_000)
        except table_files.NoTable:
            return []
        for box in root.iter("object"):
            ends = [box.findtext(f"bndbox/{side}") or "" for side in _BOX_COLUMNS[2:]]
            rows.append((picture, box.findtext("name") or "", *ends))
    return rows


def _json(raw: Path, files: Sequence[ListedFile], beside: dict[str, str]) -> list[tuple]:
    """Labels of JSON files: `label` of an object, or of its `shapes`, `tags` or `flags`, as LabelMe
    and Supervisely write.
    """
    rows = []
    for path, picture in beside.items():
        try:
            value = json.loads(_text(raw / path))
        except (ValueError, RecursionError):
            return []
        parts = [{}]
        if isinstance(value, dict):
            parts = value.get("shapes") or value.get("tags") or [value]
            if isinstance(flags := value.get("flags"), dict) and parts == [value]:
                parts = [{"label": name} for name, is_on in flags.items() if is_on is True]
        for shape in parts if isinstance(parts, list) else []:
            label = [
                cell
                for key, cell in (shape.items() if isinstance(shape, dict) else ())
                if vocabulary.column_key(key) in _LABEL_KEYS and isinstance(cell, str | int)
            ]
            rows += [(picture, str(label[0]))] if label else []
    return rows
