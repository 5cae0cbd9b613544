"""The label page: pictures of an application, the most useful first, labelled by keyboard."""

from __future__ import annotations

import functools
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Blueprint, Response, abort, jsonify, render_template

from lib import hashing
from lib.apply import labelling
from lib.data import dataset as datasets
from lib.data import decode
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.evaluation.predictions import Predictions
from lib.runs import record
from lib.web import archive, pictures
from lib.web.archive import Run
from lib.web.http import asked_side, body, jpeg_response, plain_label
from lib.web.image_table import MAX_ROWS, NONE, packed

pages = Blueprint("label_page", __name__)
STATES = ("to label", "labelled", "skipped")
LABELS = "labels.parquet"
_ADDRESS = "/label/<study>/<stage>/<run>"
_lock = threading.RLock()


class Application:
    """The answers of one run of `9_apply`, and the labels that have been given by hand since."""

    def __init__(self, run: Run) -> None:
        self.run = run
        model = str(run.result.get("model", ""))
        if model.count("/") != 2:
            raise DarkroomError(
                f"{run.id} applied a model without its run, so nothing says which data set its "
                "labels would join."
            )
        self.model = archive.run(*model.split("/"))
        self.dataset = datasets.load(str(self.model.result.get("data")))
        self.folder = _folder(run)
        frame = pd.read_parquet(run.folder / LABELS)
        self.frame = frame[frame["probability"].notna()].reset_index(drop=True)
        self.names = [name.removeprefix("p_") for name in frame.columns if name.startswith("p_")]
        self.shares = self.frame[[f"p_{name}" for name in self.names]].to_numpy(np.float32)
        self.version = hashing.digest(*self.frame["path"].astype(str))
        self.labels = list(self.names)
        known = labelling.read(self.dataset, self.folder)
        self.label = np.full(len(self.frame), NONE, "<u2")
        self.state = np.zeros(len(self.frame), np.uint8)
        for row, path in enumerate(self.frame["path"]):
            if path in known:
                self._set(row, known[path]["label"], skipped=bool(known[path]["skipped"]))
        self.undoable: list[list[tuple[int, str | None, bool]]] = []

    @functools.cached_property
    def rank(self) -> np.ndarray:
        """float32 (n,): the place of each picture in the order of usefulness."""
        rank = np.empty(len(self.frame), np.float32)
        rank[labelling.order(self.shares, self._looks)] = np.arange(len(self.frame))
        return rank

    def picture(self, row: int) -> Path:
        """Returns the file of a picture. Raises DarkroomError for one outside the folder."""
        if not 0 <= row < len(self.frame):
            raise DarkroomError(f"This application has the pictures 0 to {len(self.frame) - 1}.")
        file = (self.folder / str(self.frame["path"].iloc[row])).resolve()
        if not file.is_relative_to(self.folder.resolve()):
            raise DarkroomError("This picture lies outside its folder; it is not shown.")
        return file

    def decide(self, rows: list[int], *, label: str | None, skipped: bool) -> None:
        """Gives pictures a label, or skips them; each is on the disk before this returns."""
        self.undoable.append([(row, self._label(row), self.state[row] == 2) for row in rows])
        for row in rows:
            self._write(row, label, skipped)

    def undo(self) -> list[int]:
        """Takes back the last decision made since the page's server started."""
        if not self.undoable:
            raise DarkroomError("There is no label of this page to undo.")
        before = self.undoable.pop()
        for row, label, skipped in before:
            self._write(row, label, skipped)
        return [row for row, _, _ in before]

    def _write(self, row: int, label: str | None, skipped: bool) -> None:
        path = str(self.frame["path"].iloc[row])
        labelling.append(self.dataset, self.folder, path, label=label, skipped=skipped)
        self._set(row, label, skipped=skipped)

    def _set(self, row: int, label: str | None, *, skipped: bool) -> None:
        if label is not None and label not in self.labels:
            self.labels.append(label)
        self.label[row] = NONE if label is None else self.labels.index(label)
        self.state[row] = 2 if skipped else int(label is not None)

    def _label(self, row: int) -> str | None:
        return None if self.label[row] == NONE else self.labels[self.label[row]]

    def _looks(self, rows: np.ndarray) -> np.ndarray:
        """Returns small colour pictures of some rows, float (k, 8 * 8 * 3)."""
        looks = np.zeros((len(rows), 192))
        for place, row in enumerate(rows):
            try:
                pixels = decode.decode(self.picture(int(row)).read_bytes()).pixels
            except (OSError, decode.ImageError):
                continue
            looks[place] = decode.resize(pixels, height=8, width=8).reshape(-1)
        return looks


@pages.get(_ADDRESS)
def page(study: str, stage: str, run: str) -> str:
    """The page. Its script asks for everything else."""
    application = _load(study, stage, run)
    about = {"mode": "label", "api": f"/api/label/{study}/{stage}/{run}", "runs": []}
    title = f"Label {application.folder.name}"
    return render_template(
        "data.html",
        name=application.folder.name,
        title=title,
        about=about,
        files=len(application.frame),
        gain=_gain(application),
        page="data",
    )


@pages.get(f"/api{_ADDRESS}/about")
def about(study: str, stage: str, run: str) -> Response:
    """Names and counts."""
    application = _load(study, stage, run)
    return jsonify(
        name=application.folder.name,
        files=len(application.frame),
        version=application.version,
        labels=application.labels,
        verdicts=STATES,
        splits=[],
        attributes=[],
        reasons=[],
        undo=len(application.undoable),
    )


@pages.get(f"/api{_ADDRESS}/arrays")
def arrays(study: str, stage: str, run: str) -> Response:
    """The pictures as one block of arrays; see `image_table.packed`."""
    application = _load(study, stage, run)
    num = len(application.frame)
    columns = {
        "verdict": application.state,
        "label": application.label,
        "source_label": np.full(num, NONE, "<u2"),
        "decided": (application.state > 0).astype(np.uint8),
        "split": np.full(num, 255, np.uint8),
        "reasons": np.zeros((num, 1), np.uint8),
        "group": np.full(num, -1, "<i4"),
        "opinion": application.shares.argmax(axis=1).astype("<u2"),
        "confidence": application.shares.max(axis=1).astype("<f4"),
        "score": np.full(num, np.nan, "<f4"),
        "side": np.zeros(num, "<u2"),
        "rank": application.rank,
    }
    columns["source_label"] = application.label.copy()
    return Response(packed(columns), mimetype="application/octet-stream")


@pages.post(f"/api{_ADDRESS}/rows")
def rows(study: str, stage: str, run: str) -> Response:
    """Some pictures in words, with their probabilities."""
    application = _load(study, stage, run)
    described = []
    for row in _rows(application):
        file = application.picture(row)
        ranked = np.argsort(-application.shares[row])[:12]
        shares = [
            [application.names[code], float(application.shares[row, code])] for code in ranked
        ]
        described.append(
            {
                "row": row,
                "path": str(application.frame["path"].iloc[row]),
                "size": "",
                "format": file.suffix.lstrip(".").upper(),
                "bytes": file.stat().st_size if file.is_file() else 0,
                "findings": [],
                "attributes": {},
                "probabilities": shares,
            }
        )
    return jsonify(described)


@pages.get(f"/api{_ADDRESS}/search")
def search(study: str, stage: str, run: str) -> Response:
    """The pictures whose path holds some words."""
    from flask import request

    application = _load(study, stage, run)
    words = request.args.get("text", "")[:200].casefold().split()
    named = [str(path).casefold() for path in application.frame["path"]]
    return jsonify(
        rows=[row for row, path in enumerate(named) if all(word in path for word in words)]
    )


@pages.get(f"/api{_ADDRESS}/pictures/<int:row>")
def picture(study: str, stage: str, run: str, row: int) -> Response:
    """A picture as a JPEG of the side that was asked for."""
    file = _load(study, stage, run).picture(row)
    return jpeg_response(pictures.of_path(file, side=asked_side()))


@pages.post(f"/api{_ADDRESS}/decide")
def decide(study: str, stage: str, run: str) -> Response:
    """Notes a label (`action` relabel, with a `label`) or that the pictures are skipped."""
    application, action = _load(study, stage, run), body("action", str)
    chosen = _rows(application)
    if action not in ("relabel", "skip"):
        abort(400, "`action` is relabel or skip.")
    label = plain_label(body("label", str)) if action == "relabel" else None
    with _lock:
        application.decide(chosen, label=label, skipped=action == "skip")
        return _decided(application, chosen)


@pages.post(f"/api{_ADDRESS}/undo")
def undo(study: str, stage: str, run: str) -> Response:
    """Takes back the last decision."""
    application = _load(study, stage, run)
    with _lock:
        return _decided(application, application.undo())


@pages.get(f"/api{_ADDRESS}/join")
def planned(study: str, stage: str, run: str) -> Response:
    """Previews joining."""
    application = _load(study, stage, run)
    num, data = len(labelling.labelled(application.dataset)), application.dataset.name
    return jsonify(
        sentence=f"{num:,} pictures are labelled for the data set {data}. A new data set of its "
        "kept images and these pictures will be made; the new ones are trained on, and the test "
        f"images stay those of {application.model.id}. Nothing is changed in {data} itself."
    )


@pages.post(f"/api{_ADDRESS}/join")
def join(study: str, stage: str, run: str) -> Response:
    """Makes the data set of the old images and the newly labelled ones."""
    application = _load(study, stage, run)
    frame = _predictions(application.model).frame
    splits = dict(zip(frame["path"], frame["split"], strict=True))
    with _lock:
        made = labelling.join(application.dataset, splits=splits)
    study_name = application.model.study.split("@")[0]
    return jsonify(
        name=made.name,
        sentence=f"The data set {made.name} is made. Train again with the command below; this "
        "page then shows what the labels gained on the same test images.",
        command=f"darkroom run {study_name} --set data={made.name} --set split_method=source",
    )


def _decided(application: Application, rows: list[int]) -> Response:
    return jsonify(
        entry=0,
        rows=rows,
        verdicts=application.state[rows].tolist(),
        labels=application.label[rows].tolist(),
        decided=(application.state[rows] > 0).astype(int).tolist(),
        names=application.labels,
        undo=len(application.undoable),
    )


def _rows(application: Application) -> list[int]:
    if body("version", str) != application.version:
        abort(409, "This application has been repeated since the page was opened; reload it.")
    chosen = body("rows", list)
    num = len(application.frame)
    if not chosen or len(chosen) > max(MAX_ROWS, num):
        raise DarkroomError("Name at least one picture.")
    if not all(type(row) is int and 0 <= row < num for row in chosen):
        raise DarkroomError(f"This application has the pictures 0 to {num - 1}.")
    return chosen


def _gain(application: Application) -> dict[str, Any] | None:
    """Returns what retraining on the labelled pictures gained, for the newest such run."""
    wanted = f"{application.dataset.name}_labelled"
    before = _predictions(application.model)
    for run in archive.runs_of_stage(application.model.stage):
        same_arm = run.name == application.model.name
        if same_arm and str(run.result.get("data", "")).startswith(wanted):
            gained = labelling.gain(before, _predictions(run))
            if gained is not None:
                return {**gained, "run": run.id, "model": application.model.id}
    return None


def _predictions(run: Run) -> Predictions:
    return predictions.read(run.folder / record.PREDICTIONS)


def _folder(run: Run) -> Path:
    from lib.apply import folder

    pictures = run.result.get("key", {}).get("parameters", {}).get("pictures")
    if not isinstance(pictures, str):
        raise DarkroomError(f"{run.id} does not say which pictures it was applied to.")
    return folder.find_folder(pictures)


def _load(study: str, stage: str, name: str) -> Application:
    run = archive.run(study, stage, name)
    file = run.folder / LABELS
    if not file.is_file():
        raise DarkroomError(f"{run.id} has not been applied to pictures; run 9_apply.")
    with _lock:
        return _opened(json.dumps([study, stage, name]), file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _opened(place: str, _changed_ns: int) -> Application:
    return Application(archive.run(*json.loads(place)))
