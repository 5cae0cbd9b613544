"""The suite's notebooks: path, stage, what they read, and their parameters."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib import parameter_table, parameter_types, paths
from lib.errors import DarkroomError, unknown
from lib.parameter_table import Schema
from lib.parameter_types import Parameter

READS = ("raw", "manifest", "runs")
PARAMETERS_TAG, INJECTED_TAG = "parameters", "injected-parameters"


@dataclass(frozen=True, kw_only=True)
class Notebook(Schema):
    """A notebook of a study, from its metadata `darkroom`, its cell tagged `parameters`, and
    `lib.parameter_table`; the defaults of its parameters are those of its own cell.
    """

    path: Path
    title: str = ""
    cells: tuple[str, ...] = ()
    """The code cells, without those of parameters."""
    check_function: str = ""
    """A function, `module:function`, that refuses values which do not fit together; "" where there
    is none.
    """

    def complete(
        self, values: Mapping[str, Any], *, text: bool = False, where: str = ""
    ) -> dict[str, Any]:
        """Returns the value of every parameter, checked alone and together, with absolute paths."""
        full = self.located(self.defaults() | self.check(values, text=text, where=where))
        self.verify(full)
        return full

    def located(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values with absolute paths; a relative one starts from the current directory.

        A tiny run's `data` is the sample of that data set.

        Raises:
            DarkroomError: for a path that leads to nothing.
        """
        located = dict(values)
        for name, row in self.parameters.items():
            value = values.get(name)
            if value in ("", None, *row.choices) or not (row.is_path or name == "data"):
                continue
            path = paths.typed(value.removesuffix(paths.TINY) if name == "data" else value)
            if row.is_path and path.exists():
                located[name] = str(path.absolute())
            elif _is_written_as_path(name, value) and not path.exists():
                raise DarkroomError(
                    f"`{name}` names {value!r}, but there is no such file or folder in "
                    f"{Path.cwd()}. Give the path of one that exists ({row.help})."
                )
        if values.get("tiny") and values.get("data"):
            located["data"] = values["data"].removesuffix(paths.TINY) + paths.TINY
        return located

    def verify(self, values: Mapping[str, Any]) -> None:
        """Raises DarkroomError for values, of all parameters, that contradict each other or have no
        effect.
        """
        values = parameter_table.with_strategy_defaults(values)
        parameter_types.check_conditions(values, self.parameters)
        if "study" in values:  # refuses names that cannot be folders
            paths.run(values["study"], self.stage, values.get("arm") or "all")
        for cross_check in self.cross_checks:
            cross_check(values)
        if self.check_function:
            module, _, function = self.check_function.partition(":")
            getattr(importlib.import_module(module), function)(values)


def _is_written_as_path(name: str, value: str) -> bool:
    if name == "model":  # that of a run, such as study/train/arm-s0, may not have been trained yet
        return value.startswith(("/", ".", "~")) or value.endswith(".keras")
    suffix = Path(value).suffix if name != "data" else ""
    return "/" in value or value.startswith((".", "~")) or bool(suffix)


def find(name: str) -> Notebook:
    """Returns the notebook of that name or path, with or without `.ipynb`.

    Raises:
        DarkroomError: when there is none that is one of the suite's.
    """
    stem = name.removesuffix(".ipynb")
    path = paths.typed(paths.notebooks() / f"{stem}.ipynb")  # an absolute one stays as it is
    if not path.is_file():
        known = sorted(file.stem for file in paths.notebooks().glob("*.ipynb"))
        raise unknown("notebook", name, known, where=f" in {paths.notebooks()}")
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


def every() -> list[Notebook]:
    """Returns all notebooks of the suite, sorted by name."""
    return [find(path.stem) for path in sorted(paths.notebooks().glob("*.ipynb"))]


def of_schema(name: str) -> Notebook:
    """Returns a notebook by its schema alone, for work that no notebook does, such as
    `training.train`.
    """
    return Notebook(**vars(parameter_table.find(name)), path=Path(name))


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
    tagged = [cell for cell in cells if PARAMETERS_TAG in cell["metadata"].get("tags", ())]
    if about is None or not tagged:
        return None
    if unknown := [word for word in about["reads"] if word not in READS]:
        raise DarkroomError(
            f"{path.name} reads {unknown[0]!r} by its metadata; allowed are {', '.join(READS)}."
        )
    own = parameter_types.declared("".join(tagged[0]["source"]), where=path.name)
    table = parameter_table.NOTEBOOKS.get(about.get("schema", ""))
    code = tuple("".join(cell["source"]) for cell in cells if _is_code(cell))
    return Notebook(
        name=path.stem,
        stage=about["stage"],
        reads=tuple(about["reads"]),
        parameters=_merged(own, table),
        cross_checks=table.cross_checks if table else (),
        path=path,
        title=_title(cells),
        cells=code,
        check_function=about.get("check", ""),
    )


def _merged(own: dict[str, Parameter], table: Schema | None) -> dict[str, Parameter]:
    """The parameters of a notebook: the schema's, with the defaults of its own cell, and what the
    cell declares besides.
    """
    if table is None:
        return own
    rows = {}
    for name, row in table.parameters.items():
        default = own[name].default if name in own else row.default
        rows[name] = row if default == row.default else replace(row, default=row.check(default))
    return rows | {name: row for name, row in own.items() if name not in rows and name != "options"}


def _parts(content: Any) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The readable cells, and what the notebook says of itself, None where that is not what it must
    be.
    """
    content = content if isinstance(content, dict) else {}
    listed, metadata = content.get("cells"), content.get("metadata")
    cells = [cell for cell in listed if _is_cell(cell)] if isinstance(listed, list) else []
    about = metadata.get("darkroom") if isinstance(metadata, dict) else None
    known = {"stage": str, "reads": list, "check": str, "schema": str}
    is_sound = isinstance(about, dict) and all(
        isinstance(about.get(name, kind()), kind) for name, kind in known.items()
    )
    return cells, about if is_sound and {"stage", "reads"} <= about.keys() else None


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("metadata"), dict):
        return False
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    is_text = all(isinstance(line, str) for line in lines)
    return is_text and isinstance(cell["metadata"].get("tags", []), list)


def _is_code(cell: dict[str, Any]) -> bool:
    tags = {PARAMETERS_TAG, INJECTED_TAG}.intersection(cell["metadata"].get("tags", ()))
    return cell.get("cell_type") == "code" and not tags


def _title(cells: list[dict[str, Any]]) -> str:
    texts = ("".join(cell["source"]) for cell in cells if cell.get("cell_type") == "markdown")
    return next(texts, "").lstrip("# ").partition("\n")[0].strip()
