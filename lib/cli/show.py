"""The commands that only show something: `darkroom status`, `darkroom results`, `darkroom list`."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from lib import files, notebooks, paths, runs
from lib.batch import parameter_grid, plan, status
from lib.batch import study as studies
from lib.batch.status import RunStatus
from lib.errors import DarkroomError, suggest, unknown

KINDS = ("studies", "data", "notebooks")
_NAMED = 3  # stale runs that the overview of all studies names


def print_status(folder: str | None, *, as_json: bool) -> int:
    """Prints the state of one study, or of all; returns 0."""
    if folder is None:
        return _print_all(as_json=as_json)
    rows, question = plan.with_staleness(folder), status.read(folder)["question"]
    lock = paths.logs() / folder / ".lock"
    holder = files.read_json(lock.with_name(".holder.json")) if runs.held(lock) else None
    if as_json:
        listed = [
            {
                "run": row.id,
                "state": row.state,
                "progress": row.progress,
                "failure": row.failure,
                "changed": row.changed or None,
                "folder": str(row.folder()),
            }
            for row in rows
        ]
        about = {"study": folder, "question": question, "runner": holder}
        _print_json({**about, "counts": status.counts(rows), "runs": listed})
        return 0
    about = {"process": "?", "host": "?", **(holder or {})}
    runner = "; run by process {process} on {host}".format_map(about) if holder else ""
    print(f"{question}\n{folder}: {_summary(rows)}{runner}")
    for row in rows:
        if row.state != "queued":
            print(f"{row.state:>9}  {row.id}  {_about(row)}".rstrip())
    return 0


def _print_all(*, as_json: bool) -> int:
    every = {folder: plan.with_staleness(folder) for folder in status.folders()}
    if as_json:
        _print_json({folder: status.counts(rows) for folder, rows in every.items()})
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


def print_results(folder: str | None, *, as_json: bool, mlflow: str | None = None) -> int:
    """Writes the table of results of one study, or of all, and the page of all studies; prints
    where, or the table as JSON. With `mlflow` exports the study's finished runs to that store.
    """
    from lib.batch import results

    if folder is not None:
        status.read(folder)  # refuses a study that never ran
    chosen = status.folders() if folder is None else [folder]
    if mlflow:
        if folder is None:
            raise DarkroomError("--mlflow needs a study: darkroom results STUDY --mlflow URI.")
        exported = results.export_to_mlflow(folder, mlflow)
        print("\n".join(f"exported {name}" for name in exported) or "nothing new to export")
    elif as_json:
        tables = [results.table(name) for name in chosen]
        rows = [row for table in tables for row in json.loads(table.to_json(orient="records"))]
        _print_json([{key: row[key] for key in row if row[key] is not None} for row in rows])
    else:
        page = results.write_page()
        print(*(paths.logs() / name / results.CSV for name in chosen), page, sep="\n")
    return 0


def print_list(what: str | None, parameter: str | None = None, *, as_json: bool) -> int:
    """Prints studies, data sets and notebooks, one kind of them, the table of backbones, or the
    parameters of one notebook, or one of these.

    Raises DarkroomError for what is none of these.
    """
    if what is not None and what not in (*KINDS, "backbones"):
        return _print_parameters(what, parameter, as_json=as_json)
    if parameter is not None:
        raise DarkroomError(f"{what} have no parameters; a notebook has: darkroom list 3_train.")
    if what == "backbones":
        return _print_backbones(as_json=as_json)
    listed = {kind: _LISTS[kind]() for kind in ([what] if what else KINDS)}
    if as_json:
        _print_json(listed)
        return 0
    for kind, entries in listed.items():
        print(kind.upper())
        if what is None:
            print(_wrapped([entry["name"] for entry in entries]))
        width = max((len(entry["name"]) for entry in entries), default=0) + 2
        for entry in entries if what else ():
            print(_wrapped([entry.get("about", "")], f"  {entry['name']:<{width}}"))
    if what is None:
        print("\nMore: darkroom list studies, data, notebooks or backbones")
        print("Parameters of a notebook: darkroom list 3_train")
    elif what == "notebooks":
        print("\nParameters of one: darkroom list 3_train")
    return 0


def _print_parameters(name: str, parameter: str | None, *, as_json: bool) -> int:
    known = [notebook.name for notebook in notebooks.every()]
    if name.removesuffix(".ipynb") not in known:
        choices = [*KINDS, "backbones", *known]
        raise unknown("list or notebook", name, choices)
    notebook = notebooks.find(name)
    rows = notebook.parameters
    if parameter is not None and parameter not in rows:
        near = suggest(parameter, list(rows)) or f" See: darkroom list {notebook.name}"
        raise DarkroomError(f"{notebook.name} has no parameter {parameter!r}.{near}")
    if as_json:
        entry = _notebook(notebook)
        chosen = [row for row in entry["parameters"] if parameter in (None, row["name"])]
        _print_json(entry | {"parameters": chosen})
        return 0
    if parameter is not None:
        row = rows[parameter]
        print(f"{row.name} = {_shown(row.default)}\n{_wrapped([row.help])}")
        if row.allowed():
            print(_wrapped([f"Allowed: {row.allowed().removeprefix('one of ')}"]))
        if row.when:
            print(f"  Acts with {row.when[0]} = {' or '.join(map(_shown, row.when[1]))} only")
        return 0
    print(notebook.title)
    width, group = max(len(row.name) for row in rows.values() if row.in_cell), ""
    for row in (row for row in rows.values() if row.in_cell):
        if row.group != group:
            group = row.group
            print(group.upper())
        print(f"  {row.name:<{width}}  {_shown(row.default):<14}  {row.help}")
    if options := [row.name for row in rows.values() if not row.in_cell]:
        print("OPTIONS, set by name in the same way, or in `options` of the notebook")
        print(_wrapped(options))
    print(f"\nWhat one may be: darkroom list {notebook.name} {next(iter(rows))}")
    return 0


def _shown(value: Any) -> str:
    return "None" if value is None else json.dumps(value, ensure_ascii=False)


def _print_backbones(*, as_json: bool) -> int:
    from lib.models import timing

    table = timing.backbone_table()
    if as_json:
        print(table.reset_index().to_json(orient="records", indent=1))
        return 0
    table = table.drop(columns="weights").astype(object)
    table["offline"] = table["offline"].map({True: "yes", False: "no"})
    shown = table.where(table.notna(), "-").rename_axis(None)
    print(shown.to_string(formatters={"num_parameters": "{:,}".format}))
    print("\nTop-1 and Top-5 in %, on ImageNet. Depth: layers with weights, where it is published.")
    print("Offline: the weights are on this machine; the others are downloaded once.")
    return 0


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _wrapped(names: Sequence[str], head: str = "  ") -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    text, indent = ", ".join(names) or "none", " " * len(head)
    return textwrap.fill(
        text, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
    )


def _summary(rows: Sequence[RunStatus]) -> str:
    return f"{len(rows)} runs, {status.spoken(status.counts(rows))}"


def _about(row: RunStatus) -> str:
    if row.state == "running":
        return row.line()
    if row.failure is None:
        return row.changed
    named = {"cell": None, "exception": None, "message": None, "kind": None, **row.failure}
    return "cell {cell}: {exception}: {message} [{kind}]".format_map(named)


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
    rows = [
        {
            "name": row.name,
            "type": row.type,
            "default": row.default,
            "allowed": row.allowed(),
            "help": row.help,
        }
        for row in notebook.parameters.values()
    ]
    return {"name": notebook.name, "about": notebook.title, "parameters": rows}


_LISTS = {"studies": _studies, "data": _data, "notebooks": _notebooks}
