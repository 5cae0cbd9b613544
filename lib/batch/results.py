"""The results of a study as a table, `results.csv` and `results.parquet`, as a page, and in MLflow.

The columns are those of a run (stage, unit, arm, seed, state, …), then `metrics.*` and
`parameters.*`. What was finished with another key than it would have now says `stale`, and what
changed.
"""

from __future__ import annotations

import csv
import datetime
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lib import files, hashing, paths, runs
from lib.batch import parameter_grid, plan, status
from lib.batch.status import RunStatus
from lib.errors import DarkroomError
from lib.runs import record
from lib.runs.failure import CLASSES

if TYPE_CHECKING:
    from pandas import DataFrame


CSV, PARQUET = "results.csv", "results.parquet"
FIXED = (
    "study",
    "stage",
    "unit",
    "arm",
    "seed",
    "state",
    "seconds",
    "finished",
    "changed",
    "failure",
)


def table(folder: str, statuses: Sequence[RunStatus] | None = None) -> DataFrame:
    """Returns one row for each run of the study in `folder`, in the study's order; `statuses`
    where they are known already.
    """
    import pandas

    rows = [_row(run) for run in (statuses or plan.with_staleness(folder))]
    more = sorted({name for row in rows for name in row if name not in FIXED})
    frame = pandas.DataFrame(rows, columns=[*FIXED, *more]).convert_dtypes()
    for name in more:  # a column that mixes numbers and texts cannot be stored
        if frame[name].dtype == object:
            frame[name] = frame[name].astype("string")
    return frame


def write(folder: str, statuses: Sequence[RunStatus] | None = None) -> Path:
    """Writes both files and returns the path of `results.csv`."""
    frame = table(folder, statuses)
    place = paths.logs() / folder
    files.write_parquet(place / PARQUET, frame)
    files.write_csv(place / CSV, frame)
    return place / CSV


def _row(one: RunStatus) -> dict[str, Any]:
    place = one.folder()
    result = (record.result(place) if one.state in ("finished", "stale") else None) or {}
    parameters = (result.get("key") or record.key(place) or {}).get("parameters", {})
    failed = one.failure and "{kind}: {exception}: {message}".format_map(_named(one.failure))
    row = {
        "study": one.study,
        "stage": one.stage,
        "unit": one.name,
        "arm": parameters.get("arm") or None,
        "seed": parameters.get("seed"),
        "state": one.state,
        "seconds": result.get("seconds"),
        "finished": None,
        "changed": one.changed or None,
        "failure": failed,
    }
    if result:
        ended = datetime.datetime.fromtimestamp(_changed(one), datetime.UTC)
        row["finished"] = ended.isoformat(timespec="seconds")
    for part, values in {"metrics": result.get("metrics", {}), "parameters": parameters}.items():
        for name, value in values.items():
            is_plain = not isinstance(value, dict | list)
            row[f"{part}.{name}"] = value if is_plain else json.dumps(value, ensure_ascii=False)
    return row


def _named(failure: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": None, "exception": None, "message": None, **failure}


PAGE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
_MOST_FAILURES = 10
_MOST_RUNS = 500


def write_page() -> Path:
    """Writes the page, and a table of results for every study that ran, and returns the page's
    path.
    """
    from lib.reporting import text

    page = paths.logs() / PAGE
    studies = [_study(name) for name in status.folders()]
    studies.sort(key=lambda study: study["latest"], reverse=True)
    total = Counter[str]()
    for study in studies:
        total.update(study["counts"])
    number = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}"
    words = status.spoken({state: total[state] for state in runs.STATES if total[state]})
    content = (
        text.templates(TEMPLATES)
        .get_template(PAGE)
        .render(
            style=(text.TEMPLATES / "comparison.css").read_text("utf-8"),
            studies=studies,
            lead=f"{number}, {total.total()} runs: {words}.",
            made=_day(time.time()),
        )
    )
    files.write_text(page, content)
    return page


def _study(folder: str) -> dict[str, Any]:
    about = runs.study_info(folder)
    rows = plan.with_staleness(folder)
    counts, table = status.counts(rows), write(folder, rows)
    latest = max([about.get("written", 0.0), *map(_changed, rows)])
    written = [path for row in rows for path in sorted(row.folder().glob("*.html"))]
    compared = [path for row in rows if (path := row.folder() / "comparison.csv").is_file()]
    pages = [(_page_name(path), _link(path)) for path in written]
    failed = [row for row in rows if row.failure is not None]
    return {
        "folder": folder,
        "question": about.get("question") or ("Notebooks run by hand" if not about else ""),
        "data": about.get("data") and parameter_grid.data_name(about["data"]),
        "when": _day(latest) if latest else "",
        "latest": latest,
        "command": about.get("command"),
        "counts": counts,
        "spoken": status.spoken(counts),
        "unfinished": bool(counts.keys() & {"failed", "killed", "stale", "queued"}),
        "tables": _tables(compared),
        "links": [
            *sorted(pages, key=lambda page: "report" not in page[0]),
            ("all runs as CSV", _link(table)),
            ("Parquet", _link(table.with_suffix(".parquet"))),
        ],
        "failures": [
            {
                **_named(row.failure),
                "run": row.id,
                "where": status.place(row.failure),
                "meaning": CLASSES.get(row.failure.get("kind", ""), ""),
            }
            for row in failed[:_MOST_FAILURES]
        ],
        "rows": [_page_row(row) for row in rows[:_MOST_RUNS]],
    }


def _page_name(path: Path) -> str:
    stage, name = path.parent.parent.name, path.parent.name
    return f"{stage if name == 'all' else f'{stage} {name}'}: {path.stem}"


def _tables(files: Sequence[Path]) -> list[tuple[str, list[list[str]]]]:
    """Each comparison with its name, which is needed only where there are several."""
    tables = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file)) or [[]]
        tables.append((path.parent.name if len(files) > 1 else "", rows))
    return tables


def _page_row(one: RunStatus) -> dict[str, Any]:
    seconds = (record.result(one.folder()) or {}).get("seconds")
    digits = 0 if (seconds or 0) >= 10 else 1
    remark = one.changed or (one.failure or {}).get("exception", "")
    notebook = one.folder() / record.NOTEBOOK
    return {
        "run": one.id,
        "state": one.state,
        "seconds": "" if seconds is None else f"{seconds:,.{digits}f}",
        "remark": one.line() if one.state == "running" else remark,
        "notebook": _link(notebook) if notebook.is_file() else None,
    }


def _link(path: Path) -> str:
    return quote(path.relative_to(paths.logs()).as_posix())


def _changed(one: RunStatus) -> float:
    try:
        return (one.folder() / record.RESULT).stat().st_mtime
    except OSError:
        return 0.0


def _day(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%d %B %Y, %H:%M}".removeprefix("0")


ARTIFACTS = (record.RESULT, record.HISTORY, record.PREDICTIONS, record.NOTEBOOK)
_LONGEST_VALUE = 500  # MLflow refuses a longer parameter


def export_to_mlflow(study: str, uri: str) -> list[str]:
    """Exports every finished run of a study to an MLflow tracking store.

    A run whose result the store already has is not exported again.

    Args:
        study: the folder of the study in `logs/`, which becomes the experiment's name.
        uri: the tracking store, such as `sqlite:///mlflow.db` or the address of a server.

    Returns:
        The names of the runs that were exported, `<stage>/<run>`.

    Raises:
        DarkroomError: where mlflow is not installed or the study has no finished run.
    """
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise DarkroomError(
            "The export to MLflow needs mlflow. Install it with: python -m pip install mlflow"
        ) from None
    finished = [run for run in status.of_study(study) if run.state == "finished"]
    if not finished:
        raise DarkroomError(f"The study {study} has no finished run to export. Run it first.")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(study)
    return [run.id for run in finished if _export(client, experiment_id, run)]


def _export(client: Any, experiment_id: str, run: RunStatus) -> bool:
    import pandas

    folder, result = run.folder(), record.read(run.folder())
    digest = hashing.file(folder / record.RESULT)
    if client.search_runs([experiment_id], f"tags.`darkroom.result` = '{digest}'"):
        return False
    tags = {"mlflow.runName": run.id, "darkroom.result": digest, "darkroom.stage": result["stage"]}
    run_id = client.create_run(experiment_id, tags=tags).info.run_id
    for parameter, value in record.parameters(folder).items():
        client.log_param(run_id, parameter, str(value)[:_LONGEST_VALUE])
    # Metrics come with the `_low` and `_high` of each interval.
    for metric, value in result.get("metrics", {}).items():
        if isinstance(value, int | float):
            client.log_metric(run_id, metric, value)
    if (history := folder / record.HISTORY).is_file():
        rows = pandas.read_csv(history).select_dtypes("number").to_dict("records")
        for step, row in enumerate(rows, start=1):
            for name, value in row.items():
                client.log_metric(run_id, f"epoch_{name}", value, step=step)
    for file in (folder / artifact for artifact in ARTIFACTS):
        if file.is_file():
            client.log_artifact(run_id, str(file))
    if (folder / record.FIGURES).is_dir():
        client.log_artifacts(run_id, str(folder / record.FIGURES), record.FIGURES)
    client.set_terminated(run_id)
    return True
