"""The label page: pictures of an application, the most useful first, labelled by keyboard."""

from __future__ import annotations

import functools
import json
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Blueprint, Response, jsonify, render_template

from lib import hashing, notebooks, parameter_types, paths
from lib.apply import active_learning
from lib.data import dataset as datasets
from lib.data import decode
from lib.errors import DarkroomError
from lib.web import finished_runs
from lib.web.finished_runs import Run
from lib.web.http import NONE, Images, checked, image_routes, packed

pages = Blueprint("label_page", __name__)
STATES = ("to label", "labelled", "skipped")
LABELS = "labels.parquet"
_ADDRESS = "/label/<study>/<stage>/<run>"
_lock = threading.RLock()


class Application(Images):
    """The answers of one run of `9_apply`, and the labels that have been given by hand since."""

    states = STATES

    def __init__(self, run: Run) -> None:
        model = str(run.result.get("model", ""))
        if model.count("/") != 2:
            raise DarkroomError(
                f"{run.id} applied a model without its run, so nothing says which data set its "
                "labels would join."
            )
        self.model = finished_runs.run(*model.split("/"))
        self.dataset = datasets.load(str(self.model.result.get("data")))
        self.folder = _folder(run)
        self.name = self.folder.name
        frame = pd.read_parquet(run.folder / LABELS)
        self.frame = frame[frame["probability"].notna()].reset_index(drop=True)
        self.names = [name.removeprefix("p_") for name in frame.columns if name.startswith("p_")]
        self.shares = self.frame[[f"p_{name}" for name in self.names]].to_numpy(np.float32)
        self.paths = self.frame["path"].astype(str).to_numpy(object)
        self.version = hashing.digest(*self.paths)
        self.labels = list(self.names)
        known = active_learning.read(self.dataset, self.folder)
        self.label = np.full(len(self.frame), NONE, "<u2")
        self.verdict = np.zeros(len(self.frame), np.uint8)
        for row, path in enumerate(self.paths):
            if path in known:
                self._set(row, known[path]["label"], skipped=bool(known[path]["skipped"]))
        self.undoable: list[list[tuple[int, str | None, bool]]] = []

    @property
    def decided(self) -> np.ndarray:
        """uint8 (n,): whether a picture was labelled or skipped."""
        return (self.verdict > 0).astype(np.uint8)

    @functools.cached_property
    def rank(self) -> np.ndarray:
        """float32 (n,): the place of each picture in the order of usefulness."""
        rank = np.empty(len(self.frame), np.float32)
        rank[active_learning.order(self.shares, self._looks)] = np.arange(len(self.frame))
        return rank

    def file(self, row: int) -> Path:
        """Returns the file of a picture. Raises DarkroomError for one outside the folder."""
        checked([row], len(self), most=1)
        file = (self.folder / self.paths[row]).resolve()
        if not file.is_relative_to(self.folder.resolve()):
            raise DarkroomError("This picture lies outside its folder; it is not shown.")
        return file

    def about(self) -> dict[str, Any]:
        """Returns names and counts."""
        return super().about() | {"splits": [], "attributes": [], "reasons": []}

    def arrays(self) -> bytes:
        """Returns all columns as one block; see `http.packed`."""
        num = len(self.frame)
        columns = {
            "verdict": self.verdict,
            "label": self.label,
            "source_label": self.label,
            "decided": self.decided,
            "split": np.full(num, 255, np.uint8),
            "reasons": np.zeros((num, 1), np.uint8),
            "group": np.full(num, -1, "<i4"),
            "opinion": self.shares.argmax(axis=1).astype("<u2"),
            "confidence": self.shares.max(axis=1).astype("<f4"),
            "score": np.full(num, np.nan, "<f4"),
            "side": np.zeros(num, "<u2"),
            "rank": self.rank,
        }
        return packed(columns)

    def described_one(self, row: int) -> dict[str, Any]:
        """Returns a picture in words, with its highest probabilities."""
        file, shares = self.file(row), self.shares[row]
        ranked = np.argsort(-shares)[:12]
        return {
            "size": "",
            "format": file.suffix.lstrip(".").upper(),
            "bytes": file.stat().st_size if file.is_file() else 0,
            "findings": [],
            "attributes": {},
            "probabilities": [[self.names[code], float(shares[code])] for code in ranked],
        }

    def act(self, rows: list[int], action: str, label: str | None) -> dict[str, Any]:
        """Gives pictures a label (relabel), or skips them; each is on the disk before this
        returns.
        """
        if action not in ("relabel", "skip"):
            raise DarkroomError(f"An action is relabel or skip. Received: {action[:40]!r}.")
        with _lock:
            chosen = self.chosen(rows)
            before = [(row, self.label_of(row), bool(self.verdict[row] == 2)) for row in chosen]
            self.undoable.append(before)
            for row in chosen:
                self._write(row, label, action == "skip")
            return self.changed(chosen)

    def undo(self) -> dict[str, Any]:
        """Takes back the last decision made since the page's server started."""
        with _lock:
            if not self.undoable:
                raise DarkroomError("There is no label of this page to undo.")
            before = self.undoable[-1]
            for row, label, skipped in before:
                self._write(row, label, skipped)
            self.undoable.pop()
            return self.changed([row for row, _, _ in before])

    def _write(self, row: int, label: str | None, skipped: bool) -> None:
        path = self.paths[row]
        active_learning.append(self.dataset, self.folder, path, label=label, skipped=skipped)
        self._set(row, label, skipped=skipped)

    def _set(self, row: int, label: str | None, *, skipped: bool) -> None:
        self.label[row] = self.code(label)
        self.verdict[row] = 2 if skipped else int(label is not None)

    def _looks(self, rows: np.ndarray) -> np.ndarray:
        """Returns small colour pictures of some rows, float (k, 8 * 8 * 3)."""
        looks = np.zeros((len(rows), 192))
        for place, row in enumerate(rows):
            try:
                pixels = decode.decode(self.file(int(row)).read_bytes()).pixels
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


@pages.get(f"/api{_ADDRESS}/join")
def planned(study: str, stage: str, run: str) -> Response:
    """Previews joining."""
    application = _load(study, stage, run)
    num, data = len(active_learning.labelled(application.dataset)), application.dataset.name
    return jsonify(
        sentence=f"{num:,} pictures are labelled for the data set {data}. A new data set of its "
        "kept images and these pictures will be made; the new ones are trained on, and the test "
        f"images stay those of {application.model.id}. Nothing is changed in {data} itself."
    )


@pages.post(f"/api{_ADDRESS}/join")
def join(study: str, stage: str, run: str) -> Response:
    """Makes the data set of the old images and the newly labelled ones."""
    application = _load(study, stage, run)
    frame = finished_runs.predictions(application.model).frame
    splits = dict(zip(frame["path"], frame["split"], strict=True))
    with _lock:
        made = active_learning.join(application.dataset, splits=splits)
    return jsonify(
        name=made.name,
        sentence=f"The data set {made.name} is made. Train again with the command below; this "
        "page then shows what the labels gained on the same test images.",
        command=_again(application.model, made.name),
    )


def _again(model: Run, data: str) -> str:
    """The command that repeats a training on another data set, whose own split it takes."""
    study = model.study.split("@")[0].removesuffix(paths.TINY)
    if (paths.studies() / f"{study}.toml").is_file():
        tiny = " --tiny" if model.is_tiny else ""
        return f"darkroom run {study} --set data={data} --set split_method=source{tiny}"
    notebook = notebooks.find("3_train")  # it was trained by hand, and is kept: another study
    defaults, given = notebook.defaults(), model.result["key"]["parameters"]
    changed = {name: value for name, value in given.items() if value != defaults.get(name, value)}
    new = {"data": data, "split_method": "source", "study": f"{study}_labelled"}
    values = json.dumps(parameter_types.cell_values({**changed, **new}, notebook.parameters))
    return f"papermill notebooks/3_train.ipynb again.ipynb -y {shlex.quote(values)}"


def _gain(application: Application) -> dict[str, Any] | None:
    """Returns what retraining on the labelled pictures gained, for the newest such run."""
    wanted = f"{application.dataset.name}_labelled"
    before = finished_runs.predictions(application.model)
    for run in finished_runs.runs_of_stage(application.model.stage):
        same_arm = run.name == application.model.name
        if same_arm and str(run.result.get("data", "")).startswith(wanted):
            gained = active_learning.gain([before], [finished_runs.predictions(run)])
            if gained is not None:
                return {**gained, "run": run.id, "model": application.model.id}
    return None


def _folder(run: Run) -> Path:
    from lib.apply import folder

    pictures = run.result.get("key", {}).get("parameters", {}).get("pictures")
    if not isinstance(pictures, str):
        raise DarkroomError(f"{run.id} does not say which pictures it was applied to.")
    return folder.find_folder(pictures)


def _load(study: str, stage: str, name: str) -> Application:
    run = finished_runs.run(study, stage, name)
    file = run.folder / LABELS
    if not file.is_file():
        raise DarkroomError(f"{run.id} has not been applied to pictures; run 9_apply.")
    with _lock:
        return _opened(json.dumps([study, stage, name]), file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _opened(place: str, _changed_ns: int) -> Application:
    return Application(finished_runs.run(*json.loads(place)))


image_routes(pages, _ADDRESS, lambda study, stage, run: _load(study, stage, run))
