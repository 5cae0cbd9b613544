"""One data set's bucket in GridFS: what is there, what is written and read, and what may be done
twice.

An image's id follows from its path and bytes, so whatever is written twice is the same document;
its chunks come first and its file entry after them, so no reader ever meets half an image.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lib import files as files_module
from lib import paths
from lib.errors import DarkroomError, suggest

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

URL = "DARKROOM_MONGO"
"""The environment variable with the server's address, such as
mongodb://user:password@host:27017/database.
"""

CHUNK = 255 * 1024  # GridFS' own; larger images are divided
_SELECTION_MS = 3000
_DUPLICATE = 11000


class Bucket:
    """The bucket `darkroom.<name>`; `entries` holds the complete images by path and sha256, as of
    the last `look`.
    """

    def __init__(self, name: str, patience_s: float) -> None:
        paths.dataset(name)  # refuses a name that cannot be a folder
        from pymongo import WriteConcern

        self.name, self._patience = name, patience_s
        self._client, database, self.address = _connect()
        kept = {"write_concern": WriteConcern(w=1, j=True)}
        bucket = f"darkroom.{name}"
        self._files, self._chunks, self._rows = (
            database.get_collection(f"{bucket}.{part}", **kept)
            for part in ("files", "chunks", "rows")
        )
        self._sets = database.get_collection("darkroom.sets", **kept)
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}

    def __enter__(self) -> Bucket:
        """Returns the bucket itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        self._client.close()

    def begin(self) -> None:
        """Notes that the set is being written, and makes GridFS' indexes."""
        self._patiently(lambda: self._files.create_index([("filename", 1), ("uploadDate", 1)]))
        self._patiently(lambda: self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True))
        self._patiently(
            lambda: self._sets.update_one(
                {"_id": self.name}, {"$set": {"complete": False}}, upsert=True
            )
        )
        self.look()

    def look(self) -> None:
        """Reads what is there: entries all of whose chunks are there too."""
        entries = self._patiently(lambda: list(self._files.find({})))
        chunks = self._patiently(lambda: self._chunks.count_documents({}))
        if chunks != sum(_num_chunks(each["length"]) for each in entries):
            found: dict[Any, int] = {}
            for each in self._patiently(
                lambda: list(self._chunks.find({}, {"files_id": 1, "_id": 0}))
            ):
                found[each["files_id"]] = found.get(each["files_id"], 0) + 1
            entries = [
                each for each in entries if found.get(each["_id"], 0) == _num_chunks(each["length"])
            ]
        self.entries = {}
        for each in entries:
            if each["_id"] == _id(each["filename"], sha_of(each)):
                self.entries[each["filename"], sha_of(each)] = each

    def has(self, path: str, sha: str) -> bool:
        """Whether the image is there with these bytes."""
        return (path, sha) in self.entries

    def write(self, batch: Sequence[tuple[str, Path]]) -> int:
        """Writes images, their chunks before their entries; what is there already is the same and
        stays.
        """
        chunks, files = [], []
        for path, file in batch:
            data = file.read_bytes()
            sha = hashlib.sha256(data).hexdigest()
            parts = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
            owner = _id(path, sha)
            chunks += [
                {"_id": _id(path, sha, n), "files_id": owner, "n": n, "data": part}
                for n, part in enumerate(parts)
            ]
            files.append(
                {
                    "_id": _id(path, sha),
                    "filename": path,
                    "length": len(data),
                    "chunkSize": CHUNK,
                    "uploadDate": datetime.now(UTC),
                    "metadata": {"sha256": sha},
                }
            )
        if chunks:
            self._patiently(lambda: _insert(self._chunks, chunks))
        files_module.point("gridfs:chunks")
        self._patiently(lambda: _insert(self._files, files))
        files_module.point("gridfs:files")
        return len(batch)

    def read(self, batch: Sequence[Mapping[str, Any]], raw: Path) -> int:
        """Reads images, holds each against its hash and writes it into `raw`."""
        ids = [each["_id"] for each in batch]
        parts: dict[Any, dict[int, bytes]] = {}
        for chunk in self._patiently(lambda: list(self._chunks.find({"files_id": {"$in": ids}}))):
            parts.setdefault(chunk["files_id"], {})[chunk["n"]] = chunk["data"]
        for each in batch:
            data = b"".join(data for _, data in sorted(parts.get(each["_id"], {}).items()))
            if hashlib.sha256(data).hexdigest() != sha_of(each):
                raise DarkroomError(
                    f"{each['filename']!r} of {self.name!r} is damaged in the store. Put the data "
                    "set again."
                )
            target = place(raw, each["filename"])
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f"{files_module.ASIDE}{each['_id']}")
            aside.write_bytes(data)
            files_module.point("gridfs:read")
            aside.replace(target)
        return len(batch)

    def drop_all_but(self, wanted: Mapping[str, str]) -> None:
        """Deletes entries of images that are not wanted, then chunks that belong to no entry."""
        keep = [_id(path, sha) for path, sha in wanted.items()]
        there = self._patiently(lambda: [each["_id"] for each in self._files.find({}, {"_id": 1})])
        gone = sorted(set(there) - set(keep))
        if gone:
            self._patiently(lambda: self._files.delete_many({"_id": {"$in": gone}}))
            files_module.point("gridfs:dropped")
        expected = sum(_num_chunks(self.entries[item]["length"]) for item in wanted.items())
        if self._patiently(lambda: self._chunks.count_documents({})) != expected:
            owners = self._patiently(
                lambda: {
                    each["files_id"] for each in self._chunks.find({}, {"files_id": 1, "_id": 0})
                }
            )
            orphans = sorted(owners - set(keep))
            self._patiently(lambda: self._chunks.delete_many({"files_id": {"$in": orphans}}))

    def write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replaces the manifest by these rows, each under its path."""
        from pymongo import ReplaceOne

        for start in range(0, len(rows), 1000):
            part = [
                ReplaceOne({"_id": row["_id"]}, row, upsert=True)
                for row in rows[start : start + 1000]
            ]
            self._patiently(lambda part=part: self._rows.bulk_write(part, ordered=False))
            files_module.point("gridfs:rows")
        there = self._patiently(lambda: {each["_id"] for each in self._rows.find({}, {"_id": 1})})
        if gone := sorted(there - {row["_id"] for row in rows}):
            self._patiently(lambda: self._rows.delete_many({"_id": {"$in": gone}}))

    def rows(self, expected: int) -> list[dict[str, Any]]:
        """Returns the manifest's rows in their order. Raises DarkroomError where there are not as
        many as were put.
        """
        found = self._patiently(lambda: list(self._rows.find({})))
        if len(found) != expected:
            raise DarkroomError(
                f"The store holds {len(found)} manifest rows of {self.name!r}, not {expected}. Put "
                "it again."
            )
        return sorted(found, key=lambda row: row["order"])

    def finish(self, about: dict[str, Any]) -> None:
        """Notes that the set is complete."""
        whole = {"_id": self.name, "complete": True, "put": datetime.now(UTC), **about}
        self._patiently(lambda: self._sets.replace_one({"_id": self.name}, whole, upsert=True))
        files_module.point("gridfs:set")

    def about(self) -> dict[str, Any]:
        """Returns what is noted of the set, and looks at its entries. Raises DarkroomError where it
        is not complete.
        """
        found = self._patiently(lambda: self._sets.find_one({"_id": self.name}))
        if found is None:
            known = names()
            has = ", ".join(known) or "none"
            raise DarkroomError(
                f"The store has no data set {self.name!r}; it has {has}.{suggest(self.name, known)}"
            )
        if not found.get("complete"):
            raise DarkroomError(
                f"The data set {self.name!r} was not put to its end. Put it again, then get it."
            )
        self.look()
        return found

    def _patiently(self, work: Callable[[], Any]) -> Any:
        """Does what may be done twice; a server that is away is waited for."""
        from pymongo import errors

        until = time.monotonic() + self._patience
        while True:
            try:
                return work()
            except (
                errors.AutoReconnect,
                errors.NetworkTimeout,
                errors.ServerSelectionTimeoutError,
            ) as error:
                if time.monotonic() > until:
                    raise DarkroomError(
                        f"The server at {self.address} does not answer ({type(error).__name__}). "
                        "What was done stands; the "
                        "same call goes on from there."
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
            each["_id"] for each in database["darkroom.sets"].find({"complete": True}, {"_id": 1})
        )


def place(raw: Path, name: str) -> Path:
    """Returns the path of a file of the store, which must not lead out of `raw`, whoever wrote it
    there; else DarkroomError.
    """
    pure = PurePosixPath(name)
    if (
        pure.is_absolute()
        or ".." in pure.parts
        or not pure.parts
        or "\\" in name
        or "\0" in name
        or ":" in pure.parts[0]
    ):
        raise DarkroomError(
            f"The store holds the name {name!r}, which leads out of the data set; it is not read."
        )
    return raw / pure


def _connect() -> tuple[MongoClient, Database, str]:
    try:
        import pymongo
    except ImportError:
        raise DarkroomError(
            "Data sets in MongoDB need the package pymongo: pip install -e '.[mongo]'"
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


def sha_of(entry: Mapping[str, Any]) -> str:
    """Returns the sha256 noted with an entry, or ""."""
    return str((entry.get("metadata") or {}).get("sha256", ""))


def _num_chunks(length: int) -> int:
    return math.ceil(length / CHUNK)
