"""The key of a run: everything that determines its numbers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lib import hashing, parameter_table, paths
from lib.notebooks import Notebook
from lib.parameter_types import Parameter
from lib.runs import code_digest, record


class Data(Protocol):
    """The data set as a run needs it."""

    @property
    def name(self) -> str:
        """The data set's name."""

    def raw_digest(self) -> str:
        """Digest of the raw files."""

    def digest(self) -> str:
        """Digest of the accepted images, their labels and groups."""


def key(
    notebook: Notebook,
    parameters: dict[str, Any],
    *,
    data: Data | str | None,
    cells: Sequence[str] | None = None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns what decides the numbers of a run; two runs with equal keys have equal results.

    Args:
        notebook: the notebook that runs.
        parameters: all of them, by their flat names.
        data: the data set, or the digest of what the notebook reads of it, as `data_digest` returns
            it.
        cells: the code cells that run instead of the notebook's own.
        known: an earlier key of the run; where parameters, cells and all of `lib` are the same, its
            digest of the code is taken, which costs a second to compute.

    Returns:
        `stage`; `parameters`; `data`; `inputs`, a digest for each finished run that it reads;
        `files`, digests of the content of files and folders that parameters name; `notebook` and
        `code`, digests of its cells and of the code that decides its numbers. `lib` is only noted:
        it tells whether other code has changed since.
    """
    cells = notebook.cells if cells is None else tuple(cells)
    named = {
        "stage": notebook.stage,
        "parameters": {
            name: value
            for name, value in parameters.items()
            if name not in notebook.parameters or notebook.parameters[name].in_key
        },
        "notebook": hashing.cells(cells),
        "lib": hashing.library(),
    }
    is_known = known is not None and all(known.get(part) == named[part] for part in named)
    code = known.get("code") if is_known else None
    return {
        **named,
        "data": data if data is None or isinstance(data, str) else data_digest(notebook, data),
        "inputs": _inputs(parameters["study"], notebook.stage) if "runs" in notebook.reads else {},
        "files": _files(parameters, notebook.parameters),
        "code": code or code_digest.digest(notebook.stage, cells, parameters),
    }


def data_digest(notebook: Notebook, data: Data) -> str:
    """Returns the digest of what a notebook reads of a data set: its raw files, or its manifest."""
    return data.raw_digest() if "raw" in notebook.reads else data.digest()


def _files(parameters: dict[str, Any], declared: dict[str, Parameter]) -> dict[str, str]:
    """Digests of the content of files and folders that parameters name, so that others under the
    same name are noticed.
    """
    named = {
        name: value
        for name, value in parameters.items()
        if name in declared and declared[name].is_path
    }
    base = parameters.get("base")
    if isinstance(base, dict):  # the parameters that a search keeps
        named |= {
            f"base.{name}": value
            for name, value in base.items()
            if name in parameter_table.TRAINING and parameter_table.TRAINING[name].is_path
        }
    digests = {}
    for name, value in named.items():
        with contextlib.suppress(OSError, ValueError):
            path = Path(value).expanduser()
            run = paths.logs() / value
            if value and path.exists():
                digests[name] = hashing.tree(path, cache=paths.logs() / ".hashes")
            elif value and (run / record.RESULT).is_file():
                digests[name] = hashing.file(run / record.RESULT)
    return digests


def _inputs(study: str, stage: str) -> dict[str, str]:
    """Digests of the finished runs that a stage reads: those of the stages it comes after, as batch
    wrote them down.

    A notebook opened by hand has no such list; then all trainings of its study count.
    """
    about = record.study_info(study)
    stages = {row["name"]: row for row in about.get("stages", [])}
    if stage in stages:
        units = [
            (name, unit) for name in stages[stage]["upstream"] for unit in stages[name]["units"]
        ]
        shown = json.dumps([about.get("question"), about.get("published")], sort_keys=True)
        digests = {"study": hashing.digest(shown)}
    else:
        units = sorted(
            ("train", folder.name)
            for folder in record.finished_runs(paths.logs() / study / "train")
        )
        digests = {}
    for name, unit in units:
        with contextlib.suppress(OSError):
            result = paths.run(study, name, unit) / record.RESULT
            digests[f"{name}/{unit}"] = hashing.digest(result.read_text(encoding="utf-8"))
    return digests
