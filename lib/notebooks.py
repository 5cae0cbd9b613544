"""The suite's notebooks: where one lies, its stage, what it reads, and what it may be told."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import parameters, paths
from lib.errors import DarkroomError, suggest
from lib.parameters import Parameter

READS = ("raw", "manifest", "runs")


@dataclass(frozen=True)
class Notebook:
    """A notebook's own account of itself, from its metadata `darkroom` and its cell tagged
    `parameters`.
    """

    name: str
    path: Path
    title: str
    stage: str
    """Names the folder of its runs."""
    reads: tuple[str, ...]
    """What the data part of a run's key is made of: some of `raw`, `manifest`, `runs`."""
    parameters: dict[str, Parameter]
    check: str = ""
    """A function, `module:function`, that refuses parameters which do not fit together; "" where
    each is checked alone.
    """

    def verify(self, values: dict[str, Any]) -> None:
        """Raises DarkroomError for values, of all parameters, that the notebook's own check
        refuses.
        """
        if self.check:
            module, _, function = self.check.partition(":")
            getattr(importlib.import_module(module), function)(values)

    def defaults(self) -> dict[str, Any]:
        """Returns the default of every parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


def find(name: str) -> Notebook:
    """Returns the notebook `name`, with or without `.ipynb`. Raises DarkroomError when there is
    none that is one of ours.
    """
    path = paths.typed(paths.notebooks() / f"{name.removesuffix('.ipynb')}.ipynb")
    if not path.is_file():
        known = sorted(file.stem for file in paths.notebooks().glob("*.ipynb"))
        raise DarkroomError(
            f"There is no notebook {name!r} in {paths.notebooks()}. There are: "
            f"{', '.join(known)}.{suggest(name, known)}"
        )
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


def every() -> list[Notebook]:
    """Returns all notebooks of the suite, sorted by name."""
    return [find(path.stem) for path in sorted(paths.notebooks().glob("*.ipynb"))]


@functools.lru_cache(maxsize=256)
def _read(path: Path, _changed_ns: int, _size: int) -> Notebook:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise DarkroomError(
            f"{path} holds no JSON, so it is not a notebook. Restore it from the repository."
        ) from None
    notebook = _of_content(content, path)
    if notebook is None:
        raise DarkroomError(
            f"{path.name} is not a notebook of this suite: it needs the metadata 'darkroom' with "
            "`stage` and `reads`, and a cell tagged 'parameters'. Copy one of notebooks/ and "
            "change it."
        )
    return notebook


def of_document(document: Any) -> Notebook | None:
    """Returns what a notebook read by nbformat says of itself, or None for one that is not ours.

    Raises DarkroomError where it is one of ours that cannot be used.
    """
    where = document.metadata.get("papermill", {}).get("input_path") or "notebook.ipynb"
    return _of_content(document, Path(where if isinstance(where, str) else "notebook.ipynb"))


def _of_content(content: Any, path: Path) -> Notebook | None:
    cells, about = _parts(content)
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    if about is None or not tagged:
        return None
    if unknown := [word for word in about["reads"] if word not in READS]:
        raise DarkroomError(
            f"{path.name} reads {unknown[0]!r} by its metadata; allowed are {', '.join(READS)}."
        )
    declared = parameters.declared("".join(tagged[0]["source"]), where=path.name)
    return Notebook(
        path.stem,
        path,
        _title(cells),
        about["stage"],
        tuple(about["reads"]),
        declared,
        about.get("check", ""),
    )


def _parts(content: Any) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The cells that can be read as such, and what the notebook says of itself, None where that is
    not what it must be.
    """
    content = content if isinstance(content, dict) else {}
    listed, metadata = content.get("cells"), content.get("metadata")
    cells = [cell for cell in listed if _is_cell(cell)] if isinstance(listed, list) else []
    about = metadata.get("darkroom") if isinstance(metadata, dict) else None
    known = {"stage": str, "reads": list, "check": str}
    whole = isinstance(about, dict) and all(
        isinstance(about.get(name, ""), kind) for name, kind in known.items()
    )
    return cells, about if whole and "stage" in about else None


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("metadata"), dict):
        return False
    lines = cell.get("source")
    said = (
        isinstance(lines, str)
        or isinstance(lines, list)
        and all(isinstance(line, str) for line in lines)
    )
    return said and isinstance(cell["metadata"].get("tags", []), list)


def _title(cells: list[dict[str, Any]]) -> str:
    for cell in cells:
        if cell.get("cell_type") == "markdown":
            return "".join(cell["source"]).lstrip("# ").partition("\n")[0].strip()
    return ""
