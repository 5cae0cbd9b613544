"""What a notebook says of itself: its stage, what it reads, and its parameters cell."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

from lib import paths
from lib.errors import DarkroomError, suggest


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A notebook's own account of itself.

    `stage` names the folder of its runs; `reads` says which data its result depends on (`raw`, `manifest` or `runs`);
    `source` is the code of its parameters cell; `parameters` holds the defaults written there.
    """

    path: Path
    stage: str
    reads: tuple[str, ...]
    source: str
    parameters: dict[str, Any]


def find(name: str) -> Path:
    """Returns the path of a notebook of the suite by its name, with or without `.ipynb`."""
    path = paths.notebooks() / f"{name.removesuffix('.ipynb')}.ipynb"
    if not path.is_file():
        known = sorted(file.stem for file in paths.notebooks().glob("*.ipynb"))
        raise DarkroomError(
            f"There is no notebook {name!r} in {paths.notebooks()}. There are: {', '.join(known)}.{suggest(name, known)}"
        )
    return path


def declaration(path: Path) -> Declaration:
    """Reads the metadata `darkroom` and the cell tagged `parameters` of the notebook at `path`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    about = content.get("metadata", {}).get("darkroom")
    tagged = [cell for cell in content["cells"] if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if about is None or not tagged:
        raise DarkroomError(
            f"{path.name} is not a notebook of this suite: it needs the metadata 'darkroom' and a cell tagged "
            "'parameters'. Copy one of notebooks/ and change it."
        )
    source = "".join(tagged[0]["source"])
    return Declaration(path, about["stage"], tuple(about["reads"]), source, _defaults(path, source))


def _defaults(path: Path, source: str) -> dict[str, Any]:
    found = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or node.value is None:
            raise DarkroomError(
                f"The parameters cell of {path.name} must hold nothing but `name: type = literal`. "
                f"Received in line {node.lineno}: {ast.unparse(node)!r}."
            )
        found[target.id] = ast.literal_eval(node.value)
    return found
