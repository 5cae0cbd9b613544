"""The classify page: answers for uploaded pictures, with heat-map and nearest training images.

A picture is decoded in memory and forgotten with the answer; nothing of it is written anywhere.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from flask import Blueprint, Response, abort, jsonify, render_template, request

from lib.data import decode as decoder
from lib.data.dataset import Dataset
from lib.data.targets import SEPARATOR
from lib.errors import DarkroomError
from lib.web import archive, maps, models, pictures
from lib.web.maps import MapRun
from lib.web.models import Loaded

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
    return render_template(
        "classify.html", models=models.choices(), most=MAX_FILES, page="classify"
    )


@pages.post("/api/classify/<study>/<stage>/<run>")
def answer(study: str, stage: str, run: str) -> Response:
    """Classifies the pictures of the form field `pictures`, all or none.

    The form field `accuracy` is the accuracy that accepted answers should reach on validation.
    """
    trained = archive.run(study, stage, run)
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
    for content in contents:  # all are checked before the model is loaded
        decode(content)
    loaded = models.load(trained)  # one at a time is decoded again: all would fill the memory
    accuracy = float(target)
    return jsonify(
        answers=[_answer(loaded, decode(content, loaded), accuracy) for content in contents]
    )


def decode(content: bytes, loaded: Loaded | None = None) -> np.ndarray:
    """Returns an upload as uint8 RGB, with a model as its training read its own images. Answers 413
    or 415 for what is too large or no picture.
    """
    if len(content) > MAX_FILE:
        abort(413, f"A picture may have {MAX_FILE >> 20} MB.")
    try:
        if loaded is not None:
            return loaded.classifier.decode(content, max_pixels=MAX_PIXELS)
        return decoder.decode(content, max_pixels=MAX_PIXELS).pixels
    except decoder.ImageError as error:
        code = 413 if error.reason == "too_large" else 415
        abort(code, f"This is no picture that can be read: {error}")


def heat_of_file(loaded: Loaded, dataset: Dataset, path: str) -> bytes | None:
    """Returns the heat-map of an image of a data set as JPEG, for the class that is predicted.

    None where the model offers none.
    """
    content = Path(pictures.file_of(dataset, path)).read_bytes()
    try:
        pixels = loaded.classifier.decode(content, max_pixels=MAX_PIXELS)
    except decoder.ImageError as error:
        raise DarkroomError(f"This image cannot be read: {error}") from error
    with loaded.asked:
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
        "picture": _uri(pictures.shrunk(pixels, side=_SIDE, enlarge=True)),
        "heat": None if heat is None else pictures.data_uri(heat),
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
    from lib.explain import map_scaling

    options: dict[str, Any] = {"method": "gradcam"}
    if not loaded.is_network:  # no gradients: cover every place, and see what that costs
        patch = max(1, min(small.shape[:2]) // 4)
        options = {"method": "occlusion", "patch": patch, "stride": 1}
    try:
        values = explain.explain(loaded.model, small[None], target=label, **options)
    except DarkroomError:  # a network without feature maps
        return None
    source = pixels if loaded.classifier.resize == "stretch" else small
    shown = pictures.shrunk(source, side=side, enlarge=True)
    enlarged = map_scaling.enlarge(values, size=shown.shape[:2])[0]
    return pictures.jpeg(pictures.overlaid(shown, enlarged))


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
        near = maps.ranked(stored[rows], scale * query, NUM_NEAREST)
    except DarkroomError:  # the features were cleared away
        return None
    return [_neighbour(shown, int(rows[item["row"]]), item["distance"]) for item in near]


def _neighbour(shown: MapRun, row: int, distance: float) -> dict[str, Any]:
    point = shown.points.iloc[row]
    try:
        picture = pictures.data_uri(shown.thumbnail(row))
    except DarkroomError:
        picture = None
    label = str(point[shown.account["target"]])
    return {"path": str(point["path"]), "label": label, "distance": distance, "picture": picture}


def _space(sha256: str) -> tuple[MapRun, np.ndarray] | None:
    for run in archive.runs_of_stage("features"):
        try:
            shown = maps.load(run)
        except DarkroomError:
            continue
        model = shown.account.get("model")
        trained = shown.account["spaces"][0]["name"] == "trained"
        if model and model["sha256"] == sha256 and trained:
            return shown, np.flatnonzero((shown.points["split"] == "train").to_numpy())
    return None


def _uri(pixels: np.ndarray) -> str:
    return pictures.data_uri(pictures.jpeg(pixels))
