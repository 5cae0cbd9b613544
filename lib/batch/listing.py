"""Output of `darkroom status`, `darkroom results` and `darkroom list`."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lib import files, notebooks, paths, runs
from lib.batch import parameter_grid, status
from lib.batch import study as studies
from lib.batch.status import RunStatus
from lib.errors import DarkroomError, suggest

KINDS = ("studies", "data", "notebooks")
_NAMED = 3  # stale runs that the overview of all studies names


def print_status(folder: str | None, *, as_json: bool) -> int:
    """Prints the state of one study, or of all; returns 0."""
    if folder is None:
        return _print_all(as_json=as_json)
    rows = status.with_staleness(folder)
    lock = paths.logs() / folder / ".lock"
    holder = files.read_json(lock.with_name(".holder.json")) if runs.held(lock) else None
    if as_json:
        content = {
            "study": folder,
            "question": status.read(folder)["question"],
            "runner": holder,
            "counts": _counts(rows),
            "runs": [_as_json(row) for row in rows],
        }
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return 0
    runner = f"; run by process {holder['process']} on {holder['host']}" if holder else ""
    print(status.read(folder)["question"])
    print(f"{folder}: {_summary(rows)}{runner}")
    for row in rows:
        if row.state != "queued":
            print(f"{row.state:>9}  {row.id}" + (f"  {about}" if (about := _about(row)) else ""))
    return 0


def _print_all(*, as_json: bool) -> int:
    every = {folder: status.with_staleness(folder) for folder in status.folders()}
    if as_json:
        print(json.dumps({folder: _counts(rows) for folder, rows in every.items()}, indent=1))
    elif not every:
        print("No study has been run yet. Start with: darkroom run quickstart")
    for folder, rows in every.items() if not as_json else ():
        print(f"{folder}: {_summary(rows)}")
        stale = [row for row in rows if row.state == "stale"]
        for row in stale[:_NAMED]:
            print(f"    stale: {row.id} ({row.changed})")
        if len(stale) > _NAMED:
            print(f"    and {len(stale) - _NAMED} more: darkroom status {folder}")
    return 0


def print_results(folder: str | None, *, as_json: bool) -> int:
    """Writes the table of results of one study, or of all, and the page of all studies; prints
    where, or the table as JSON.
    """
    from lib.batch import results

    if folder is not None:
        status.read(folder)  # refuses a study that never ran
    chosen = status.folders() if folder is None else [folder]
    if as_json:
        tables = [results.table(name) for name in chosen]
        rows = [row for table in tables for row in json.loads(table.to_json(orient="records"))]
        known = [{key: value for key, value in row.items() if value is not None} for row in rows]
        print(json.dumps(known, indent=1, ensure_ascii=False))
        return 0
    page = results.write_page()
    for name in chosen:
        print(paths.logs() / name / results.CSV)
    print(page)
    return 0


def print_list(what: str | None, *, as_json: bool) -> int:
    """Prints studies, data sets and notebooks, one kind of them, the table of backbones, or the
    parameters of one notebook.

    Raises DarkroomError for what is none of these.
    """
    if what == "backbones":
        return _print_backbones(as_json=as_json)
    if what is not None and what not in KINDS:
        return _print_parameters(what, as_json=as_json)
    listed = {kind: _LISTS[kind]() for kind in ([what] if what else KINDS)}
    if as_json:
        print(json.dumps(listed, indent=1, ensure_ascii=False))
        return 0
    for kind, entries in listed.items():
        print(kind.upper())
        if what is None:
            print(_wrapped([entry["name"] for entry in entries]))
        for entry in entries if what else ():
            print(f"  {entry['name']}  {entry.get('about', '')}".rstrip())
    if what is None:
        print("\nMore: darkroom list studies, data, notebooks or backbones")
        print("Parameters of a notebook: darkroom list 3_train")
    elif what == "notebooks":
        print("\nParameters of one: darkroom list 3_train")
    return 0


def _print_parameters(name: str, *, as_json: bool) -> int:
    known = [notebook.name for notebook in notebooks.every()]
    if name.removesuffix(".ipynb") not in known:
        choices = [*KINDS, "backbones", *known]
        raise DarkroomError(
            f"There is nothing to list for {name!r}.{suggest(name, choices)} Choose from "
            f"{', '.join(choices)}."
        )
    entry = _notebook(notebooks.find(name))
    if as_json:
        print(json.dumps(entry, indent=1, ensure_ascii=False))
        return 0
    print(entry["about"])
    for parameter in entry["parameters"]:
        allowed = f" ({parameter['allowed']})" if parameter["allowed"] else ""
        default = f"{parameter['name']}: {parameter['type']} = {parameter['default']!r}"
        print(f"  {default}{allowed}  {parameter['help']}")
    return 0


def _print_backbones(*, as_json: bool) -> int:
    from lib.models import timing

    table = timing.backbone_table()
    if as_json:
        print(table.reset_index().to_json(orient="records", indent=1))
        return 0
    print(table.drop(columns="weights").to_string(na_rep="-"))
    print("\nTop-1 and Top-5 in %, on ImageNet. Depth: layers with weights, where it is published.")
    print("Offline: the weights are on this machine; the others are downloaded once.")
    return 0


def _wrapped(names: Sequence[str]) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    text = ", ".join(names) or "none"
    return textwrap.fill(
        text, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def _counts(rows: Sequence[RunStatus]) -> dict[str, int]:
    counted = Counter(row.state for row in rows)
    return {state: counted[state] for state in runs.STATES if counted[state]}


def _summary(rows: Sequence[RunStatus]) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in _counts(rows).items())
    return f"{len(rows)} runs, {counts}"


def _as_json(row: RunStatus) -> dict[str, Any]:
    return {
        "run": row.id,
        "state": row.state,
        "progress": row.progress,
        "failure": row.failure,
        "changed": row.changed or None,
        "folder": str(row.folder()),
    }


def _about(row: RunStatus) -> str:
    if row.state == "running":
        return row.line()
    if row.failure is None:
        return row.changed
    cell, exception, message, kind = (
        row.failure.get(name) for name in ("cell", "exception", "message", "kind")
    )
    return f"cell {cell}: {exception}: {message} [{kind}]"


def _studies() -> list[dict[str, Any]]:
    listed = []
    for name in studies.names():
        content = parameter_grid.read_toml(studies.find(name))
        listed.append({"name": name, "about": content.get("question", "")})
    return listed


def _data() -> list[dict[str, Any]]:
    from lib.data import dataset, sources

    here = dataset.names()
    absent = [name for name in sources.PACKAGED if name not in here]
    packaged = [{"name": name, "about": "packaged; installed on first use"} for name in absent]
    return [{"name": name, "about": str(paths.dataset(name))} for name in here] + packaged


def _notebooks() -> list[dict[str, Any]]:
    return [_notebook(notebook) for notebook in notebooks.every()]


def _notebook(notebook: notebooks.Notebook) -> dict[str, Any]:
    return {
        "name": notebook.name,
        "about": notebook.title,
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter.type,
                "default": parameter.default,
                "allowed": parameter.allowed(),
                "help": parameter.help,
            }
            for parameter in notebook.parameters.values()
        ],
    }


_LISTS = {"studies": _studies, "data": _data, "notebooks": _notebooks}
