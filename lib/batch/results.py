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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lib import files, hashing, paths, runs
from lib.batch import parameter_grid, status
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
    """Returns one row for each run of the study in `folder`, in the study's order; `found` where
    that is known already.
    """
    import pandas

    rows = [
        _row(folder, run)
        for run in (status.with_staleness(folder) if statuses is None else statuses)
    ]
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
    files.write_text(place / CSV, frame.to_csv(index=False, lineterminator="\n"))
    return place / CSV


def _row(folder: str, one: RunStatus) -> dict[str, Any]:
    place = paths.run(folder, one.stage, one.name)
    result = record.result(place) if one.state in ("finished", "stale") else None
    parameters = ((result or {}).get("key") or record.key(place) or {}).get("parameters", {})
    result = result or {}
    row = {
        "study": folder,
        "stage": one.stage,
        "unit": one.name,
        "arm": parameters.get("arm") or None,
        "seed": parameters.get("seed"),
        "state": one.state,
        "seconds": result.get("seconds"),
        "finished": _when(place / record.RESULT) if result else None,
        "changed": one.changed or None,
        "failure": _why(one.failure),
    }
    named = {"metrics": result.get("metrics", {}), "parameters": parameters}
    return row | {
        f"{part}.{name}": _plain(value)
        for part, values in named.items()
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _when(path: Path) -> str:
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return changed.isoformat(timespec="seconds")


def _why(failure: dict[str, Any] | None) -> str | None:
    return (
        None
        if failure is None
        else f"{failure.get('kind')}: {failure.get('exception')}: {failure.get('message')}"
    )


PAGE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
_MOST_FAILURES = 10
_MOST_RUNS = 500


def write_page() -> Path:
    """Writes the page, and a table of results for every study that ran, and returns the page's
    path.
    """
    from lib.reporting import text

    folder = paths.logs()
    studies = [_study(name) for name in status.folders()]
    studies.sort(key=lambda study: study["latest"], reverse=True)
    page = (
        text.templates(TEMPLATES)
        .get_template(PAGE)
        .render(
            style=(text.TEMPLATES / "comparison.css").read_text("utf-8"),
            studies=studies,
            lead=_lead(studies),
            made=_day(time.time()),
        )
    )
    files.write_text(folder / PAGE, page)
    return folder / PAGE


def _study(folder: str) -> dict[str, Any]:
    about = runs.study_info(folder)
    statuses = status.with_staleness(folder)
    table = write(folder, statuses)
    counts = Counter(one.state for one in statuses)
    failed = [one for one in statuses if one.failure is not None]
    latest = max([about.get("written", 0.0), *(_changed(folder, one) for one in statuses)])
    return {
        "folder": folder,
        "question": about.get("question") or ("Notebooks run by hand" if not about else ""),
        "data": about.get("data") and parameter_grid.data_name(about["data"]),
        "when": _day(latest) if latest else "",
        "latest": latest,
        "command": about.get("command"),
        "counts": {state: counts[state] for state in runs.STATES if counts[state]},
        "spoken": ", ".join(f"{counts[state]} {state}" for state in runs.STATES if counts[state]),
        "unfinished": any(one.state in ("failed", "killed", "stale", "queued") for one in statuses),
        "tables": _tables(_files(folder, statuses, "comparison.csv")),
        "links": [
            *_pages(folder, statuses),
            ("all runs as CSV", _link(table)),
            ("Parquet", _link(table.with_suffix(".parquet"))),
        ],
        "failures": [_page_failure(one) for one in failed[:_MOST_FAILURES]],
        "rows": [_page_row(folder, one) for one in statuses[:_MOST_RUNS]],
    }


def _lead(studies: Sequence[dict[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for study in studies:
        counts.update(study["counts"])
    words = ", ".join(f"{counts[state]} {state}" for state in runs.STATES if counts[state])
    number = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}"
    return f"{number}, {sum(counts.values())} runs: {words}."


def _pages(folder: str, statuses: Sequence[RunStatus]) -> list[tuple[str, str]]:
    pages = []
    for one in statuses:
        for path in sorted(paths.run(folder, one.stage, one.name).glob("*.html")):
            name = one.stage if one.name == "all" else f"{one.stage} {one.name}"
            pages.append((f"{name}: {path.stem}", _link(path)))
    return sorted(pages, key=lambda page: "report" not in page[0])


def _files(folder: str, statuses: Sequence[RunStatus], name: str) -> list[Path]:
    candidates = [paths.run(folder, one.stage, one.name) / name for one in statuses]
    return [path for path in candidates if path.is_file()]


def _tables(files: Sequence[Path]) -> list[tuple[str, list[list[str]]]]:
    """Each comparison with its name, which is needed only where there are several."""
    return [(path.parent.name if len(files) > 1 else "", _rows(path)) for path in files]


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file)) or [[]]


def _page_row(folder: str, one: RunStatus) -> dict[str, Any]:
    place = paths.run(folder, one.stage, one.name)
    seconds = (record.result(place) or {}).get("seconds")
    remark = (
        one.line()
        if one.state == "running"
        else one.changed or (one.failure or {}).get("exception", "")
    )
    notebook = place / "notebook.ipynb"
    return {
        "run": f"{one.stage}/{one.name}",
        "state": one.state,
        "seconds": ""
        if seconds is None
        else f"{seconds:,.0f}"
        if seconds >= 10
        else f"{seconds:.1f}",
        "remark": remark,
        "notebook": _link(notebook) if notebook.is_file() else None,
    }


def _page_failure(one: RunStatus) -> dict[str, Any]:
    failure = one.failure or {}
    return {
        "run": f"{one.stage}/{one.name}",
        "where": f"cell {failure['cell']} ({failure.get('source', '')})"
        if failure.get("cell")
        else "no cell",
        "exception": failure.get("exception"),
        "message": failure.get("message"),
        "kind": failure.get("kind"),
        "meaning": CLASSES.get(failure.get("kind", ""), ""),
    }


def _link(path: Path) -> str:
    return quote(path.relative_to(paths.logs()).as_posix())


def _changed(folder: str, one: RunStatus) -> float:
    try:
        return (paths.run(folder, one.stage, one.name) / record.RESULT).stat().st_mtime
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
    exported = []
    for run in finished:
        folder = paths.run(study, run.stage, run.name)
        name = f"{run.stage}/{run.name}"
        if _export(client, experiment_id, name, folder, record.read(folder)):
            exported.append(name)
    return exported


def _export(
    client: Any, experiment_id: str, name: str, folder: Path, result: dict[str, Any]
) -> bool:
    digest = hashing.file(folder / record.RESULT)
    known = client.search_runs([experiment_id], f"tags.`darkroom.result` = '{digest}'")
    if known:
        return False
    tags = {"mlflow.runName": name, "darkroom.result": digest, "darkroom.stage": result["stage"]}
    run_id = client.create_run(experiment_id, tags=tags).info.run_id
    for parameter, value in record.parameters(folder).items():
        client.log_param(run_id, parameter, str(value)[:_LONGEST_VALUE])
    for metric, value in result.get(
        "metrics", {}
    ).items():  # with `_low` and `_high` of each interval
        if isinstance(value, int | float):
            client.log_metric(run_id, metric, value)
    _log_history(client, run_id, folder)
    for file in (folder / artifact for artifact in ARTIFACTS):
        if file.is_file():
            client.log_artifact(run_id, str(file))
    if (folder / record.FIGURES).is_dir():
        client.log_artifacts(run_id, str(folder / record.FIGURES), record.FIGURES)
    client.set_terminated(run_id)
    return True


def _log_history(client: Any, run_id: str, folder: Path) -> None:
    import pandas

    if not (folder / record.HISTORY).is_file():
        return
    history = pandas.read_csv(folder / record.HISTORY).select_dtypes("number")
    for step, row in enumerate(history.to_dict("records"), start=1):
        for name, value in row.items():
            client.log_metric(run_id, f"epoch_{name}", value, step=step)
