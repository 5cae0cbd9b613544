"""Unpacks zip and tar files: regular files only, inside the target only, within limits."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lib.data import decode
from lib.data.file_listing import ListedFile
from lib.data.sources import table_files
from lib.errors import DarkroomError

MOST_FILES = 2_000_000
MOST_BYTES = 400_000_000_000
GREATEST_RATIO = 200
"""Unpacked over packed size above which a file counts as a bomb; pictures hardly shrink in an
archive.
"""

FREE_OF_RATIO = 50_000_000
"""Bytes that an archive may hold whatever the ratio: a few blank pages do shrink a thousandfold."""

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]' if os.name == "nt" else r"[\x00-\x1f]")
_BLOCK = 1 << 20
_ABOUT_THE_NEXT = (b"L", b"K", b"x", b"g", b"X")
"""Types of tar headers that hold a long name or notes."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    handle: zipfile.ZipInfo | tarfile.TarInfo


class _Header(tarfile.TarInfo):
    """A header of a tar file that takes no more memory than a long name needs."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _ABOUT_THE_NEXT and self.size > _BLOCK:
            raise DarkroomError(
                f"The archive {archive.name} holds a header of {self.size:,} bytes, as bombs do."
            )
        if self.size < 0:  # the next header would lie before this one (CVE-2025-8194)
            raise DarkroomError(
                f"The archive {archive.name} holds a file of {self.size:,} bytes; it is damaged or "
                "hostile."
            )
        return super()._proc_member(archive)

    def _proc_gnusparse_10(
        self, following: tarfile.TarInfo, headers: dict[str, str], archive: tarfile.TarFile
    ) -> None:
        raise DarkroomError(
            f"The archive {archive.name} holds the sparse file {following.name!r}; pack it again "
            "without."
        )


def unpacked_bytes(archive: Path, *, encoding: str | None = None) -> int:
    """Returns the size that the archive says its regular files have. Raises DarkroomError when it
    is beyond the limits.
    """
    total = number = 0
    with _opened(archive, encoding) as (members, _):
        for member in members:
            total, number = total + member.size, number + 1
            _refuse_excess(archive, total, number)
    return total


def extract(archive: Path, target: Path, *, encoding: str | None = None) -> int:
    """Unpacks the regular files of `archive` into the folder `target` and returns how many there
    were.

    Links and devices are left out. No more bytes are written for a file than the archive declared.
    Raises DarkroomError for a name that leads out of the target, for two members of one name, and
    beyond the limits.
    """
    unpacked_bytes(archive, encoding=encoding)
    seen: dict[str, str] = {}
    with _opened(archive, encoding) as (members, read):
        for member in members:
            path = target.joinpath(*_parts(archive, member.name))
            if (first := seen.setdefault(str(path).casefold(), member.name)) != member.name:
                raise DarkroomError(
                    f"The archive {archive} holds {first!r} and {member.name!r}, which many disks "
                    "take for one name; rename one and pack the archive again."
                )
            if path.exists():
                raise DarkroomError(
                    f"The archive {archive} holds {member.name!r} twice; pack it again."
                )
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with read(member) as source, path.open("xb") as file:
                    _copy(source, file, member, archive)
            except DarkroomError:
                raise
            # damage may raise anything, and a name may be none that this disk can hold
            except Exception as error:
                raise DarkroomError(
                    f"The archive {archive} cannot be unpacked: {member.name!r} is damaged, locked "
                    f"or has no name for a file ({error})."
                ) from error
    return len(seen)


@contextlib.contextmanager
def _opened(
    archive: Path, encoding: str | None = None
) -> Iterator[tuple[Iterator[_Member], Callable[[_Member], IO[bytes]]]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                members = (
                    _Member(_zip_name(archive, item, encoding), item.file_size, item)
                    for item in opened.infolist()
                    if not item.is_dir() and _regular(item)
                )
                yield members, lambda one: opened.open(one.handle)
        else:
            with tarfile.open(archive, tarinfo=_Header) as opened:
                yield _of_tar(archive, opened), lambda one: opened.extractfile(one.handle)
    except DarkroomError:
        raise
    # parsers fed with broken bytes may raise anything: all of it means that they are broken
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DarkroomError(
            f"{archive} is not an archive that can be read ({reason}); fetch it again."
        ) from error


def _of_tar(archive: Path, opened: tarfile.TarFile) -> Iterator[_Member]:
    number = 0
    while (item := opened.next()) is not None:
        opened.members.clear()  # else it keeps the header of every file that it has passed
        number += 1
        _refuse_excess(archive, tarfile.BLOCKSIZE * number, number)  # headers pack well
        if item.isreg():
            yield _Member(item.name, item.size, item)
    opened.fileobj.seek(opened.offset)
    if opened.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):  # which tarfile takes for the end
        raise tarfile.ReadError("a damaged header")


def _zip_name(archive: Path, item: zipfile.ZipInfo, encoding: str | None) -> str:
    """A member's name: UTF-8 where the file says so or the bytes are, else by `encoding`.

    Source: PKWARE, APPNOTE.TXT, sections 4.4.4 and D.
    """
    if item.flag_bits & 0x800 or item.filename.isascii():
        return item.filename
    raw = item.orig_filename.encode("cp437", errors="replace")
    for name in ("utf-8", encoding) if encoding else ("utf-8",):
        try:
            return raw.decode(name)
        except LookupError as error:
            raise DarkroomError(
                f"There is no encoding {name!r}; such as encoding=cp866, cp1251, cp932 or gbk."
            ) from error
        except UnicodeDecodeError:
            continue
    shown = raw.decode("cp1252", errors="replace")
    raise DarkroomError(
        f"The archive {archive} does not say how its names are encoded, and they are not UTF-8 "
        f"(as cp437 {item.filename!r}, as cp1252 {shown!r}); say encoding=NAME, such as "
        "encoding=cp866, cp1251, cp932 or gbk."
    )


def _regular(item: zipfile.ZipInfo) -> bool:
    kind = item.external_attr >> 16 & 0o170000  # 0 where it was not packed on Unix
    return kind in (0, 0o100000)


def _refuse_excess(archive: Path, total: int, number: int) -> None:
    packed = max(1, archive.stat().st_size)
    if number > MOST_FILES:
        problem = f"holds more than {MOST_FILES:,} files, which is the limit"
    elif total > MOST_BYTES:
        problem = f"unpacks to more than {MOST_BYTES / 1e9:,.0f} GB, which is the limit"
    elif total > FREE_OF_RATIO and total > GREATEST_RATIO * packed:
        problem = (
            f"unpacks to {total / packed:,.0f} times its size, as bombs do; the limit is "
            f"{GREATEST_RATIO} times. Unpack it yourself if you trust it and give the folder"
        )
    else:
        return
    raise DarkroomError(f"The archive {archive} {problem}.")


def _parts(archive: Path, name: str) -> list[str]:
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    climbs = any(not part.strip(". ") for part in parts)  # Windows takes ".. " for ".."
    if plain.startswith("/") or climbs or not parts or _FORBIDDEN.search(plain):
        raise DarkroomError(
            f"The archive {archive} holds the name {name!r}, which leads out of it or is no file "
            "name."
        )
    return parts


def _copy(source: IO[bytes], file: IO[bytes], member: _Member, archive: Path) -> None:
    left = member.size
    while block := source.read(min(_BLOCK, left + 1)):
        left -= len(block)
        if left < 0:
            raise DarkroomError(
                f"The archive {archive} lies about the size of {member.name!r}; it was not "
                "unpacked."
            )
        file.write(block)


# -- Pictures inside Parquet and Arrow files


TABLE = "labels.csv"
_ENDINGS = {"JPEG": "jpg", "TIFF": "tif", "PPM": "ppm", "JPEG XL": "jxl"}


def find_pictures(raw: Path, files: Sequence[ListedFile]) -> list[str]:
    """Returns the Parquet and Arrow files that hold pictures."""
    import pyarrow

    paths = []
    for file in files:
        if file.problem is not None or not file.path.lower().endswith((".parquet", ".arrow")):
            continue
        try:
            with _parquet_opened(raw / file.path) as (schema, _):
                if table_files.picture_columns(schema):
                    paths.append(file.path)
        except (OSError, ValueError, pyarrow.ArrowException):
            continue  # what cannot be read is named when it is read as a table
    return paths


def unpack_pictures(root: Path, paths: Sequence[str], target: Path) -> int:
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
                for data, *cells in rows:
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
    return (
        table_files.split_of_table(path.stem) or table_files.split_of_table(path.parent.name) or ""
    )


@contextlib.contextmanager
def _parquet_opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The schema of a file, and a function from names of columns to its batches."""
    import pyarrow
    import pyarrow.parquet as parquet

    if path.suffix.lower() == ".arrow":
        with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
            yield stream.schema, lambda columns: (batch.select(columns) for batch in stream)
    else:
        with parquet.ParquetFile(path) as file:
            read = functools.partial(file.iter_batches, batch_size=64)
            yield file.schema_arrow, lambda columns: read(columns=columns)


def _batches(path: Path) -> Iterator[tuple[list[str], Iterator[tuple]]]:
    """The names of the columns beside the picture, and rows of the picture's bytes and these."""
    with _parquet_opened(path) as (schema, batches):
        pictures = table_files.picture_columns(schema)
        image = next((name for name in pictures if name in ("image", "img")), pictures[0])
        others = [name for name in schema.names if name not in pictures]
        classes = _class_names(schema.metadata or {})
        for batch in batches([image, *others]):
            values = batch.to_pydict()
            cells = [[_cell(cell, classes.get(name)) for cell in values[name]] for name in others]
            data = [one.get("bytes") if isinstance(one, dict) else one for one in values[image]]
            yield others, zip(data, *cells, strict=True)


def _cell(value: Any, names: list[str] | None) -> str:
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return table_files.cell_text(value)


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
