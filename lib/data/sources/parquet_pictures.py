"""Pictures inside Parquet and Arrow files, as the Hugging Face `datasets` library writes them
(`to_parquet`, `save_to_disk`): unpacked into files and a table.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lib.data import decode
from lib.data.file_listing import ListedFile
from lib.data.sources import tables
from lib.errors import DarkroomError

TABLE = "labels.csv"
_ENDINGS = {"JPEG": "jpg", "TIFF": "tif", "PPM": "ppm", "JPEG XL": "jxl"}


def find(raw: Path, files: Sequence[ListedFile]) -> list[str]:
    """Returns the Parquet and Arrow files that hold pictures."""
    import pyarrow

    paths = []
    for file in files:
        if file.problem is not None or not file.path.lower().endswith((".parquet", ".arrow")):
            continue
        try:
            with _opened(raw / file.path) as (schema, _):
                if tables.picture_columns(schema):
                    paths.append(file.path)
        except (OSError, ValueError, pyarrow.ArrowException):
            continue  # what cannot be read is named when it is read as a table
    return paths


def unpack(root: Path, paths: Sequence[str], target: Path) -> int:
    """Writes the pictures of the files into `target`, with a table of their other columns.

    Returns the number of pictures. Raises DarkroomError for files of different columns.
    """
    number, header = 0, None
    with (target / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for path in paths:
            for names, rows in _batches(root / path):
                if header is None:
                    header = names
                    writer.writerow(["file", "split", *names])
                if names != header:
                    raise DarkroomError(
                        f"The file {path} has the columns {', '.join(names)}, others have "
                        f"{', '.join(header)}; give files of the same columns."
                    )
                stem = path.replace("/", "-").rsplit(".", 1)[0]
                split = _split(PurePosixPath(path))
                for data, cells in rows:
                    name = _write(target, f"{stem}/{number:07}", data)
                    writer.writerow([name, split, *cells])
                    number += 1
    return number


def _write(target: Path, stem: str, data: bytes | None) -> str:
    kind = decode.kind((data or b"")[: decode.HEAD_BYTES])
    name = f"{stem}.{_ENDINGS.get(kind, kind.lower()) if kind else 'png'}"
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data or b"")
    return name


def _split(path: PurePosixPath) -> str:
    """The split that a file or its folder is named after, such as `train/data-00000-of-1.arrow`."""
    return tables.split_of_table(path.stem) or tables.split_of_table(path.parent.name) or ""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The schema of a file, and a function from names of columns to its batches."""
    import pyarrow
    import pyarrow.parquet as parquet

    if path.suffix.lower() == ".arrow":
        with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            yield stream.schema, lambda columns: (batch.select(columns) for batch in stream)
    else:
        with parquet.ParquetFile(path) as file:
            yield (
                file.schema_arrow,
                lambda columns: file.iter_batches(batch_size=64, columns=columns),
            )


def _batches(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[bytes | None, list[str]]]]]:
    with _opened(path) as (schema, batches):
        pictures = tables.picture_columns(schema)
        image = next((name for name in pictures if name in ("image", "img")), pictures[0])
        others = [name for name in schema.names if name not in pictures]
        classes = _class_names(schema.metadata or {})
        for batch in batches([image, *others]):
            yield others, _rows(batch.to_pydict(), image, others, classes)


def _rows(
    columns: dict[str, list], image: str, others: list[str], classes: dict[str, list[str]]
) -> Iterator[tuple[bytes | None, list[str]]]:
    for place, value in enumerate(columns[image]):
        data = value.get("bytes") if isinstance(value, dict) else value
        yield data, [_cell(columns[name][place], classes.get(name)) for name in others]


def _cell(value: Any, names: list[str] | None) -> str:
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return tables.cell_text(value)


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> names of its numbers, which `datasets` keeps in the schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: list(kind["names"])
            for name, kind in features.items()
            if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError):
        return {}
