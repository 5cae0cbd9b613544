"""The data page: images of a data set, decisions, labels, and a run's predictions.

A hundred thousand images must be on the screen within a second, so that what the grid filters and
sorts by travels as one block of arrays, and text, findings and pictures only for the images that
somebody looks at.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Blueprint, Response, abort, jsonify, render_template

from lib import hashing
from lib.cleaning import clean, ledger
from lib.cleaning.findings import DESCRIPTIONS
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.dataset import Dataset
from lib.errors import DarkroomError
from lib.evaluation import multilabel, predictions
from lib.evaluation.predictions import Predictions
from lib.runs import record
from lib.web import finished_runs, http
from lib.web.finished_runs import Run
from lib.web.http import NONE, Images, checked, image_routes, jpeg_response, packed

BY = "data page"
"""The author of the page's entries in the ledger."""
VERDICTS = manifest.VERDICTS
SPLITS = ("train", "val", "test")
_OPINION = re.compile(r"looks like (.+) \((\d+(?:\.\d+)?) %\)$", re.DOTALL)

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
    table = load(name)
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
    table = load(name)
    predictions = _predictions(finished_runs.run(study, stage, run))
    return Response(
        _aligned(table, predictions),
        mimetype="application/octet-stream",
        headers={"X-Classes": json.dumps(predictions.class_names)},
    )


@pages.get("/api/data/<name>/probabilities/<int:row>/<study>/<stage>/<run>")
def probabilities(name: str, row: int, study: str, stage: str, run: str) -> Response:
    """All probabilities that a run gave to one image, the highest first."""
    table = load(name)
    predictions = _predictions(finished_runs.run(study, stage, run))
    answered = (predictions.frame["path"] == table.picture(row)).to_numpy()
    shares = predictions.probabilities[answered].sum(axis=0)
    ranked = np.argsort(-shares, kind="stable")[: 12 if answered.any() else 0]
    return jsonify([(predictions.class_names[code], float(shares[code])) for code in ranked])


@pages.get("/api/data/<name>/heat/<int:row>/<study>/<stage>/<run>")
def heat(name: str, row: int, study: str, stage: str, run: str) -> Response:
    """The heat-map of a run's model for one image and the class that it predicts."""
    from lib.web import classify_page

    table = load(name)
    loaded = classify_page.load(finished_runs.run(study, stage, run))
    content = classify_page.heat_of_file(loaded, table.dataset, table.picture(row))
    if content is None:
        abort(404, "This model has no heat-map.")
    return jpeg_response(content)


def _sync_later(table: ImageTable) -> None:
    """Brings the manifest up to the ledger once no decision was made for a while; the ledger
    itself is never behind.
    """
    name = table.dataset.name
    remember(table)

    def sync() -> None:
        clean.sync(table.dataset)
        remember(table)

    if name in _timers:
        _timers[name].cancel()
    timer = _timers[name] = threading.Timer(SYNC_AFTER_S, sync)
    timer.daemon = True
    timer.start()


def _card(name: str) -> dict[str, Any]:
    try:
        if not datasets.load(name).cleaned():
            return {"name": name, "problem": f"Not cleaned yet. Type: darkroom clean {name}"}
        table = load(name)
    except DarkroomError as error:
        return {"name": name, "problem": str(error)}
    counts = np.bincount(table.verdict, minlength=len(VERDICTS))
    kept = np.flatnonzero(table.verdict == 0)
    spread = np.unique(np.linspace(0, len(kept) - 1, min(6, len(kept))).astype(int))
    return {
        "name": name,
        "files": len(table),
        "classes": len(np.unique(table.label[table.label != NONE])),
        "counts": dict(zip(VERDICTS, counts.tolist(), strict=True)),
        "decided": int(table.decided.sum()),
        "suspects": table.num_open("wrong_label"),
        "samples": kept[spread].tolist(),
        "version": table.version,
    }


def _runs(name: str) -> list[Run]:
    runs = [run for study in finished_runs.studies() for run in finished_runs.runs(study)]
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
    splits = pd.Categorical(predictions.frame["split"], categories=SPLITS).codes
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


class ImageTable(Images):
    """The manifest, the findings and the decisions of one data set; for several threads."""

    states = VERDICTS

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.name = dataset, dataset.name
        self.state = _state(dataset)
        frame = dataset.manifest()
        self.frame = frame
        self.paths = frame["path"].astype(str).to_numpy(object)
        named = frame[["path", "sha256"]].astype("string")
        hashed = pd.util.hash_pandas_object(named, index=False).to_numpy()
        parts = len(frame), hashed.sum(), np.bitwise_xor.reduce(hashed)
        self.version = hashing.digest(*map(str, parts))[:16]
        self._lock = threading.RLock()
        entries = ledger.read(dataset.folder)
        self.undoable = [act["entry"] for act in ledger.standing(entries) if act["by"] == BY]
        by_hand = ledger.state(entries, by_hand=True)
        self._row_of = {path: row for row, path in enumerate(self.paths)}
        codes, names = pd.factorize(frame["label"].astype("string"), sort=True)
        self.labels: list[str] = [str(name) for name in names]
        self.label = np.where(codes < 0, NONE, codes).astype("<u2")
        self.source_label = self.label.copy()
        self.verdict = pd.Categorical(frame["verdict"], categories=VERDICTS).codes.astype(np.uint8)
        self.decided = np.zeros(len(frame), np.uint8)
        self.reasons = sorted({reason for reasons in frame["reasons"] for reason in reasons})
        for path, label in _labels_before(entries).items():
            if path in self._row_of:
                self.source_label[self._row_of[path]] = self.code(label)
        for path, after in by_hand.items():
            self._apply(path, after)

    def about(self) -> dict[str, Any]:
        """Returns names and counts: all that the page needs beside the arrays."""
        described = [(name, *DESCRIPTIONS.get(name, (name, ""))) for name in self.reasons]
        source = {
            name: self.dataset.source.get(name) or ""
            for name in ("licence", "citation", "label_rule")
        }
        return super().about() | {
            "splits": SPLITS,
            "attributes": self._attributes,
            "reasons": [
                dict(zip(("name", "title", "meaning"), row, strict=True)) for row in described
            ],
            **source,
        }

    def num_open(self, reason: str) -> int:
        """Returns how many kept images have a finding and no decision by hand."""
        has_reason = self.frame["reasons"].map(lambda reasons: reason in reasons).to_numpy(bool)
        return int((has_reason & (self.verdict == 0) & (self.decided == 0)).sum())

    def arrays(self) -> bytes:
        """Returns all columns as one block; see `packed`."""
        opinion, confidence, score = self._findings
        split = pd.Categorical(self.frame["source_split"], categories=SPLITS).codes
        sides = self.frame[["width", "height"]].min(axis=1).fillna(0).astype(float)
        with self._lock:
            columns = {
                "verdict": self.verdict,
                "label": self.label,
                "source_label": self.source_label,
                "decided": self.decided,
                "split": split.astype(np.uint8),  # 255 for none
                "reasons": self._reason_bits,
                "group": self._groups,
                "opinion": opinion,
                "confidence": confidence,
                "score": score,
                "side": sides.clip(upper=65_535).to_numpy("<u2"),
            }
            return packed(columns)

    def described_one(self, row: int) -> dict[str, Any]:
        """Returns what is known of an image in words."""
        image = self.frame.iloc[row].where(self.frame.iloc[row].notna(), None)
        named = {name: image[name] for name in self._attributes if image[name] is not None}
        return {
            "size": f"{image['width']} × {image['height']} px" if image["width"] else "",
            "format": image["format"] or "",
            "bytes": int(image["bytes"]),
            "findings": self._details.get(self.paths[row], []),
            "attributes": {name.removeprefix("attr_"): str(value) for name, value in named.items()},
        }

    def picture(self, row: int) -> str:
        """Returns the path of an image, relative to raw."""
        return str(self.paths[checked([row], len(self), most=1)[0]])

    def file(self, row: int) -> Path:
        """Returns the file of an image. Raises DarkroomError for one outside the data set."""
        return http.file_of(self.dataset, self.picture(row))

    def act(self, rows: list[int], action: str, label: str | None) -> dict[str, Any]:
        """Decides by the name of an action, a verdict or relabel with a label, in the ledger.

        A relabelled image that was set aside for review is kept from then on, since it has been
        looked at.
        """
        if action != "relabel" and action not in VERDICTS:
            raise DarkroomError(
                f"An action is one of {', '.join(VERDICTS)} or relabel. Received: {action[:40]!r}."
            )
        with self._lock:
            chosen, changes = self.chosen(rows), []
            for row in chosen:
                now = {"verdict": VERDICTS[self.verdict[row]], "label": self.label_of(row)}
                after = {"verdict": action} if label is None else {"label": label}
                if label is not None and now["verdict"] == "review":
                    after["verdict"] = "keep"
                before = {name: now[name] for name in after}
                changes.append({"path": str(self.paths[row]), "before": before, "after": after})
            kind = "verdict" if label is None else "label"
            entry = ledger.append(self.dataset.folder, by=BY, action=kind, changes=changes)
            self.undoable.append(entry["entry"])
            for change in changes:
                self._apply(change["path"], change["after"])
            return self.changed(chosen)

    def undo(self) -> dict[str, Any]:
        """Takes back this page's last decision. Raises DarkroomError when there is none."""
        with self._lock:
            if not self.undoable:
                raise DarkroomError("There is no decision of this page to undo.")
            act = ledger.undo(self.dataset.folder, entry=self.undoable[-1])
            self.undoable.pop()
            paths = [change["path"] for change in act["changes"]]
            rows = [self._row_of[path] for path in paths if path in self._row_of]
            by_hand = ledger.state(ledger.read(self.dataset.folder), by_hand=True)
            for change in act["changes"]:
                self._apply(change["path"], change["before"])
            for row in rows:
                self.decided[row] = str(self.paths[row]) in by_hand
            return self.changed(rows)

    def _apply(self, path: str, values: dict[str, Any]) -> None:
        row = self._row_of.get(path)
        if row is None:  # a file that has gone since
            return
        self.decided[row] = 1
        if "verdict" in values:
            self.verdict[row] = VERDICTS.index(values["verdict"])
        if "label" in values:
            self.label[row] = self.code(values["label"])

    @functools.cached_property
    def _attributes(self) -> list[str]:
        return [name for name in self.frame.columns if name.startswith("attr_")]

    @functools.cached_property
    def _groups(self) -> np.ndarray:
        """The group of near-duplicates of each image, or -1 where it has none of its kind."""
        group = self.frame["group"]
        several = group.duplicated(keep=False) & self.frame["pixels"].notna()
        return group.where(several, -1).to_numpy("<i4")

    @functools.cached_property
    def _reason_bits(self) -> np.ndarray:
        """uint8 (n, ceil(reasons / 8)): bit `i` of a row is set where the image has the finding
        `reasons[i]`.
        """
        place = {name: index for index, name in enumerate(self.reasons)}
        bits = np.zeros((len(self), max(1, -(-len(place) // 8))), np.uint8)
        for row, reasons in enumerate(self.frame["reasons"]):
            for reason in reasons:
                bits[row, place[reason] // 8] |= 1 << (place[reason] % 8)
        return bits

    @functools.cached_property
    def _table(self) -> pd.DataFrame:
        file = self.dataset.folder / clean.FINDINGS
        columns = ["path", "reason", "score", "detail"]
        there = pd.read_parquet(file) if file.is_file() else pd.DataFrame(columns=columns)
        return there[columns]

    @functools.cached_property
    def _details(self) -> dict[str, list[dict[str, Any]]]:
        details: dict[str, list[dict[str, Any]]] = {}
        for row in self._table.to_dict("records"):
            title = DESCRIPTIONS.get(row["reason"], (row["reason"], ""))[0]
            details.setdefault(row.pop("path"), []).append({**row, "title": title})
        return details

    @functools.cached_property
    def _findings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The class that a network suggests (code), how sure it is, and the worst finding's score,
        one an image.
        """
        opinion = np.full(len(self), NONE, "<u2")
        confidence = np.full(len(self), np.nan, "<f4")
        score = np.full(len(self), np.nan, "<f4")
        for path, reason, worst, detail in self._table.itertuples(index=False):
            row = self._row_of.get(path)
            if row is None:
                continue
            score[row] = np.fmin(score[row], worst)
            named = _OPINION.search(detail or "") if reason == "wrong_label" else None
            if named:
                opinion[row], confidence[row] = self.code(named[1]), float(named[2]) / 100
        return opinion, confidence, score


_opened: dict[str, ImageTable] = {}
_opening = threading.Lock()


def load(name: str) -> ImageTable:
    """Returns the table of a data set, read again when another process has changed its manifest or
    its ledger.

    Raises DarkroomError for a data set that is not there or has not been cleaned.
    """
    dataset = datasets.load(name)
    with _opening:
        known = _opened.get(name)
        if known is None or known.dataset != dataset or known.state != _state(dataset):
            known = _opened[name] = ImageTable(dataset)
            if len(_opened) > 3:
                _opened.pop(next(iter(_opened)))
        return known


def remember(table: ImageTable) -> None:
    """Notes that the ledger and the manifest are as the table knows them, after a decision or a
    replay of our own.
    """
    table.state = _state(table.dataset)


def _state(dataset: Dataset) -> tuple[int, int]:
    written = dataset.folder / manifest.FILE
    changed_ns = written.stat().st_mtime_ns if written.is_file() else 0
    return changed_ns, ledger.num_bytes(dataset.folder)


def _labels_before(entries: list[dict[str, Any]]) -> dict[str, str | None]:
    """Path -> its label before the first standing act by hand that changed it."""
    before: dict[str, str | None] = {}
    for act in ledger.standing(entries):
        if act["by"] != ledger.MACHINE:
            for change in act["changes"]:
                if "label" in change["before"]:
                    before.setdefault(change["path"], change["before"]["label"])
    return before


image_routes(pages, "/data/<name>", load, after=_sync_later)
