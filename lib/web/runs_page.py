"""The runs pages: all studies, one study with report and curves, one run with its figures."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from flask import Blueprint, Response, abort, jsonify, render_template, request, send_file

from lib import paths
from lib.apply import active_learning
from lib.batch import status
from lib.batch.status import RunStatus
from lib.data import decode
from lib.embeddings import map_record
from lib.errors import DarkroomError
from lib.evaluation import multilabel, outcomes
from lib.reporting import style
from lib.runs import record as run_record
from lib.web import finished_runs
from lib.web.finished_runs import Run

pages = Blueprint("runs_page", __name__)
_BOARD_PORT = 6006  # of `darkroom board`
CURVES = ("val_accuracy", "val_loss", "accuracy", "loss", "learning_rate")
_MAX_EPOCHS = 5_000

# The report is a page of its own without any script; nothing in it may load from anywhere. The
# study's page frames it and reads its height.
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    "base-uri 'none'; sandbox allow-same-origin allow-popups"
)
_FIGURE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


@pages.get("/runs")
def all_studies() -> str:
    """All studies, the latest first."""
    studies = [_study(name) for name in finished_runs.studies()]
    return render_template("runs.html", studies=studies, page="runs")


@pages.get("/runs/<study>")
def one_study(study: str) -> str:
    """One study: its question, its progress, its report, its runs by validation, their curves."""
    runs = finished_runs.runs(study)
    about = _study(study)
    trained = sorted(filter(_is_training, runs), key=_place)
    several = [run for run in runs if multilabel.is_of(run.result)]
    return render_template(
        "study.html",
        about=about,
        trained=trained,
        multilabel=sorted(several, key=lambda run: -run.result["metrics"].get("val_macro_f1", 0)),
        others=[run for run in runs if run not in several and not _is_training(run)],
        data=data_of(about["data"]),
        gains=_gains(trained, about["titles"]),
        page="runs",
    )


@pages.get("/runs/<study>/<stage>/<run>")
def one_run(study: str, stage: str, run: str) -> str:
    """One run: sentences, numbers, figures with their alt texts, parameters."""
    trained = finished_runs.run(study, stage, run)
    metrics = trained.result.get("metrics", {})
    numbers = {
        name: value for name, value in metrics.items() if isinstance(value, int | float | str)
    }
    findings = outcomes.read(trained.result.get("audit") or [])
    return render_template(
        "run.html",
        found=trained,
        figures=_figures(trained),
        numbers=numbers,
        flagged=[row for row in findings if row["outcome"] not in ("held", "not_judged")],
        parameters=trained.result.get("key", {}).get("parameters", {}),
        has_maps=(trained.folder / map_record.ACCOUNT).is_file(),
        has_report=(trained.folder / "report.html").is_file(),
        has_labels=(trained.folder / "labels.parquet").is_file(),
        has_predictions=(trained.folder / run_record.PREDICTIONS).is_file(),
        data=_data(trained),
        page="runs",
    )


@pages.get("/runs/<study>/<stage>/<run>/figures/<name>")
def figure(study: str, stage: str, run: str, name: str) -> Response:
    """A figure of a run, as SVG where the run saved one and the request takes it."""
    path = finished_runs.figure_path(finished_runs.run(study, stage, run), name)
    drawn = path.with_suffix(".svg")
    is_vector = (
        "svg" in request.args and drawn.is_file() and finished_runs.is_inside(drawn, path.parent)
    )
    mimetype = "image/svg+xml" if is_vector else "image/png"
    response = send_file(drawn if is_vector else path, mimetype=mimetype, conditional=True)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = _FIGURE_POLICY
    return response


@pages.get("/runs/<study>/<stage>/<run>/report")
def report(study: str, stage: str, run: str) -> Response:
    """The report that a run wrote, as it is: of a comparison, or of a model applied to pictures."""
    path = finished_runs.run(study, stage, run).folder / "report.html"
    if not path.is_file():
        abort(404, "This run wrote no report.")
    response = send_file(path, mimetype="text/html", conditional=True)
    response.headers["Content-Security-Policy"] = _REPORT_POLICY
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


@pages.get("/api/runs/progress")
def progress_of_all() -> Response:
    """Returns for every study how many runs have finished, and what the running ones do."""
    return jsonify({name: _counted(_statuses(name)) for name in finished_runs.studies()})


@pages.get("/api/runs/<study>/progress")
def progress(study: str) -> Response:
    """Returns the status of every run of a study, for an open page."""
    finished_runs.runs(study)  # refuses what is no study
    return jsonify([_progress(one) for one in _statuses(study)])


@pages.get("/api/runs/<study>/curves")
def curves(study: str) -> Response:
    """The history of every run of a study that has one, also of running ones."""
    finished_runs.runs(study)
    folder = paths.logs() / study
    histories = {}
    for file in sorted(folder.glob("*/*/history.csv")):
        if finished_runs.is_inside(file, folder):
            history = _history(file)
            if history:
                histories["/".join(file.parts[-4:-1])] = history
    return jsonify(histories)


@pages.get("/api/runs/<study>/parameters")
def parameters(study: str) -> Response:
    """The parameters in which the chosen runs (`run`, several times) differ."""
    chosen = [run for run in finished_runs.runs(study) if run.id in request.args.getlist("run")]
    given = {run.id: run.result.get("key", {}).get("parameters", {}) for run in chosen}
    names = sorted({name for values in given.values() for name in values})
    rows = {name: [str(given[run.id].get(name, "")) for run in chosen] for name in names}
    return jsonify({name: values for name, values in rows.items() if len(set(values)) > 1})


@pages.app_template_global()
def board_address(study: str = "") -> str | None:
    """The address of TensorBoard for a study, or for all; None if none runs on this machine."""
    host = request.host.rsplit(":", 1)[0]
    try:
        socket.create_connection(("127.0.0.1", _BOARD_PORT), timeout=0.2).close()
    except OSError:
        return None
    chosen = f"?{urlencode({'runFilter': f'^{re.escape(study)}/'})}" if study else ""
    return f"http://{host}:{_BOARD_PORT}/{chosen}#timeseries"


@pages.app_template_global()
def report_title(run: Run) -> str:
    """The title of a report within its study: its arm, or its stage."""
    return (run.stage if run.name == "all" else run.name).replace("_", " ")


def data_of(names: list[str]) -> list[str]:
    """Returns those of some data sets that the data page can show."""
    return [name for name in names if (paths.datasets() / name / "manifest.parquet").is_file()]


def _study(name: str) -> dict[str, Any]:
    about, statuses = {}, _statuses(name)
    try:
        about = status.read(name)
    except (DarkroomError, KeyError, TypeError):  # a notebook opened by hand belongs to no study
        statuses = []
    runs = finished_runs.runs(name)
    trained = [run for run in runs if _is_training(run)]
    return {
        "name": name,
        "question": about.get("question", ""),
        "finished": len(runs),
        "unfinished": [_progress(one) for one in statuses if one.state != "finished"],
        "total": max(len(statuses), len(runs)),
        "data": sorted({_data(run) for run in runs} - {""}),
        "titles": about.get("titles") or {},
        "arms": _arms(trained, about.get("titles") or {}),
        "is_tiny": any(run.is_tiny for run in runs),
        "reports": [run for run in runs if (run.folder / "report.html").is_file()],
        "maps": [run for run in runs if (run.folder / map_record.ACCOUNT).is_file()],
    }


def _counted(statuses: list[RunStatus]) -> dict[str, Any]:
    return {
        "finished": sum(one.state == "finished" for one in statuses),
        "total": len(statuses),
        "running": [_progress(one) for one in statuses if one.state == "running"],
    }


def _statuses(study: str) -> list[RunStatus]:
    try:
        return status.of_study(study)
    except (DarkroomError, KeyError, TypeError):
        return []


def _progress(one: RunStatus) -> dict[str, Any]:
    failure, progress = one.failure or {}, one.progress
    name = "epoch" if progress.get("epoch") and progress.get("epochs") else "cell"
    part, whole = progress.get(name), progress.get(f"{name}s")
    known = isinstance(part, int | float) and isinstance(whole, int | float) and whole > 0
    return {
        "run": f"{one.stage}/{one.name}",
        "state": one.state,
        "line": one.line(),
        "share": min(1.0, part / whole) if known else None,
        "failure": f"{failure.get('exception')}: {failure.get('message', '')}" if failure else "",
    }


def _history(file: Path) -> dict[str, list[float | None]]:
    try:
        table = pd.read_csv(file, nrows=_MAX_EPOCHS)
    except (OSError, ValueError):
        return {}
    if "kind" in table:
        table = table[table["kind"].isna()]  # a linear head has no epochs
    columns = {}
    for name in ("epoch", *CURVES):
        values = pd.to_numeric(table.get(name, pd.Series(dtype=float)), errors="coerce")
        finite = np.isfinite(values)
        if finite.any():
            columns[name] = values.astype(object).where(finite, None).tolist()
    return columns


def _arms(trained: list[Run], titles: dict[str, str]) -> list[dict[str, Any]]:
    """One row an arm and data set: mean validation accuracy over its seeds, the best first."""
    groups: dict[tuple[str, str], list[float]] = {}
    for run in trained:
        arm = titles.get(_arm(run), _arm(run))
        groups.setdefault((_data(run), arm), []).append(_validation(run))
    arms = [
        {
            "arm": arm,
            "data": data,
            "mean": mean(scores),
            "sd": stdev(scores) if scores[1:] else None,
        }
        for (data, arm), scores in groups.items()
    ]
    return sorted(arms, key=lambda row: (row["data"], -np.nan_to_num(row["mean"], nan=-1.0)))


def _gains(trained: list[Run], titles: dict[str, str]) -> list[dict[str, Any]]:
    """One row an arm and data set whose data changed since an earlier training: what it gained."""
    sides: dict[tuple[str, str], list[tuple[Run, Run]]] = {}
    for run in trained:
        if earlier := finished_runs.before_data_changed(run):
            sides.setdefault((_data(run), _arm(run)), []).append((earlier, run))
    rows = []
    for (data, arm), pairs in sides.items():
        before, after = (
            [finished_runs.predictions(run) for run in side] for side in zip(*pairs, strict=True)
        )
        if gained := active_learning.gain(before, after):
            rows.append({"arm": titles.get(arm, arm), "data": data, **gained})
    return rows


def _arm(run: Run) -> str:
    return str(run.result.get("arm") or run.name.rsplit("-s", 1)[0])


def _is_training(run: Run) -> bool:
    metrics = run.result.get("metrics", {})
    return isinstance(metrics.get("accuracy"), float) and not multilabel.is_of(run.result)


def _validation(run: Run) -> float:
    value = run.result["metrics"].get("val_accuracy")
    return value if isinstance(value, float) else float("nan")


def _place(run: Run) -> tuple[str, float]:
    return _data(run), -float(np.nan_to_num(_validation(run), nan=-1.0))


def _data(run: Run) -> str:
    return str(run.result.get("data") or "")


def _figures(run: Run) -> list[dict[str, Any]]:
    figures = []
    for name in run.result.get("figures", []):
        try:
            path = finished_runs.figure_path(run, name)
            alt = style.alt_of(path)
        except (DarkroomError, OSError, decode.ImageError):
            continue
        title = name.removesuffix(".png").replace("_", " ")
        is_vector = path.with_suffix(".svg").is_file()
        figures.append({"name": name, "title": title, "alt": alt or name, "is_vector": is_vector})
    return figures
