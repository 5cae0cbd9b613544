"""Annotation exports as tables with one row a box: YOLO text files and Pascal VOC XML files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources.tables import Table

MOST_FILES = 200_000
_YOLO_LINE = re.compile(r"\d+( -?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)
_COLUMNS = ["file_name", "label", "xmin", "ymin", "xmax", "ymax"]


def tables(
    raw: Path, files: Sequence[ListedFile], pictures: Sequence[ListedFile]
) -> Iterator[Table]:
    """Yields a table for the boxes that YOLO or VOC files give; none where a class folder or a
    table says it already.
    """
    by_stem = {file.path.rsplit("/", 1)[-1].rpartition(".")[0]: file.path for file in pictures}
    for ending, read, name in (
        (".txt", _yolo, "the YOLO label files"),
        (".xml", _voc, "the VOC annotation files"),
    ):
        beside = [
            file
            for file in files
            if file.path.lower().endswith(ending)
            and file.problem is None
            and file.path.rsplit("/", 1)[-1].rpartition(".")[0] in by_stem
        ][:MOST_FILES]
        if len(beside) * 2 < len(pictures) or len(beside) < 4:
            continue
        table = read(raw, files, beside, by_stem)
        if table is not None and len(table):
            yield Table(name, table, is_file=False)


def _yolo(
    raw: Path, files: Sequence[ListedFile], beside: Sequence[ListedFile], by_stem: dict[str, str]
) -> pd.DataFrame | None:
    """Boxes of YOLO: `class x y width height`, shares of the picture's sides; class names stand in
    data.yaml or classes.txt.
    """
    names = _class_names(raw, files)
    rows = []
    for file in beside:
        text = (raw / file.path).read_text("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        if any(not _YOLO_LINE.fullmatch(line) for line in lines):
            return None
        path = by_stem[file.path.rsplit("/", 1)[-1].rpartition(".")[0]]
        for line in lines:
            number = int(line.split()[0])
            rows.append((path, names[number] if number < len(names) else str(number)))
    return pd.DataFrame(rows, columns=_COLUMNS[:2], dtype=object)


def _class_names(raw: Path, files: Sequence[ListedFile]) -> list[str]:
    for file in files:
        name = file.path.rsplit("/", 1)[-1].lower()
        if name in ("classes.txt", "obj.names", "names.txt", "_darknet.labels"):
            return [
                line.strip()
                for line in (raw / file.path).read_text("utf-8", errors="replace").splitlines()
                if line.strip()
            ]
        if name in ("data.yaml", "data.yml", "dataset.yaml"):
            return _names_of_yaml((raw / file.path).read_text("utf-8", errors="replace"))
    return []


def _names_of_yaml(text: str) -> list[str]:
    """The list `names` of a data.yaml, written in brackets or one a line."""
    inline = re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    if inline:
        return [part.strip().strip("'\"") for part in inline[1].split(",") if part.strip()]
    block = re.search(r"^names:\s*\n((?:[ \t]*(?:-|\d+:).*\n?)+)", text, re.MULTILINE)
    return (
        [
            re.sub(r"^\s*(-|\d+:)\s*", "", line).strip().strip("'\"")
            for line in block[1].splitlines()
        ]
        if block
        else []
    )


def _voc(
    raw: Path, files: Sequence[ListedFile], beside: Sequence[ListedFile], by_stem: dict[str, str]
) -> pd.DataFrame | None:
    """Boxes of Pascal VOC XML files. Source: Everingham et al. 2010, The Pascal VOC Challenge,
    annotation format.
    """
    rows = []
    for file in beside:
        data = (raw / file.path).read_bytes()
        if b"<!ENTITY" in data or len(data) > 1_000_000:
            return None
        try:
            root = ElementTree.fromstring(data)  # noqa: S314  without entities, which are refused above
        except ElementTree.ParseError:
            return None
        path = by_stem[file.path.rsplit("/", 1)[-1].rpartition(".")[0]]
        for box in root.iter("object"):
            ends = [
                box.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            rows.append((path, box.findtext("name") or "", *ends))
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=object) if rows else None
