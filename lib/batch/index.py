"""The page of all studies, `logs/index.html`: how each stands, its scores, its report, and what
went wrong.
"""

from __future__ import annotations

import csv
import datetime
import importlib.resources
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib import files as files_module
from lib import paths, runs
from lib.batch import parameter_grid, results, status
from lib.batch.failures import CLASSES
from lib.batch.status import Standing

FILE = "index.html"
_MOST_FAILURES = 10
_MOST_RUNS = 500


def write() -> Path:
    """Writes the page, and a table of results for every study that ran, and returns the page's
    path.
    """
    import jinja2

    folder = paths.logs()
    studies = [_study(name) for name in status.folders()]
    studies.sort(key=lambda study: study["latest"], reverse=True)
    templates = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=templates, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template(FILE).render(
        style=importlib.resources.files("lib.reporting")
        .joinpath("templates", "comparison.css")
        .read_text("utf-8"),
        studies=studies,
        lead=_lead(studies),
        made=_day(time.time()),
    )
    files_module.write_text(folder / FILE, page)
    return folder / FILE


def _study(folder: str) -> dict[str, Any]:
    about = runs.about(folder)
    found = status.judged(folder)
    table = results.write(folder, found)
    counts = Counter(one.state for one in found)
    failed = [one for one in found if one.failure is not None]
    latest = max([about.get("written", 0.0), *(_changed(folder, one) for one in found)])
    return {
        "folder": folder,
        "question": about.get("question") or ("Notebooks run by hand" if not about else ""),
        "data": about.get("data") and parameter_grid.data_name(about["data"]),
        "when": _day(latest) if latest else "",
        "latest": latest,
        "command": about.get("command"),
        "counts": {state: counts[state] for state in runs.STATES if counts[state]},
        "spoken": ", ".join(f"{counts[state]} {state}" for state in runs.STATES if counts[state]),
        "unfinished": any(one.state in ("failed", "killed", "stale", "queued") for one in found),
        "tables": _tables(_files(folder, found, "comparison.csv")),
        "links": [
            *_pages(folder, found),
            ("all runs as CSV", _link(table)),
            ("Parquet", _link(table.with_suffix(".parquet"))),
        ],
        "failures": [_failure(one) for one in failed[:_MOST_FAILURES]],
        "rows": [_row(folder, one) for one in found[:_MOST_RUNS]],
    }


def _lead(studies: Sequence[dict[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for study in studies:
        counts.update(study["counts"])
    told = ", ".join(f"{counts[state]} {state}" for state in runs.STATES if counts[state])
    return f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, {sum(counts.values())} runs: {told}."


def _pages(folder: str, found: Sequence[Standing]) -> list[tuple[str, str]]:
    pages = []
    for one in found:
        for path in sorted(paths.run(folder, one.stage, one.unit).glob("*.html")):
            name = one.stage if one.unit == "all" else f"{one.stage} {one.unit}"
            pages.append((f"{name}: {path.stem}", _link(path)))
    return sorted(pages, key=lambda page: "report" not in page[0])


def _files(folder: str, found: Sequence[Standing], name: str) -> list[Path]:
    candidates = [paths.run(folder, one.stage, one.unit) / name for one in found]
    return [path for path in candidates if path.is_file()]


def _tables(files: Sequence[Path]) -> list[tuple[str, list[list[str]]]]:
    """Each comparison with its name, which is needed only where there are several."""
    return [(path.parent.name if len(files) > 1 else "", _rows(path)) for path in files]


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file)) or [[]]


def _row(folder: str, one: Standing) -> dict[str, Any]:
    place = paths.run(folder, one.stage, one.unit)
    seconds = (files_module.read_json(place / "result.json") or {}).get("seconds")
    remark = (
        one.line()
        if one.state == "running"
        else one.changed or (one.failure or {}).get("exception", "")
    )
    notebook = place / "notebook.ipynb"
    return {
        "run": f"{one.stage}/{one.unit}",
        "state": one.state,
        "seconds": ""
        if seconds is None
        else f"{seconds:,.0f}"
        if seconds >= 10
        else f"{seconds:.1f}",
        "remark": remark,
        "notebook": _link(notebook) if notebook.is_file() else None,
    }


def _failure(one: Standing) -> dict[str, Any]:
    told = one.failure or {}
    return {
        "run": f"{one.stage}/{one.unit}",
        "where": f"cell {told['cell']} ({told.get('source', '')})"
        if told.get("cell")
        else "no cell",
        "exception": told.get("exception"),
        "message": told.get("message"),
        "kind": told.get("kind"),
        "meaning": CLASSES.get(told.get("kind", ""), ""),
    }


def _link(path: Path) -> str:
    return quote(path.relative_to(paths.logs()).as_posix())


def _changed(folder: str, one: Standing) -> float:
    try:
        return (paths.run(folder, one.stage, one.unit) / "result.json").stat().st_mtime
    except OSError:
        return 0.0


def _day(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%d %B %Y, %H:%M}".removeprefix("0")
