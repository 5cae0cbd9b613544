"""Digests of code: of a notebook, and of those modules of `lib` that it can reach through imports.

Docstrings, comments and layout do not count, so that better prose repeats no training.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from lib import paths


def digest(*parts: str) -> str:
    """Returns the first 16 hex digits of the SHA-256 over the parts and their lengths."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        hashed.update(len(encoded).to_bytes(8, "big") + encoded)
    return hashed.hexdigest()[:16]


def file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def notebook(path: Path) -> str:
    """Digest of a notebook's code cells; prose, outputs and comments are left aside."""
    return digest(*(_essence(ast.parse(source)) for source in code_cells(path)))


def code(path: Path) -> str:
    """Digest of all modules of `lib` that the notebook at `path` can reach through its imports."""
    return _of_modules(
        {name for source in code_cells(path) for name in imported(ast.parse(source))}
    )


def module(name: str) -> str:
    """Digest of the module `name`, of `lib` or not, and of all modules of `lib` that it can reach
    through its imports.
    """
    if module_file(name) is not None:
        return _of_modules({name})
    spec = importlib.util.find_spec(name)
    file = Path(spec.origin) if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        return digest(name)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return digest(_essence(tree), _of_modules(set(imported(tree))))


def code_cells(path: Path) -> list[str]:
    """Returns the sources of a notebook's code cells, in order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def imported(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted names below `lib` that a piece of code imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "lib")
        elif (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "lib"
            and not node.level
        ):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_file(name: str) -> Path | None:
    """Returns the file of the module `lib.…`, or None where the name is no module but something
    inside one.
    """
    stem = paths.checkout().joinpath(*name.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file
    return None


def _of_modules(names: set[str]) -> str:
    reached = _closure(frozenset(names))
    return digest(*(part for name in sorted(reached) for part in (name, _module_essence(name))))


def _closure(names: frozenset[str]) -> set[str]:
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        file = module_file(name)
        if name in reached or file is None:
            continue
        reached.add(name)
        # A package runs its own __init__ first, so importing lib.data.splits also reaches lib.data.
        waiting += [*_imports_of(file, file.stat().st_mtime_ns), name.rpartition(".")[0]]
    return reached


@functools.lru_cache(maxsize=1024)
def _imports_of(file: Path, changed_ns: int) -> tuple[str, ...]:
    return tuple(imported(ast.parse(file.read_text(encoding="utf-8"))))


def _module_essence(name: str) -> str:
    file = module_file(name)
    return _essence_of(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _essence_of(file: Path, changed_ns: int) -> str:
    return _essence(ast.parse(file.read_text(encoding="utf-8")))


def _essence(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
