"""The classify page: answers for uploaded pictures, with heat-map and nearest training images.

A picture is decoded in memory and forgotten with the answer; nothing of it is written anywhere.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flask import Blueprint, Response, abort, jsonify, render_template, request

from lib import hashing, paths
from lib.apply.classifier import MODELS
from lib.data import decode as decoder
from lib.data import thumbnails
from lib.data.dataset import Dataset
from lib.data.targets import SEPARATOR
from lib.errors import DarkroomError
from lib.evaluation import multilabel, statistics
from lib.web import finished_runs, http, map_page
from lib.web.finished_runs import Run
from lib.web.map_page import MapRun

_loading = threading.RLock()
_decoded = threading.BoundedSemaphore(2)  # pictures in memory at once, of all visitors
KEPT = 2
"""Models in memory at once."""

pages = Blueprint("classify_page", __name__)
MAX_FILE = 20 << 20
MAX_PIXELS = 40_000_000
MAX_FILES = 24
NUM_NEAREST = 6
_NUM_CLASSES = 8
_SIDE = 320


@pages.get("/classify")
def page() -> str:
    """The page, with the models to choose from."""
    return render_template("classify.html", models=choices(), most=MAX_FILES, page="classify")


@pages.post("/api/classify/<study>/<stage>/<run>")
def answer(study: str, stage: str, run: str) -> Response:
    """Classifies the pictures of the form field `pictures`, all or none.

    The form field `accuracy` is the accuracy that accepted answers should reach on validation.
    """
    trained = finished_runs.run(study, stage, run)
    uploads = request.files.getlist("pictures")
    if not 0 < len(uploads) <= MAX_FILES:
        abort(400, f"Send 1 to {MAX_FILES} pictures at once. Received: {len(uploads)}.")
    target = request.form.get("accuracy", "0.95")
    if target not in ("0.9", "0.95", "0.99"):
        abort(400, "`accuracy` is 0.9, 0.95 or 0.99.")
    with contextlib.ExitStack() as stack:  # a large upload is a temporary file until it is closed
        for upload in uploads:
            stack.callback(upload.close)
        contents = [upload.stream.read(MAX_FILE + 1) for upload in uploads]
    for content in contents:  # before the model is loaded
        _refuse(content)
    loaded, answers = load(trained), []
    for content in contents:  # one after the other: together they would fill the memory
        with _decoded:
            answers.append(_answer(loaded, decode(content, loaded), float(target)))
    return jsonify(answers=answers)


def _refuse(content: bytes) -> None:
    """Answers 413 for a file that is too large, 415 if its first bytes are not an image's."""
    if len(content) > MAX_FILE:
        abort(413, f"A picture may have {MAX_FILE >> 20} MB.")
    if decoder.kind(content[: decoder.HEAD_BYTES]) is None:
        abort(415, "This is no picture that can be read: its first bytes match no image format.")


def decode(content: bytes, loaded: Loaded) -> np.ndarray:
    """Returns an upload as uint8 RGB, as the training of the model read its own images. Answers 413
    for a picture that is too large, 415 for a file that cannot be decoded.
    """
    try:
        return loaded.classifier.decode(content, max_pixels=MAX_PIXELS)
    except decoder.ImageError as error:
        code = 413 if error.reason == "too_large" else 415
        abort(code, f"This is no picture that can be read: {error}")


def heat_of_file(loaded: Loaded, dataset: Dataset, path: str) -> bytes | None:
    """Returns the heat-map of an image of a data set as JPEG, for the class that is predicted.

    None where the model offers none.
    """
    content = Path(http.file_of(dataset, path)).read_bytes()
    with _decoded, loaded.asked:
        try:
            pixels = loaded.classifier.decode(content, max_pixels=MAX_PIXELS)
        except decoder.ImageError as error:
            raise DarkroomError(f"This image cannot be read: {error}") from error
        small = _resized(loaded, pixels)
        shares = loaded.classifier.probabilities(small[None])[0]
        label = loaded.classifier.class_names[int(shares.argmax())]
        return _heat(loaded, pixels, small, label, side=1280)


def _answer(loaded: Loaded, pixels: np.ndarray, accuracy: float) -> dict[str, Any]:
    classifier = loaded.classifier
    with loaded.asked:  # one visitor at a time; the others wait some milliseconds
        result = classifier.predict([pixels], accuracy=accuracy).iloc[0]
        small = _resized(loaded, pixels)
        shares = dict(zip(classifier.class_names, result.filter(regex="^p_"), strict=True))
        likeliest = max(shares, key=shares.get)
        heat = _heat(loaded, pixels, small, likeliest, side=_SIDE)
        near = nearest(loaded, small)
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:_NUM_CLASSES]
    return {
        "label": (result["label"] or "none").replace(SEPARATOR, " + "),
        "probability": float(result["probability"]),
        "explained": likeliest,
        "sure": result["verdict"] == "accepted",
        "threshold": classifier.threshold(accuracy),
        "probabilities": [[name, float(share)] for name, share in ranked],
        "picture": _uri(thumbnails.scaled(pixels, side=_SIDE)),
        "heat": None if heat is None else thumbnails.data_uri(heat),
        "nearest": near,
    }


def _resized(loaded: Loaded, pixels: np.ndarray) -> np.ndarray:
    height, width = loaded.classifier.size
    return decoder.resize(pixels, height=height, width=width, fit=loaded.classifier.resize)


def _heat(
    loaded: Loaded, pixels: np.ndarray, small: np.ndarray, label: str | None, *, side: int
) -> bytes | None:
    # On the whole picture where it was stretched for the model, else on what the model saw of it.
    from lib import explain
    from lib.explain import heat_maps

    options: dict[str, Any] = {"method": "gradcam"}
    if not loaded.is_network:  # no gradients: cover every place, and see what that costs
        patch = max(1, min(small.shape[:2]) // 4)
        options = {"method": "occlusion", "patch": patch, "stride": 1}
    try:
        values = explain.explain(loaded.model, small[None], target=label, **options)
    except DarkroomError:  # a network without feature maps
        return None
    source = pixels if loaded.classifier.resize == "stretch" else small
    shown = thumbnails.scaled(source, side=side)
    enlarged = heat_maps.enlarge(values, size=shown.shape[:2])[0]
    return thumbnails.jpeg(http.overlaid(shown, enlarged))


def nearest(loaded: Loaded, pixels: np.ndarray) -> list[dict[str, Any]] | None:
    """Returns the training images nearest to a picture (side, side, 3) in the model's own space.

    Each has `path`, `label`, `distance` and a small `picture`. None where no run of
    `8_features` has computed this model's features.
    """
    space = _space(loaded.run.result["model_sha256"]) if loaded.is_network else None
    if space is None:
        return None
    from lib.models import feature_cache, predictor

    shown, rows = space
    layer = shown.account["layer"]
    query = predictor.features(loaded.model, pixels[None], layer=layer, batch_size=1)[0]
    try:
        stored = shown.features("trained")
        scale = feature_cache.facts(Path(stored.filename).parent).get("scale", 1)
        near = map_page.ranked(stored[rows], scale * query, NUM_NEAREST)
    except DarkroomError:  # the features were cleared away
        return None
    return [_neighbour(shown, int(rows[item["row"]]), item["distance"]) for item in near]


def _neighbour(shown: MapRun, row: int, distance: float) -> dict[str, Any]:
    point = shown.points.iloc[row]
    try:
        picture = thumbnails.data_uri(shown.thumbnail(row))
    except DarkroomError:
        picture = None
    label = str(point[shown.account["target"]])
    return {"path": str(point["path"]), "label": label, "distance": distance, "picture": picture}


def _space(sha256: str) -> tuple[MapRun, np.ndarray] | None:
    for run in finished_runs.runs_of_stage("features"):
        try:
            shown = map_page.load(run)
        except DarkroomError:
            continue
        model = shown.account.get("model")
        trained = shown.account["spaces"][0]["name"] == "trained"
        if model and model["sha256"] == sha256 and trained:
            return shown, np.flatnonzero((shown.points["split"] == "train").to_numpy())
    return None


def _uri(pixels: np.ndarray) -> str:
    return thumbnails.data_uri(thumbnails.jpeg(pixels))


@dataclass(frozen=True)
class Loaded:
    """A model ready to be asked: the classifier with its calibration, and the model itself, which
    is a Keras network or one of thumbnails.
    """

    run: Run
    classifier: Any
    model: Any
    is_network: bool
    asked: threading.Lock


def choices() -> list[dict[str, Any]]:
    """Returns the models that can be asked, the best on validation first and tiny runs last.

    `is_tiny` marks a run of seconds, whose answers mean nothing; `measure` names `val_score`:
    accuracy, or exact match of a multi-label model.

    Models are ranked by the lower end of the 95 % interval of their validation accuracy, so that
    a lucky one of few images does not lead. Multi-label models follow, by their exact match.
    """
    runs = [run for study in finished_runs.studies() for run in finished_runs.runs(study)]
    runs = [run for run in runs if run.result.get("model_sha256") and _path(run) is not None]
    order = ("is_tiny", "measure", "rank")
    return sorted(map(_choice, runs), key=lambda choice: [choice[name] for name in order])


def _choice(run: Run) -> dict[str, Any]:
    metrics = run.result.get("metrics", {})
    measure = "exact_match" if multilabel.is_of(run.result) else "accuracy"
    score, num = metrics.get(f"val_{measure}"), metrics.get("num_images") or 30
    lower = statistics.wilson(round(score * num), num)[0] if isinstance(score, float) else -1.0
    return {
        "id": run.id,
        "title": f"{run.study} / {run.name}",
        "data": str(run.result.get("data") or ""),
        "val_score": score,
        "measure": measure.replace("_", " "),
        "is_tiny": run.is_tiny,
        "rank": -lower,
    }


def load(run: Run) -> Loaded:
    """Returns a run's model, loaded once as long as its file stays as it is.

    Raises DarkroomError for a model that is gone or whose bytes are not those that its run wrote.
    """
    path, expected = _path(run), run.result.get("model_sha256")
    if path is None or not expected:
        raise DarkroomError(f"{run.id} left no model that this site may load; train it again.")
    with _loading:  # two at once would load it twice
        return _loaded(run.id, path, path.stat().st_mtime_ns, expected)


@functools.lru_cache(maxsize=KEPT)
def _loaded(id: str, path: Path, _changed_ns: int, expected: str) -> Loaded:
    if hashing.file(path) != expected:
        raise DarkroomError(
            f"The model of {id} is not the file that its run wrote; it is not loaded. Train it "
            "again."
        )
    from lib import apply

    is_network = path.suffix == ".keras"
    if is_network:
        from lib.models import serialization as kind
    else:
        from lib.baselines import model as kind
    loaded = Loaded(
        finished_runs.run(*id.split("/")),
        apply.load(id),
        kind.load(path),
        is_network,
        threading.Lock(),
    )
    warm(loaded)
    return loaded


def warm(loaded: Loaded) -> None:
    """Asks a model once, so that the first visitor does not wait for it to be compiled."""
    loaded.classifier.probabilities(np.zeros((1, *loaded.classifier.size, 3), np.uint8))


def _path(run: Run) -> Path | None:
    folder = paths.checkpoint(run.study, run.stage, run.name)
    there = [folder / name for name in MODELS if (folder / name).is_file()]
    return next(
        (path for path in there if finished_runs.is_inside(path, paths.checkpoints())), None
    )
