"""The suite's notebooks as batch sees them: where one lies, its stage, what it reads, what it may be told."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import notebook, paths
from lib.batch import parameters
from lib.batch.parameters import Parameter
from lib.errors import DarkroomError

READS = ("raw", "manifest", "runs")


@dataclass(frozen=True)
class Notebook:
    """A notebook that takes parameters."""

    name: str
    path: Path
    title: str
    stage: str
    """Names the folder of its runs."""
    reads: tuple[str, ...]
    """What the data part of a run's key is made of: some of `raw`, `manifest`, `runs`."""
    parameters: dict[str, Parameter]

    def defaults(self) -> dict[str, Any]:
        """Returns the default of every parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


def find(name: str) -> Notebook:
    """Returns the notebook `name`, with or without suffix. Raises DarkroomError when there is none that is one of ours."""
    path = notebook.find(name)
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


def every() -> list[Notebook]:
    """Returns all notebooks of the suite, sorted by name."""
    return [find(path.stem) for path in sorted(paths.notebooks().glob("*.ipynb"))]


@functools.lru_cache(maxsize=256)
def _read(path: Path, _changed_ns: int, _size: int) -> Notebook:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DarkroomError(f"{path} holds no JSON, so it is not a notebook. Restore it from the repository.") from None
    declaration = notebook.declaration(path)
    if unknown := [word for word in declaration.reads if word not in READS]:
        raise DarkroomError(f"{path.name} reads {unknown[0]!r} by its metadata; allowed are {', '.join(READS)}.")
    declared = parameters.declared(declaration.source, where=path.name)
    return Notebook(path.stem, path, _title(content["cells"]), declaration.stage, declaration.reads, declared)


def _title(cells: list[dict[str, Any]]) -> str:
    for cell in cells:
        if cell["cell_type"] == "markdown":
            return "".join(cell["source"]).lstrip("# ").partition("\n")[0].strip()
    return ""
