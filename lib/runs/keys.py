"""The key of a run: all that its result depends on, so that what has finished is known again and
what changed is named.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Protocol

from lib import hashing, paths
from lib.notebooks import Notebook
from lib.runs import record


class Data(Protocol):
    """What a run asks of its data set."""

    name: str

    def raw_digest(self) -> str:
        """Digest of the raw files."""

    def digest(self) -> str:
        """Digest of the accepted images, their labels and groups."""


def key(notebook: Notebook, parameters: dict[str, Any], *, data: Data | None) -> dict[str, Any]:
    """Returns what a run's result depends on; two runs with equal keys have equal results.

    Parts: `parameters`; `data`, the digest of what the notebook reads (raw files or manifest);
        `inputs`, a digest for each finished run that it reads; `notebook` and `code`, digests
        without docstrings and comments.
    """
    found = None
    if data is not None:
        found = data.raw_digest() if "raw" in notebook.reads else data.digest()
    return {
        "parameters": parameters,
        "data": found,
        "inputs": _inputs(parameters["study"], notebook.stage) if "runs" in notebook.reads else {},
        "notebook": hashing.notebook(notebook.path),
        "code": hashing.code(notebook.path),
    }


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns what differs between two keys, in words: `epochs 12 → 20`, `the data`, `the code of
    lib`.
    """
    named = {
        "data": "the data",
        "inputs": "the runs it reads",
        "notebook": "the notebook",
        "code": "the code of lib",
    }
    before, after = old.get("parameters", {}), new.get("parameters", {})
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    told = [f"{name} {before.get(name)!r} → {after.get(name)!r}" for name in names]
    return told + [words for part, words in named.items() if old.get(part) != new.get(part)]


def _inputs(study: str, stage: str) -> dict[str, str]:
    """Digests of the finished runs that a stage reads: those of the stages it comes after, as batch
    wrote them down.

    A notebook opened by hand has no such list; then all trainings of its study count.
    """
    told = record.about(study)
    stages = {each["name"]: each for each in told.get("stages", [])}
    if stage in stages:
        units = [
            (name, unit) for name in stages[stage]["upstream"] for unit in stages[name]["units"]
        ]
        shown = json.dumps([told.get("question"), told.get("published")], sort_keys=True)
        found = {"study": hashing.digest(shown)}
    else:
        units = sorted(
            ("train", path.parent.name)
            for path in (paths.logs() / study).glob("train/*/result.json")
        )
        found = {}
    for name, unit in units:
        with contextlib.suppress(OSError):
            result = paths.run(study, name, unit) / "result.json"
            found[f"{name}/{unit}"] = hashing.digest(result.read_text(encoding="utf-8"))
    return found
