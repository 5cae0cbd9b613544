"""The data page: images of a data set, decisions, labels, and a run's predictions."""

from __future__ import annotations

import functools
import json
import threading
from typing import Any

import numpy as np
import pandas as pd
from flask import Blueprint, Response, abort, jsonify, render_template

from lib.cleaning import clean
from lib.data import dataset as datasets
from lib.errors import DarkroomError
from lib.evaluation import multilabel, predictions
from lib.evaluation.predictions import Predictions
from lib.runs import record
from lib.web import archive, image_table
from lib.web.archive import Run
from lib.web.http import NONE, image_routes, jpeg_response, packed
from lib.web.image_table import ImageTable

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
    answered = (predictions.frame["path"] == table.picture(row)).to_numpy()
    shares = predictions.probabilities[answered].sum(axis=0)
    ranked = np.argsort(-shares, kind="stable")[: 12 if answered.any() else 0]
    return jsonify([(predictions.class_names[code], float(shares[code])) for code in ranked])


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
        if not datasets.load(name).cleaned():
            return {"name": name, "problem": f"Not cleaned yet. Type: darkroom clean {name}"}
        table = image_table.load(name)
    except DarkroomError as error:
        return {"name": name, "problem": str(error)}
    counts = np.bincount(table.verdict, minlength=len(image_table.VERDICTS))
    kept = np.flatnonzero(table.verdict == 0)
    spread = np.unique(np.linspace(0, len(kept) - 1, min(6, len(kept))).astype(int))
    return {
        "name": name,
        "files": len(table),
        "classes": len(np.unique(table.label[table.label != NONE])),
        "counts": dict(zip(image_table.VERDICTS, counts.tolist(), strict=True)),
        "decided": int(table.decided.sum()),
        "suspects": table.num_open("wrong_label"),
        "samples": kept[spread].tolist(),
        "version": table.version,
    }


def _runs(name: str) -> list[Run]:
    runs = [run for study in archive.studies() for run in archive.runs(study)]
    own = [run for run in runs if run.result.get("data") == name]
    single = [run for run in own if not multilabel.is_of(run.result)]
    return [run for run in single if (run.folder / record.PREDICTIONS).is_file()]


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
    splits = pd.Categorical(predictions.frame["split"], categories=image_table.SPLITS).codes
    known = {
        "truth": predictions.truth,
        "predicted": predictions.predicted,
        "confidence": predictions.confidence,
        "split": splits,
    }
    rows = pd.DataFrame(known, index=predictions.frame["path"]).reindex(table.paths)
    kinds = {"truth": (NONE, "<u2"), "predicted": (NONE, "<u2"), "confidence": (np.nan, "<f4")}
    kinds["split"] = 255, "u1"
    return packed(
        {name: rows[name].fillna(no).to_numpy(kind) for name, (no, kind) in kinds.items()}
    )
