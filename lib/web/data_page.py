"""The data page: images of a data set, decisions, labels, and a run's predictions."""

from __future__ import annotations

import functools
import json
import threading
from typing import Any

import numpy as np
from flask import Blueprint, Response, abort, jsonify, render_template

from lib.cleaning import clean
from lib.data import dataset as datasets
from lib.errors import DarkroomError
from lib.evaluation import multilabel, predictions
from lib.evaluation.predictions import Predictions
from lib.runs import record
from lib.web import archive, image_table
from lib.web.archive import Run
from lib.web.http import image_routes, jpeg_response, packed
from lib.web.image_table import NONE, ImageTable

pages = Blueprint("data_page", __name__)
SYNC_AFTER_S = 3.0
"""Seconds without a decision after which the manifest is brought up to the ledger."""
_timers: dict[str, threading.Timer] = {}


@pages.get("/data")
def index() -> str:
    """All data sets."""
    return render_template(
        "data_index.html", datasets=[_card(name) for name in datasets.names()], page="data"
    )


@pages.get("/data/<name>")
def one(name: str) -> str:
    """One data set. Its script asks for everything else."""
    table = image_table.load(name)
    runs = [
        {"id": run.id, "title": f"{run.study} / {run.stage} / {run.name}"} for run in _runs(name)
    ]
    about = {"mode": "clean", "api": f"/api/data/{name}", "runs": runs}
    return render_template(
        "data.html", name=name, about=about, title=name, files=len(table), page="data"
    )


@pages.get("/api/data/<name>/predictions/<study>/<stage>/<run>")
def predicted(name: str, study: str, stage: str, run: str) -> Response:
    """Returns a run's predictions as arrays in the order of the data set's images."""
    table = image_table.load(name)
    predictions = _predictions(archive.run(study, stage, run))
    return Response(
        _aligned(table, predictions),
        mimetype="application/octet-stream",
        headers={"X-Classes": json.dumps(predictions.class_names)},
    )


@pages.get("/api/data/<name>/probabilities/<int:row>/<study>/<stage>/<run>")
def probabilities(name: str, row: int, study: str, stage: str, run: str) -> Response:
    """All probabilities that a run gave to one image, the highest first."""
    table = image_table.load(name)
    predictions = _predictions(archive.run(study, stage, run))
    place = predictions.frame["path"].searchsorted(table.picture(row))
    if place >= len(predictions) or predictions.frame["path"].iloc[place] != table.picture(row):
        return jsonify([])
    shares = zip(predictions.class_names, map(float, predictions.probabilities[place]), strict=True)
    return jsonify(sorted(shares, key=lambda share: -share[1])[:12])


@pages.get("/api/data/<name>/heat/<int:row>/<study>/<stage>/<run>")
def heat(name: str, row: int, study: str, stage: str, run: str) -> Response:
    """The heat-map of a run's model for one image and the class that it predicts."""
    from lib.web import classify_page, models

    table = image_table.load(name)
    loaded = models.load(archive.run(study, stage, run))
    content = classify_page.heat_of_file(loaded, table.dataset, table.picture(row))
    if content is None:
        abort(404, "This model has no heat-map.")
    return jpeg_response(content)


def _sync_later(table: ImageTable) -> None:
    """Brings the manifest up to the ledger once no decision was made for a while; the ledger
    itself is never behind.
    """
    name = table.dataset.name
    image_table.remember(table)

    def sync() -> None:
        clean.sync(table.dataset)
        image_table.remember(table)

    if name in _timers:
        _timers[name].cancel()
    timer = _timers[name] = threading.Timer(SYNC_AFTER_S, sync)
    timer.daemon = True
    timer.start()


image_routes(pages, "/data/<name>", image_table.load, after=_sync_later)


def _card(name: str) -> dict[str, Any]:
    try:
        dataset = datasets.load(name)
    except DarkroomError as error:
        return {"name": name, "problem": str(error)}
    if not dataset.cleaned():
        return {"name": name, "problem": f"Not cleaned yet. Type: darkroom clean {name}"}
    try:
        table = image_table.load(name)
    except DarkroomError as error:
        return {"name": name, "problem": str(error)}
    counts = np.bincount(table.verdict, minlength=len(image_table.VERDICTS))
    kept = np.flatnonzero(table.verdict == 0)
    return {
        "name": name,
        "files": len(table),
        "classes": len(np.unique(table.label[table.label != NONE])),
        "counts": dict(zip(image_table.VERDICTS, counts.tolist(), strict=True)),
        "decided": int(table.decided.sum()),
        "suspects": table.num_open("wrong_label"),
        "samples": kept[np.unique(np.linspace(0, len(kept) - 1, 6).astype(int))].tolist()
        if len(kept)
        else [],
        "version": table.version,
    }


def _runs(name: str) -> list[Run]:
    runs = [
        run
        for study in archive.studies()
        for run in archive.runs(study)
        if run.result.get("data") == name
    ]
    return [
        run
        for run in runs
        if (run.folder / record.PREDICTIONS).is_file() and not multilabel.is_of(run.result)
    ]


def _predictions(run: Run) -> Predictions:
    file = run.folder / record.PREDICTIONS
    try:
        return _read(file, file.stat().st_mtime_ns)
    except OSError:
        raise DarkroomError(f"{run.id} has no predictions.") from None


@functools.lru_cache(maxsize=4)
def _read(file: Any, _changed_ns: int) -> Predictions:
    return predictions.read(file)


def _aligned(table: ImageTable, predictions: Predictions) -> bytes:
    known = {path: row for row, path in enumerate(table.paths)}
    rows = np.array([known.get(path, -1) for path in predictions.frame["path"]])
    there = rows >= 0
    num = len(table)
    truth, predicted = np.full(num, NONE, "<u2"), np.full(num, NONE, "<u2")
    confidence, split = np.full(num, np.nan, "<f4"), np.full(num, 255, np.uint8)
    truth[rows[there]] = predictions.truth[there]
    predicted[rows[there]] = predictions.predicted[there]
    confidence[rows[there]] = predictions.confidence[there]
    codes = {name: code for code, name in enumerate(image_table.SPLITS)}
    split[rows[there]] = np.array([codes[name] for name in predictions.frame["split"]], np.uint8)[
        there
    ]
    return packed(
        {"truth": truth, "predicted": predicted, "confidence": confidence, "split": split}
    )
