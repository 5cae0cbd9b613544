"""What `darkroom status` and `darkroom list` print."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from lib import files, notebooks, paths, runs
from lib.batch import status
from lib.batch import study as studies
from lib.batch.status import Standing

KINDS = ("studies", "data", "notebooks")


def print_status(folder: str | None, *, as_json: bool) -> int:
    """Prints how one study stands, or all of them; returns 0."""
    if folder is None:
        return _all(as_json=as_json)
    found = status.judged(folder)
    holder = (
        files.read_json(paths.logs() / folder / ".holder.json")
        if runs.held(paths.logs() / folder / ".lock")
        else None
    )
    if as_json:
        rows = [_row(one) for one in found]
        content = {"study": folder, "runner": holder, "counts": _counts(found), "runs": rows}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return 0
    print(status.read(folder)["question"])
    print(
        f"{folder}: {_spoken(found)}"
        + (f"; being run by process {holder['process']} on {holder['host']}" if holder else "")
    )
    for one in found:
        if one.state != "queued":
            said = one.line() if one.state == "running" else _failure(one) or one.changed
            print(f"{one.state:>9}  {one.stage}/{one.unit}" + (f"  {said}" if said else ""))
    return 0


def results(folder: str | None, *, as_json: bool) -> int:
    """Writes the table of results of one study, or of all, and the page of all studies; prints
    where, or the table as JSON.
    """
    from lib.batch import results as tables

    if folder is not None:
        status.read(folder)  # refuses a study that never ran
    page = tables.write_page()
    chosen = status.folders() if folder is None else [folder]
    if as_json:
        rows = [
            row
            for each in chosen
            for row in json.loads(tables.table(each).to_json(orient="records"))
        ]
        print(
            json.dumps(
                [{name: value for name, value in row.items() if value is not None} for row in rows],
                indent=1,
            )
        )
        return 0
    for each in chosen:
        print(paths.logs() / each / tables.CSV)
    print(page)
    return 0


def show(kind: str | None, *, as_json: bool) -> int:
    """Prints studies, data sets and notebooks, or one kind of them; returns 0."""
    kinds = [kind] if kind else list(KINDS)
    found = {each: _LISTS[each]() for each in kinds}
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    for each, entries in found.items():
        print(f"{each.upper()}")
        for entry in entries:
            print(f"  {entry['name']}  {entry.get('about', '')}".rstrip())
            for parameter in entry.get("parameters", []):
                allowed = f" ({parameter['allowed']})" if parameter["allowed"] else ""
                print(
                    f"    {parameter['name']}: {parameter['type']} = "
                    f"{parameter['default']!r}{allowed}  {parameter['help']}"
                )
    return 0


def _all(*, as_json: bool) -> int:
    found = {folder: status.judged(folder) for folder in status.folders()}
    if as_json:
        print(json.dumps({folder: _counts(runs_) for folder, runs_ in found.items()}, indent=1))
    elif not found:
        print("No study has been run yet. Start with: darkroom run quickstart")
    else:
        for folder, every in found.items():
            print(f"{folder}: {_spoken(every)}")
    return 0


def _counts(found: list[Standing]) -> dict[str, int]:
    counted = Counter(one.state for one in found)
    return {state: counted[state] for state in runs.STATES if counted[state]}


def _spoken(found: list[Standing]) -> str:
    return f"{len(found)} runs, " + ", ".join(
        f"{number} {state}" for state, number in _counts(found).items()
    )


def _row(one: Standing) -> dict[str, Any]:
    told = {
        "state": one.state,
        "progress": one.progress,
        "failure": one.failure,
        "changed": one.changed or None,
    }
    return {"run": f"{one.stage}/{one.unit}", **told}


def _failure(one: Standing) -> str:
    if one.failure is None:
        return ""
    cell, exception, message, kind = (
        one.failure.get(name) for name in ("cell", "exception", "message", "kind")
    )
    return f"cell {cell}: {exception}: {message} [{kind}]"


def _studies() -> list[dict[str, Any]]:
    from lib.batch import parameter_grid

    return [
        {"name": name, "about": parameter_grid.read_toml(studies.find(name)).get("question", "")}
        for name in studies.names()
    ]


def _data() -> list[dict[str, Any]]:
    from lib.data import dataset, sources

    here = dataset.names()
    absent = [name for name in sources.PACKAGED if name not in here]
    packaged = [{"name": name, "about": "packaged, comes when it is asked for"} for name in absent]
    return [{"name": name, "about": str(paths.dataset(name))} for name in here] + packaged


def _notebooks() -> list[dict[str, Any]]:
    return [
        {
            "name": notebook.name,
            "about": notebook.title,
            "parameters": [
                {
                    "name": each.name,
                    "type": each.type,
                    "default": each.default,
                    "allowed": each.allowed(),
                    "help": each.help,
                }
                for each in notebook.parameters.values()
            ],
        }
        for notebook in notebooks.every()
    ]


_LISTS = {"studies": _studies, "data": _data, "notebooks": _notebooks}
