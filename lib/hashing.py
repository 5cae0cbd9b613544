"""Digests of files, folders, notebooks and modules.

Docstrings, comments and layout of code do not count, so that better prose repeats no work.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lib import files, paths


def digest(*parts: str) -> str:
    """Returns the first 16 hex digits of the SHA-256 over the parts and their lengths."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        hashed.update(len(encoded).to_bytes(8, "big") + encoded)
    return hashed.hexdigest()[:16]


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of JSON values with a `checksum` of the others."""
    return {**record, "checksum": _checksum(record)}


def unsealed(record: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a record without its `checksum`, or None where the two do not fit; records of before
    have none.
    """
    content = {name: value for name, value in record.items() if name != "checksum"}
    known = record.get("checksum")
    return content if known is None or known == _checksum(content) else None


def _checksum(record: dict[str, Any]) -> str:
    as_read = json.loads(json.dumps(record))  # keys that are numbers become text
    return digest(json.dumps(as_read, sort_keys=True))


def file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def contents(named: Iterable[tuple[str, Path]], *, cache: Path) -> Iterator[tuple[str, str]]:
    """Yields each name with the SHA-256 of its file's content.

    Args:
        named: names and files; a name is what the cache knows a file by.
        cache: a JSON file that remembers hashes by size and times of change, so that files which
            have not changed are not read again. It is safe to delete.
    """
    stored = files.read_json(cache)
    stored = unsealed(stored) if isinstance(stored, dict) else None
    known = (stored or {}).get("files", {})  # a damaged cache is filled again
    fresh: dict[str, list[Any]] = {}
    for name, path in named:
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        old = known.get(name)
        fresh[name] = old if old and old[:3] == mark else [*mark, file(path)]
        yield name, fresh[name][3]
    if fresh != known:
        files.write_json(cache, sealed({"files": fresh}))


def tree(path: Path, *, cache: Path) -> str:
    """Returns a digest of a file's content, or of all names and contents in a folder.

    `cache` is a folder for what `contents` remembers.
    """
    if path.is_file():
        return file(path)
    named = [
        (entry.relative_to(path).as_posix(), entry) for entry in path.rglob("*") if entry.is_file()
    ]
    memory = cache / f"{digest(str(path.resolve()))}.json"
    return digest(*(text for pair in contents(sorted(named), cache=memory) for text in pair))


def cells(sources: Iterable[str]) -> str:
    """Returns a digest of a notebook's code cells, without comments."""
    return digest(*(_essence(ast.parse(source)) for source in sources))


@functools.cache
def library() -> str:
    """Returns a digest of the source text of all of `lib`."""
    top = paths.checkout()
    sources = sorted(top.glob("lib/**/*.py"))
    return digest(*(source.read_text(encoding="utf-8") for source in sources))


def module_file(name: str, *, root: Path | None = None) -> Path | None:
    """Returns the file of the module `lib.…` below `root`, by default this checkout; None where the
    name is no module but something inside one.
    """
    stem = (root or paths.checkout()).joinpath(*name.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file
    return None


def _essence(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            texts = [part for part in node.body if isinstance(part, ast.Expr)]
            texts = [part for part in texts if isinstance(getattr(part.value, "value", None), str)]
            node.body = [part for part in node.body if part not in texts] or [ast.Pass()]
    return ast.dump(tree)
