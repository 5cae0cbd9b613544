"""Data sets in MongoDB's GridFS: put there with their manifest, and brought back, in parallel, resumable, checked by hash.

A data set is a GridFS bucket `darkroom.<name>` that any driver reads: an image is one file under its path, with its sha256 in
the metadata. An image's id follows from its path and bytes, so whatever is written twice is the same document; its chunks come
first and its file entry after them, so no reader ever meets half an image. `darkroom.sets` says what is complete.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import math
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas

from lib import atomic, fingerprint, paths
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.dataset import Dataset
from lib.errors import DarkroomError, suggest

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

NAME = "gridfs"
ABOUT = "data sets kept in MongoDB's GridFS"
LICENCE = None
URL = "DARKROOM_MONGO"
"""The environment variable with the server's address, such as mongodb://user:password@host:27017/database."""

CHUNK = 255 * 1024  # GridFS' own; larger images are divided
_BATCH_FILES, _BATCH_BYTES, _THREADS = 128, 6 << 20, 4
_PATIENCE_S, _SELECTION_MS = 60.0, 3000
_ROUNDS = 3  # how often what a dying server lost is written anew
_DUPLICATE = 11000


@dataclass(frozen=True)
class Transfer:
    """What a transfer did: images and bytes in all, images that had to be moved, seconds."""

    images: int
    num_bytes: int
    moved: int
    seconds: float


def put(
    dataset: Dataset, *, threads: int = _THREADS, patience_s: float = _PATIENCE_S, tell: Callable[[str], None] = print
) -> Transfer:
    """Makes the store hold the data set as it is here: its raw files, and its manifest where it has been cleaned.

    What is there already is left; what is no longer here is deleted there at the end. Called again after a stop, it goes on.

    Raises:
        DarkroomError: no server in the environment, or one that does not answer for `patience_s` seconds.
    """
    began = time.monotonic()
    local = {file.path: dataset.raw / file.path for file in dataset.files() if file.problem is None}
    wanted = {path: _sha256(place) for path, place in local.items()}
    moved = 0
    with _Store(dataset.name, patience_s) as store:
        store.begin()
        for _ in range(_ROUNDS):
            missing = [path for path, sha in wanted.items() if not store.has(path, sha)]
            if not missing:
                break
            _parallel(store.write, _batches(local, missing), threads, lambda done: tell(f"{done:,} images written"))
            moved += len(missing)
            store.look()
        if lost := [path for path, sha in wanted.items() if not store.has(path, sha)]:
            raise DarkroomError(f"The server took {len(lost)} images and has lost them, such as {lost[0]!r}. Put it again.")
        store.drop_all_but(wanted)
        rows, types = _rows(dataset)
        store.write_rows(rows)
        sizes = sum(place.stat().st_size for place in local.values())
        about = {"images": len(wanted), "bytes": sizes, "rows": len(rows), "types": types, "digest": _digest(wanted.items())}
        store.finish({**about, "source": dataset.source})
    return Transfer(len(wanted), sizes, moved, time.monotonic() - began)


def get(
    name: str, *, called: str | None = None, threads: int = _THREADS, patience_s: float = _PATIENCE_S,
    tell: Callable[[str], None] = print,
) -> tuple[Dataset, Transfer]:  # fmt: skip
    """Brings a data set back into `datasets/<called or name>`; every image is held against its hash.

    Images that are here already are left, so a transfer that was stopped goes on. A manifest comes back as it was put.

    Raises:
        DarkroomError: no server, no such data set, one whose `put` did not end, a name that is taken, an image that is
            damaged in the store.
    """
    began = time.monotonic()
    with _Store(name, patience_s) as store:
        about = store.about()
        folder = paths.dataset(called or name)
        if (folder / datasets.SOURCE).is_file() or ((folder / "raw").exists() and not (folder / datasets.UNFINISHED).exists()):
            raise DarkroomError(f"There is a data set {folder.name!r} here; it is not overwritten. Give called='another name'.")
        raw = folder / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        (folder / datasets.UNFINISHED).touch()
        entries = list(store.entries.values())
        if len(entries) != about["images"] or _digest(store.entries) != about["digest"]:
            raise DarkroomError(f"The store holds {len(entries)} images of {name!r}, not those it says. Put it again.")
        missing = [each for each in entries if not _is_here(raw, each)]
        batches = [missing[start : start + _BATCH_FILES] for start in range(0, len(missing), _BATCH_FILES)]
        _parallel(lambda batch: store.read(batch, raw), batches, threads, lambda done: tell(f"{done:,} images read"))
        _write_manifest(folder, store.rows(about["rows"]), about["types"])
    for place in {folder, *(file.parent for file in raw.rglob(f"{atomic.ASIDE}*"))}:
        atomic.clear_aside(place)
    _flush_disk()
    source = {**about["source"], "path": "raw", "mode": "copy", "from": f"gridfs {store.address}", "put": str(about["put"])}
    there = datasets.register(folder.name, source)
    return there, Transfer(len(entries), int(about["bytes"]), len(missing), time.monotonic() - began)


def names() -> list[str]:
    """Returns the names of the data sets in the store that are complete, sorted."""
    client, database, _ = _connect()
    with client:
        return sorted(each["_id"] for each in database["darkroom.sets"].find({"complete": True}, {"_id": 1}))


class _Store:
    """One data set's bucket."""

    def __init__(self, name: str, patience_s: float) -> None:
        paths.dataset(name)  # refuses a name that cannot be a folder
        from pymongo import WriteConcern

        self.name, self._patience = name, patience_s
        self._client, database, self.address = _connect()
        kept = {"write_concern": WriteConcern(w=1, j=True)}
        bucket = f"darkroom.{name}"
        self._files, self._chunks, self._rows = (
            database.get_collection(f"{bucket}.{part}", **kept) for part in ("files", "chunks", "rows")
        )
        self._sets = database.get_collection("darkroom.sets", **kept)
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}

    def __enter__(self) -> _Store:
        """Returns the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        self._client.close()

    def begin(self) -> None:
        """Notes that the set is being written, and makes GridFS' indexes."""
        self._patiently(lambda: self._files.create_index([("filename", 1), ("uploadDate", 1)]))
        self._patiently(lambda: self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True))
        self._patiently(lambda: self._sets.update_one({"_id": self.name}, {"$set": {"complete": False}}, upsert=True))
        self.look()

    def look(self) -> None:
        """Reads what is there: entries all of whose chunks are there too."""
        entries = self._patiently(lambda: list(self._files.find({})))
        chunks = self._patiently(lambda: self._chunks.count_documents({}))
        if chunks != sum(_num_chunks(each["length"]) for each in entries):
            found: dict[Any, int] = {}
            for each in self._patiently(lambda: list(self._chunks.find({}, {"files_id": 1, "_id": 0}))):
                found[each["files_id"]] = found.get(each["files_id"], 0) + 1
            entries = [each for each in entries if found.get(each["_id"], 0) == _num_chunks(each["length"])]
        self.entries = {}
        for each in entries:
            if each["_id"] == _id(each["filename"], _sha_of(each)):
                self.entries[each["filename"], _sha_of(each)] = each

    def has(self, path: str, sha: str) -> bool:
        """Whether the image is there with these bytes."""
        return (path, sha) in self.entries

    def write(self, batch: Sequence[tuple[str, Path]]) -> int:
        """Writes images, their chunks before their entries; what is there already is the same and stays."""
        chunks, files = [], []
        for path, place in batch:
            data = place.read_bytes()
            sha = hashlib.sha256(data).hexdigest()
            parts = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
            owner = _id(path, sha)
            chunks += [{"_id": _id(path, sha, n), "files_id": owner, "n": n, "data": part} for n, part in enumerate(parts)]
            files.append({
                "_id": _id(path, sha), "filename": path, "length": len(data), "chunkSize": CHUNK,
                "uploadDate": datetime.now(UTC), "metadata": {"sha256": sha},
            })  # fmt: skip
        if chunks:
            self._patiently(lambda: _insert(self._chunks, chunks))
        atomic.point("gridfs:chunks")
        self._patiently(lambda: _insert(self._files, files))
        atomic.point("gridfs:files")
        return len(batch)

    def read(self, batch: Sequence[Mapping[str, Any]], raw: Path) -> int:
        """Reads images, holds each against its hash and writes it into `raw`."""
        ids = [each["_id"] for each in batch]
        parts: dict[Any, dict[int, bytes]] = {}
        for chunk in self._patiently(lambda: list(self._chunks.find({"files_id": {"$in": ids}}))):
            parts.setdefault(chunk["files_id"], {})[chunk["n"]] = chunk["data"]
        for each in batch:
            data = b"".join(data for _, data in sorted(parts.get(each["_id"], {}).items()))
            if hashlib.sha256(data).hexdigest() != _sha_of(each):
                raise DarkroomError(f"{each['filename']!r} of {self.name!r} is damaged in the store. Put the data set again.")
            place = _place(raw, each["filename"])
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f"{atomic.ASIDE}{each['_id']}")
            aside.write_bytes(data)
            atomic.point("gridfs:read")
            aside.replace(place)
        return len(batch)

    def drop_all_but(self, wanted: Mapping[str, str]) -> None:
        """Deletes entries of images that are not wanted, then chunks that belong to no entry."""
        keep = [_id(path, sha) for path, sha in wanted.items()]
        there = self._patiently(lambda: [each["_id"] for each in self._files.find({}, {"_id": 1})])
        gone = sorted(set(there) - set(keep))
        if gone:
            self._patiently(lambda: self._files.delete_many({"_id": {"$in": gone}}))
            atomic.point("gridfs:dropped")
        expected = sum(_num_chunks(self.entries[item]["length"]) for item in wanted.items())
        if self._patiently(lambda: self._chunks.count_documents({})) != expected:
            owners = self._patiently(lambda: {each["files_id"] for each in self._chunks.find({}, {"files_id": 1, "_id": 0})})
            orphans = sorted(owners - set(keep))
            self._patiently(lambda: self._chunks.delete_many({"files_id": {"$in": orphans}}))

    def write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replaces the manifest by these rows, each under its path."""
        from pymongo import ReplaceOne

        for start in range(0, len(rows), 1000):
            part = [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows[start : start + 1000]]
            self._patiently(lambda part=part: self._rows.bulk_write(part, ordered=False))
            atomic.point("gridfs:rows")
        there = self._patiently(lambda: {each["_id"] for each in self._rows.find({}, {"_id": 1})})
        if gone := sorted(there - {row["_id"] for row in rows}):
            self._patiently(lambda: self._rows.delete_many({"_id": {"$in": gone}}))

    def rows(self, expected: int) -> list[dict[str, Any]]:
        """Returns the manifest's rows in their order. Raises DarkroomError where there are not as many as were put."""
        found = self._patiently(lambda: list(self._rows.find({})))
        if len(found) != expected:
            raise DarkroomError(f"The store holds {len(found)} manifest rows of {self.name!r}, not {expected}. Put it again.")
        return sorted(found, key=lambda row: row["order"])

    def finish(self, about: dict[str, Any]) -> None:
        """Notes that the set is complete."""
        whole = {"_id": self.name, "complete": True, "put": datetime.now(UTC), **about}
        self._patiently(lambda: self._sets.replace_one({"_id": self.name}, whole, upsert=True))
        atomic.point("gridfs:set")

    def about(self) -> dict[str, Any]:
        """Returns what is noted of the set, and looks at its entries. Raises DarkroomError where it is not complete."""
        found = self._patiently(lambda: self._sets.find_one({"_id": self.name}))
        if found is None:
            known = names()
            has = ", ".join(known) or "none"
            raise DarkroomError(f"The store has no data set {self.name!r}; it has {has}.{suggest(self.name, known)}")
        if not found.get("complete"):
            raise DarkroomError(f"The data set {self.name!r} was not put to its end. Put it again, then get it.")
        self.look()
        return found

    def _patiently(self, work: Callable[[], Any]) -> Any:
        """Does what may be done twice; a server that is away is waited for."""
        from pymongo import errors

        until = time.monotonic() + self._patience
        while True:
            try:
                return work()
            except (errors.AutoReconnect, errors.NetworkTimeout, errors.ServerSelectionTimeoutError) as error:
                if time.monotonic() > until:
                    raise DarkroomError(
                        f"The server at {self.address} does not answer ({type(error).__name__}). What was done stands; the "
                        "same call goes on from there."
                    ) from None
                time.sleep(0.2)
            except errors.OperationFailure as error:
                why = (error.details or {}).get("errmsg", type(error).__name__)
                raise DarkroomError(f"The server at {self.address} refuses: {why}") from None


def _connect() -> tuple[MongoClient, Database, str]:
    try:
        import pymongo
    except ImportError:
        raise DarkroomError("Data sets in MongoDB need the package pymongo: pip install 'darkroom[mongo]'") from None
    url = os.environ.get(URL, "")
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise DarkroomError(
            f"Put the server's address into the environment variable {URL}, such as mongodb://localhost:27017/darkroom."
        )
    try:
        client = pymongo.MongoClient(url, serverSelectionTimeoutMS=_SELECTION_MS, socketTimeoutMS=60_000, tz_aware=True)
    except (pymongo.errors.PyMongoError, ValueError) as error:
        raise DarkroomError(f"The address in {URL} is none of MongoDB's ({type(error).__name__}).") from None
    address = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    return client, client.get_default_database("darkroom"), address


def _insert(collection: Any, documents: list[dict[str, Any]]) -> None:
    """Inserts; a document that is there under its id is the same one, of an attempt before."""
    from pymongo.errors import BulkWriteError

    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]):
            raise


def _id(path: str, sha: str, part: int | None = None) -> Any:
    from bson import ObjectId

    named = f"{path}\0{sha}" if part is None else f"{path}\0{sha}\0{part}"
    return ObjectId(hashlib.sha256(named.encode()).digest()[:12])


def _sha_of(entry: Mapping[str, Any]) -> str:
    return str((entry.get("metadata") or {}).get("sha256", ""))


def _num_chunks(length: int) -> int:
    return math.ceil(length / CHUNK)


def _sha256(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(wanted: Iterable[tuple[str, str]]) -> str:
    return fingerprint.digest(*(f"{path}\0{sha}" for path, sha in sorted(wanted)))


def _place(raw: Path, name: str) -> Path:
    """The path of a file of the store, which must not lead out of `raw`, whoever wrote it there."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in name or "\0" in name or ":" in pure.parts[0]:
        raise DarkroomError(f"The store holds the name {name!r}, which leads out of the data set; it is not read.")
    return raw / pure


def _is_here(raw: Path, entry: Mapping[str, Any]) -> bool:
    place = _place(raw, entry["filename"])
    return place.is_file() and place.stat().st_size == entry["length"] and _sha256(place) == _sha_of(entry)


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


def _parallel(work: Callable[[Any], int], batches: Any, threads: int, tell: Callable[[int], None]) -> None:
    """Does the batches on threads, few more in hand than there are threads; the first error ends it."""
    done, room, last = 0, threading.Semaphore(2 * threads), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        futures = []
        for batch in batches:
            room.acquire()
            future = pool.submit(work, batch)
            future.add_done_callback(lambda _: room.release())
            futures.append(future)
            if any(each.done() and each.exception() for each in futures[-4 * threads :]):
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
    """The manifest as documents with the types of its columns; none where the data set has not been cleaned."""
    if not (dataset.folder / manifest.FILE).is_file():
        return [], {}
    table = dataset.manifest()
    columns = {name: [_plain(value) for value in table[name]] for name in table.columns}
    rows = [{"_id": path, "order": number, "row": {name: values[number] for name, values in columns.items()}}
            for number, path in enumerate(columns["path"])]  # fmt: skip
    return rows, {name: str(kind) for name, kind in table.dtypes.items()}


def _plain(value: Any) -> Any:
    """A cell as MongoDB stores it: missing values as null, NumPy's numbers as Python's."""
    if isinstance(value, list):
        return [str(each) for each in value]
    if value is None or value != value or value is pandas.NA:
        return None
    return value.item() if hasattr(value, "item") else value


def _write_manifest(folder: Path, rows: Sequence[dict[str, Any]], types: Mapping[str, str]) -> None:
    if rows:
        table = pandas.DataFrame([each["row"] for each in rows])
        manifest.write(folder, table.astype({name: types[name] for name in types if name.startswith("attr_")}))


def _flush_disk() -> None:
    if hasattr(os, "sync"):
        os.sync()
