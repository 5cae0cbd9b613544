"""Transfer of data sets to and from MongoDB's GridFS: parallel, resumable, verified by hash.

A data set is a GridFS bucket `darkroom.<name>` that any driver reads: an image is one file under
its path, with its sha256 in the metadata. `darkroom.sets` says which sets are complete.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import math
import os
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas

from lib import files, hashing, paths
from lib import files as files_module
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.dataset import Dataset
from lib.errors import DarkroomError, suggest

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

URL = "DARKROOM_MONGO"
"""The environment variable with the server's address, such as
mongodb://user:password@host:27017/database.
"""

_SELECTION_MS = 3000


class Bucket:
    """The bucket `darkroom.<name>`, read and written through `gridfs.GridFSBucket`.

    `entries` holds the complete images by path and sha256, as of the last `refresh`. An image's id
    follows from its path and bytes, so writing it twice changes nothing.
    """

    def __init__(self, name: str, patience_s: float) -> None:
        paths.dataset(name)  # refuses a name that cannot be a folder
        from gridfs import GridFSBucket
        from pymongo import WriteConcern

        self.name, self._patience = name, patience_s
        self._client, database, self.address = _connect()
        durable = {"write_concern": WriteConcern(w=1, j=True)}
        bucket = f"darkroom.{name}"
        self._grid = GridFSBucket(database, bucket_name=bucket, **durable)
        self._files, self._chunks, self._rows = (
            database.get_collection(f"{bucket}.{part}", **durable)
            for part in ("files", "chunks", "rows")
        )
        self._sets = database.get_collection("darkroom.sets", **durable)
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}

    def __enter__(self) -> Bucket:
        """Returns the bucket itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        self._client.close()

    def begin(self) -> None:
        """Records that the data set is being written."""
        unfinished = {"$set": {"complete": False}}
        self._retry(lambda: self._sets.update_one({"_id": self.name}, unfinished, upsert=True))
        self.refresh()

    def refresh(self) -> None:
        """Reads which images are in the store with all their chunks."""
        per_file = [{"$group": {"_id": "$files_id", "number": {"$sum": 1}}}]
        chunks = self._retry(lambda: list(self._chunks.aggregate(per_file)))
        counts = {row["_id"]: row["number"] for row in chunks}
        self.entries = {
            (entry["filename"], sha256_of(entry)): entry
            for entry in self._retry(lambda: list(self._files.find({})))
            if counts.get(entry["_id"], 0) == _num_chunks(entry)
            and entry["_id"] == _id(entry["filename"], sha256_of(entry))
        }

    def has(self, path: str, sha256: str) -> bool:
        """Whether the image is in the store with these bytes."""
        return (path, sha256) in self.entries

    def write(self, batch: Sequence[tuple[str, Path]]) -> int:
        """Writes images, each with its chunks before its entry."""
        for path, file in batch:
            data = file.read_bytes()
            self._retry(lambda path=path, data=data: self._upload(path, data))
        return len(batch)

    def _upload(self, path: str, data: bytes) -> None:
        from gridfs.errors import NoFile

        sha256 = hashlib.sha256(data).hexdigest()
        owner, metadata = _id(path, sha256), {"sha256": sha256}
        files_module.point("gridfs:chunks")
        with contextlib.suppress(NoFile):  # of an earlier attempt, perhaps without some chunks
            self._grid.delete(owner)
        self._grid.upload_from_stream_with_id(owner, path, data, metadata=metadata)
        files_module.point("gridfs:files")

    def read(self, batch: Sequence[Mapping[str, Any]], raw: Path) -> int:
        """Reads images into `raw`, each checked by its hash."""
        from gridfs.errors import CorruptGridFile, NoFile

        for entry in batch:
            try:
                data = self._retry(
                    lambda entry=entry: self._grid.open_download_stream(entry["_id"]).read()
                )
            except (CorruptGridFile, NoFile):
                data = None
            if data is None or hashlib.sha256(data).hexdigest() != sha256_of(entry):
                raise DarkroomError(
                    f"{entry['filename']!r} of {self.name!r} is damaged in the store. Put the data "
                    "set again."
                )
            target = local_path(raw, entry["filename"])
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f"{files_module.ASIDE}{entry['_id']}")
            aside.write_bytes(data)
            files_module.point("gridfs:read")
            aside.replace(target)
        return len(batch)

    def drop_all_but(self, wanted: Mapping[str, str]) -> None:
        """Deletes images other than the wanted ones (path: sha256), and chunks without an entry."""
        keep = {_id(path, sha256) for path, sha256 in wanted.items()}
        stored = self._retry(lambda: {entry["_id"] for entry in self._files.find({}, {"_id": 1})})
        if surplus := sorted(stored - keep):
            self._retry(lambda: self._files.delete_many({"_id": {"$in": surplus}}))
            files_module.point("gridfs:dropped")
        expected = sum(_num_chunks(self.entries[item]) for item in wanted.items())
        if self._retry(lambda: self._chunks.count_documents({})) != expected:
            owners = self._retry(lambda: set(self._chunks.distinct("files_id")))
            orphans = sorted(owners - keep)
            self._retry(lambda: self._chunks.delete_many({"files_id": {"$in": orphans}}))

    def write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replaces the manifest by these rows, each with its path as id."""
        from pymongo import ReplaceOne

        operations = [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows]
        for start in range(0, len(rows), 1000):
            part = operations[start : start + 1000]
            self._retry(lambda part=part: self._rows.bulk_write(part, ordered=False))
            files_module.point("gridfs:rows")
        stored = self._retry(lambda: {row["_id"] for row in self._rows.find({}, {"_id": 1})})
        if surplus := sorted(stored - {row["_id"] for row in rows}):
            self._retry(lambda: self._rows.delete_many({"_id": {"$in": surplus}}))

    def rows(self, expected: int) -> list[dict[str, Any]]:
        """Returns the manifest's rows in order. Raises DarkroomError if some are missing."""
        documents = self._retry(lambda: list(self._rows.find({})))
        if len(documents) != expected:
            raise DarkroomError(
                f"The store holds {len(documents)} manifest rows of {self.name!r}, not {expected}. "
                "Put it again."
            )
        return sorted(documents, key=lambda row: row["order"])

    def finish(self, about: dict[str, Any]) -> None:
        """Records that the data set is complete."""
        whole = {"_id": self.name, "complete": True, "put": datetime.now(UTC), **about}
        self._retry(lambda: self._sets.replace_one({"_id": self.name}, whole, upsert=True))
        files_module.point("gridfs:set")

    def about(self) -> dict[str, Any]:
        """Returns the record of the data set and refreshes `entries`.

        Raises DarkroomError if the data set is missing or incomplete.
        """
        document = self._retry(lambda: self._sets.find_one({"_id": self.name}))
        if document is None:
            known = names()
            raise DarkroomError(
                f"The store has no data set {self.name!r}; it has {', '.join(known) or 'none'}."
                f"{suggest(self.name, known)}"
            )
        if not document.get("complete"):
            raise DarkroomError(
                f"The data set {self.name!r} is incomplete in the store. Put it again, then get it."
            )
        self.refresh()
        return document

    def _retry(self, work: Callable[[], Any]) -> Any:
        """Calls `work`, which may be repeated, and waits for a server that is away."""
        from gridfs.errors import FileExists
        from pymongo import errors

        until = time.monotonic() + self._patience
        while True:
            try:
                return work()
            # Network and server selection are reconnections, too; a file exists where the driver
            # repeated a write whose answer was lost.
            except (errors.AutoReconnect, FileExists) as error:
                if time.monotonic() > until:
                    raise DarkroomError(
                        f"The server at {self.address} does not answer ({type(error).__name__}). "
                        "The same command continues where it stopped."
                    ) from None
                time.sleep(0.2)
            except errors.OperationFailure as error:
                why = (error.details or {}).get("errmsg", type(error).__name__)
                raise DarkroomError(f"The server at {self.address} refuses: {why}") from None


def names() -> list[str]:
    """Returns the names of the data sets in the store that are complete, sorted."""
    client, database, _ = _connect()
    with client:
        return sorted(
            row["_id"] for row in database["darkroom.sets"].find({"complete": True}, {"_id": 1})
        )


def local_path(raw: Path, name: str) -> Path:
    """Returns the path of a stored file. Raises DarkroomError if it leads out of `raw`."""
    pure = PurePosixPath(name)
    climbs = pure.is_absolute() or ".." in pure.parts or not pure.parts or ":" in pure.parts[0]
    if climbs or "\\" in name or "\0" in name:
        raise DarkroomError(
            f"The store holds the name {name!r}, which leads out of the data set; it is not read."
        )
    return raw / pure


def _connect() -> tuple[MongoClient, Database, str]:
    try:
        import pymongo
    except ImportError:
        raise DarkroomError(
            "Data sets in MongoDB need the package pymongo: pip install pymongo"
        ) from None
    url = os.environ.get(URL, "")
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise DarkroomError(
            f"Put the server's address into the environment variable {URL}, such as "
            "mongodb://localhost:27017/darkroom."
        )
    try:
        client = pymongo.MongoClient(
            url, serverSelectionTimeoutMS=_SELECTION_MS, socketTimeoutMS=60_000, tz_aware=True
        )
    except (pymongo.errors.PyMongoError, ValueError) as error:
        raise DarkroomError(
            f"The address in {URL} is none of MongoDB's ({type(error).__name__})."
        ) from None
    address = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    return client, client.get_default_database("darkroom"), address


def _id(path: str, sha256: str) -> Any:
    from bson import ObjectId

    return ObjectId(hashlib.sha256(f"{path}\0{sha256}".encode()).digest()[:12])


def sha256_of(entry: Mapping[str, Any]) -> str:
    """Returns the sha256 stored with an entry, or ""."""
    return str((entry.get("metadata") or {}).get("sha256", ""))


def _num_chunks(entry: Mapping[str, Any]) -> int:
    return math.ceil(entry["length"] / entry["chunkSize"])


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
            sizes = {path: local[path].stat().st_size for path in missing}
            batches = [[(path, local[path]) for path in batch] for batch in _batches(sizes)]
            _parallel(store.write, batches, threads, lambda num: tell(f"{num:,} images written"))
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
        num_bytes = sum(place.stat().st_size for place in local.values())
        about = {"images": len(wanted), "bytes": num_bytes, "rows": len(rows), "types": types}
        store.finish({**about, "digest": _digest(wanted.items()), "source": dataset.source})
    return Transfer(len(wanted), num_bytes, moved, time.monotonic() - began)


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
        missing = {n: entry for n, entry in enumerate(entries) if not _is_here(raw, entry)}
        sizes = {number: entry["length"] for number, entry in missing.items()}
        batches = [[missing[number] for number in batch] for batch in _batches(sizes)]
        read = functools.partial(store.read, raw=raw)
        _parallel(read, batches, threads, lambda num: tell(f"{num:,} images read"))
        _write_manifest(folder, store.rows(about["rows"]), about["types"])
    for place in {folder, *(file.parent for file in raw.rglob(f"{files.ASIDE}*"))}:
        files.clear_aside(place)
    if hasattr(os, "sync"):
        os.sync()  # the images are on the disk before the data set counts as whole
    source = {**about["source"], "path": "raw", "mode": "copy", "put": str(about["put"])}
    there = datasets.register(folder.name, {**source, "from": f"gridfs {store.address}"})
    seconds = time.monotonic() - began
    return there, Transfer(len(entries), int(about["bytes"]), len(missing), seconds)


def _sha256(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(wanted: Iterable[tuple[str, str]]) -> str:
    return hashing.digest(*(f"{path}\0{sha}" for path, sha in sorted(wanted)))


def _is_here(raw: Path, entry: Mapping[str, Any]) -> bool:
    place = local_path(raw, entry["filename"])
    return (
        place.is_file()
        and place.stat().st_size == entry["length"]
        and _sha256(place) == sha256_of(entry)
    )


def _batches(sizes: Mapping[Any, int]) -> Iterator[list[Any]]:
    """Parts of the keys, each of at most `_BATCH_FILES` files and about `_BATCH_BYTES` bytes."""
    batch, size = [], 0
    for key, num_bytes in sizes.items():
        batch.append(key)
        size += num_bytes
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parallel(
    work: Callable[[Any], int],
    batches: Sequence[Any],
    threads: int,
    tell: Callable[[int], None],
) -> None:
    """Does the batches on threads; the first error ends it."""
    done, last = 0, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, batch) for batch in batches]
        try:
            for future in concurrent.futures.as_completed(futures):
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
    if not dataset.cleaned():
        return [], {}
    table = dataset.manifest()
    columns = {name: [_plain(value) for value in table[name]] for name in table.columns}
    cells = zip(*columns.values(), strict=True)
    rows = [
        {"_id": row[0], "order": number, "row": dict(zip(columns, row, strict=True))}
        for number, row in enumerate(cells)
    ]  # the path is the first column
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
        kinds = {name: kind for name, kind in types.items() if name.startswith("attr_")}
        manifest.write(folder, table.astype(kinds))
