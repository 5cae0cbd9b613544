"""Atomic file operations: written aside, flushed to disk, then renamed.

Every write passes two named points, `<name>:written` and `<name>:renamed`. A fault test sets
`DARKROOM_FAULT` to one of them (`result.json:written`, or `result.json:written#3` for the third
time) and the process is killed there, as by a power cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

ASIDE = ".aside-"
"""Prefix of everything that is being written; whatever carries it is not there yet and may be
deleted.
"""

_PAUSES_S = (0.01, 0.05, 0.25, 1.0) if os.name == "nt" else ()
"""Longest wait for a reader to close the file: Windows does not rename over an open file."""

_passed: Counter[str] = Counter()
_NUMBER = r"[\d.,]+(?:e[+-]?\d+)?"
_FORMULA = re.compile(rf"[=@\t\r]|[+-](?!(?:{_NUMBER}(?: to [+-]?{_NUMBER})?)?$)")


def point(name: str) -> None:
    """Dies by SIGKILL here when the environment variable `DARKROOM_FAULT` names this point;
    otherwise does nothing.
    """
    wanted = os.environ.get("DARKROOM_FAULT")
    if not wanted:
        return
    _passed[name] += 1
    if wanted in (name, f"{name}#{_passed[name]}"):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`; a reader sees the old file or the new one, never a part."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON; NaN and infinity are refused, since other readers refuse
    them.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Returns a JSON file's content, or None where there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def write_parquet(
    path: Path, frame: pandas.DataFrame, *, metadata: dict[str, Any] | None = None
) -> None:
    """Writes a table without its index; `metadata` is stored as JSON under the schema key
    `darkroom`, with a checksum of the whole file.
    """
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    if metadata is not None:
        sealed = {**metadata, "sha256": "0" * 64}
        noted = {b"darkroom": json.dumps(sealed, ensure_ascii=False).encode()}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **noted})
    with replacing(path) as aside:
        pyarrow.parquet.write_table(table, aside, write_page_checksum=True)
        if metadata is not None:
            content = aside.read_bytes()
            aside.write_bytes(_with_seal(content, hashlib.sha256(content).hexdigest()))


_SEAL = b'"sha256": "'


def _with_seal(content: bytes, seal: str) -> bytes:
    """A Parquet file's bytes with another seal in its metadata."""
    start = content.rfind(_SEAL) + len(_SEAL)
    return content[:start] + seal.encode() + content[start + 64 :]


def is_sealed(path: Path) -> bool:
    """Returns whether a table of `write_parquet` is as it was written; those of before have no
    seal.
    """
    content = path.read_bytes()
    start = content.rfind(_SEAL) + len(_SEAL)
    if start < len(_SEAL):
        return True
    known = content[start : start + 64].decode("ascii", "replace")
    return hashlib.sha256(_with_seal(content, "0" * 64)).hexdigest() == known


def read_cache(path: Path) -> tuple[pandas.DataFrame, dict[str, Any]] | None:
    """Returns a cached table and its metadata, or None where there is none or it is damaged.

    What is damaged is to be computed again; pages are checked against their checksums.
    """
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, page_checksum_verification=True, use_threads=False)
        table.validate(full=True)
        metadata = json.loads((table.schema.metadata or {}).get(b"darkroom", b"{}"))
        if not isinstance(metadata, dict) or not is_sealed(path):
            return None
        metadata.pop("sha256", None)
        return table.to_pandas(), metadata
    except (pyarrow.ArrowException, ArithmeticError, ValueError, TypeError, KeyError, OSError):
        return None


def write_csv(path: Path, frame: pandas.DataFrame) -> None:
    """Writes a table without its index, for people: see `harmless`."""
    write_text(path, harmless(frame).to_csv(index=False, lineterminator="\n"))


def harmless(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Returns a table in which a text that a spreadsheet would compute starts with an
    apostrophe.
    """

    def cell(value: Any) -> Any:
        is_formula = isinstance(value, str) and _FORMULA.match(value)
        return f"'{value}" if is_formula else value

    texts = {name: frame[name].map(cell) for name in frame if frame[name].dtype.kind not in "biufM"}
    return frame.assign(**texts).rename(columns=cell)


def append_line(path: Path, text: str) -> None:
    """Appends one line in one write and flushes it; a torn last line can only come from a full or
    dying disk.
    """
    if "\n" in text:
        raise ValueError(f"a line must not hold a line end. Received: {text!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(text.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    point(f"{path.name}:appended")


@contextlib.contextmanager
def directory(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` and renames it to `path` when the block ends well; an
    old `path` is replaced.
    """
    aside = _aside_name(path)
    aside.mkdir(parents=True)
    try:
        yield aside
        for file in sorted(aside.rglob("*")):
            if file.is_file():
                _flush(file)
        _flush(aside)
        point(f"{path.name}:written")
        old = _aside_name(path)
        if path.exists():
            path.rename(old)  # a folder cannot be renamed over a full one
        aside.rename(path)
        _flush(path.parent)
        point(f"{path.name}:renamed")
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def plain_name(name: str) -> str:
    """Returns a file or folder name that every system allows."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip(". ") or "_"


def folder_names(names: Iterable[str]) -> dict[str, str]:
    """Returns a folder name for each name; those that a disk may not tell apart are numbered."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        folder, number = plain_name(name), 1
        while folder.casefold() in taken:
            number += 1
            folder = f"{plain_name(name)} {number}"
        taken.add(folder.casefold())
        folders[name] = folder
    return folders


def clear_aside(folder: Path) -> None:
    """Deletes what an interrupted writer left in `folder` (not below it). Call it only under the
    folder's lock.
    """
    for left in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write the new content to; it is flushed and takes the place of `path` when
    the block ends well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside_name(path)
    try:
        yield aside
        _flush(aside)
        point(f"{path.name}:written")
        _into_place(aside, path)
        _flush(path.parent)
        point(f"{path.name}:renamed")
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _into_place(aside: Path, path: Path) -> None:
    for pause_s in _PAUSES_S:
        try:
            aside.replace(path)
            return
        except PermissionError:
            time.sleep(pause_s)
    aside.replace(path)


def _aside_name(path: Path) -> Path:
    # The name itself may be 255 bytes long, so it does not become part of the aside name.
    return path.with_name(f"{ASIDE}{secrets.token_hex(6)}")


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle to flush a folder by
    # Windows flushes only handles that may write.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
