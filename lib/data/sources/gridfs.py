"""Transfer of data sets to and from MongoDB's GridFS: parallel, resumable, verified by hash.

A data set is a GridFS bucket `darkroom.<name>` that any driver reads: an image is one file under
its path, with its sha256 in the metadata. `darkroom.sets` says which sets are complete.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from lib import files, hashing, paths
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.dataset import Dataset
from lib.data.sources import gridfs_bucket
from lib.data.sources.gridfs_bucket import URL, Bucket, names, sha256_of
from lib.errors import DarkroomError

__all__ = ["URL", "Transfer", "get", "names", "put"]

NAME = "gridfs"
ABOUT = "data sets kept in MongoDB's GridFS"
LICENCE = None
_BATCH_FILES, _BATCH_BYTES, _THREADS = 128, 6 << 20, 4
_PATIENCE_S = 60.0
_ROUNDS = 3  # attempts to rewrite what a dying server lost


@dataclass(frozen=True)
class Transfer:
    """Statistics of a transfer: images and bytes in all, images that had to be moved, seconds."""

    images: int
    num_bytes: int
    moved: int
    seconds: float


def put(
    dataset: Dataset,
    *,
    threads: int = _THREADS,
    patience_s: float = _PATIENCE_S,
    tell: Callable[[str], None] = print,
) -> Transfer:
    """Makes the store hold the data set as it is here: its raw files, and its manifest where it has
    been cleaned.

    What is there already is left; what is no longer here is deleted there at the end. Called again
    after a stop, it goes on.

    Raises:
        DarkroomError: no server in the environment, or one that does not answer for `patience_s`
            seconds.
    """
    began = time.monotonic()
    local = {file.path: dataset.raw / file.path for file in dataset.files() if file.problem is None}
    wanted = {path: _sha256(place) for path, place in local.items()}
    moved = 0
    with Bucket(dataset.name, patience_s) as store:
        store.begin()
        for _ in range(_ROUNDS):
            missing = [path for path, sha in wanted.items() if not store.has(path, sha)]
            if not missing:
                break
            _parallel(
                store.write,
                _batches(local, missing),
                threads,
                lambda done: tell(f"{done:,} images written"),
            )
            moved += len(missing)
            store.refresh()
        if lost := [path for path, sha in wanted.items() if not store.has(path, sha)]:
            raise DarkroomError(
                f"The server took {len(lost)} images and has lost them, such as {lost[0]!r}. Put "
                "it again."
            )
        store.drop_all_but(wanted)
        rows, types = _rows(dataset)
        store.write_rows(rows)
        sizes = sum(place.stat().st_size for place in local.values())
        about = {
            "images": len(wanted),
            "bytes": sizes,
            "rows": len(rows),
            "types": types,
            "digest": _digest(wanted.items()),
        }
        store.finish({**about, "source": dataset.source})
    return Transfer(len(wanted), sizes, moved, time.monotonic() - began)


def get(
    name: str,
    *,
    called: str | None = None,
    threads: int = _THREADS,
    patience_s: float = _PATIENCE_S,
    tell: Callable[[str], None] = print,
) -> tuple[Dataset, Transfer]:
    """Brings a data set back into `datasets/<called or name>`; every image is held against its
    hash.

    Images that are here already are kept, so a stopped transfer continues. A manifest comes
    back as it was put.

    Raises:
        DarkroomError: no server, no such data set, one whose `put` did not end, a name that is
            taken, an image that is damaged in the store.
    """
    began = time.monotonic()
    with Bucket(name, patience_s) as store:
        about = store.about()
        folder = paths.dataset(called or name)
        if (folder / datasets.SOURCE).is_file() or (
            (folder / "raw").exists() and not (folder / datasets.UNFINISHED).exists()
        ):
            raise DarkroomError(
                f"There is a data set {folder.name!r} here; it is not overwritten. Give "
                "called='another name'."
            )
        raw = folder / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        (folder / datasets.UNFINISHED).touch()
        entries = list(store.entries.values())
        if len(entries) != about["images"] or _digest(store.entries) != about["digest"]:
            raise DarkroomError(
                f"The store holds {len(entries)} images of {name!r}, not those it says. Put it "
                "again."
            )
        missing = [entry for entry in entries if not _is_here(raw, entry)]
        batches = [
            missing[start : start + _BATCH_FILES] for start in range(0, len(missing), _BATCH_FILES)
        ]
        _parallel(
            lambda batch: store.read(batch, raw),
            batches,
            threads,
            lambda done: tell(f"{done:,} images read"),
        )
        _write_manifest(folder, store.rows(about["rows"]), about["types"])
    for place in {folder, *(file.parent for file in raw.rglob(f"{files.ASIDE}*"))}:
        files.clear_aside(place)
    _flush_disk()
    source = {
        **about["source"],
        "path": "raw",
        "mode": "copy",
        "from": f"gridfs {store.address}",
        "put": str(about["put"]),
    }
    there = datasets.register(folder.name, source)
    return there, Transfer(
        len(entries), int(about["bytes"]), len(missing), time.monotonic() - began
    )


def _sha256(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(wanted: Iterable[tuple[str, str]]) -> str:
    return hashing.digest(*(f"{path}\0{sha}" for path, sha in sorted(wanted)))


def _is_here(raw: Path, entry: Mapping[str, Any]) -> bool:
    place = gridfs_bucket.local_path(raw, entry["filename"])
    return (
        place.is_file()
        and place.stat().st_size == entry["length"]
        and _sha256(place) == sha256_of(entry)
    )


def _batches(local: Mapping[str, Path], wanted: Sequence[str]) -> Iterator[list[tuple[str, Path]]]:
    batch: list[tuple[str, Path]] = []
    size = 0
    for path in wanted:
        batch.append((path, local[path]))
        size += local[path].stat().st_size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parallel(
    work: Callable[[Any], int], batches: Any, threads: int, tell: Callable[[int], None]
) -> None:
    """Does the batches on threads, few more in hand than there are threads; the first error ends
    it.
    """
    done, room, last = 0, threading.Semaphore(2 * threads), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        futures = []
        for batch in batches:
            room.acquire()
            future = pool.submit(work, batch)
            future.add_done_callback(lambda _: room.release())
            futures.append(future)
            if any(pending.done() and pending.exception() for pending in futures[-4 * threads :]):
                break
        try:
            for future in futures:
                done += future.result()
                if time.monotonic() - last > 2:
                    last = time.monotonic()
                    tell(done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _rows(dataset: Dataset) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The manifest as documents with the types of its columns; none where the data set has not been
    cleaned.
    """
    if not (dataset.folder / manifest.FILE).is_file():
        return [], {}
    table = dataset.manifest()
    columns = {name: [_plain(value) for value in table[name]] for name in table.columns}
    rows = [
        {
            "_id": path,
            "order": number,
            "row": {name: values[number] for name, values in columns.items()},
        }
        for number, path in enumerate(columns["path"])
    ]
    return rows, {name: str(kind) for name, kind in table.dtypes.items()}


def _plain(value: Any) -> Any:
    """A cell as MongoDB stores it: missing values as null, NumPy's numbers as Python's."""
    if isinstance(value, list):
        return [str(item) for item in value]
    if value is None or value != value or value is pandas.NA:
        return None
    return value.item() if hasattr(value, "item") else value


def _write_manifest(folder: Path, rows: Sequence[dict[str, Any]], types: Mapping[str, str]) -> None:
    if rows:
        table = pandas.DataFrame([row["row"] for row in rows])
        manifest.write(
            folder, table.astype({name: types[name] for name in types if name.startswith("attr_")})
        )


def _flush_disk() -> None:
    if hasattr(os, "sync"):
        os.sync()
