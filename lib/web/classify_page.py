"""Classify: pictures dropped on a page are named, with how sure the model is, why, and what it has
seen that is alike.

A picture is decoded in memory and forgotten with the answer; nothing of it is written anywhere.
"""

from __future__ import annotations

import base64
import contextlib
import io
from typing import Any

import numpy as np
from flask import Blueprint, Response, abort, jsonify, render_template, request

from lib.data import decode as decode_module
from lib.errors import DarkroomError
from lib.web import archive, models, seen
from lib.web.models import Loaded

pages = Blueprint("classify_page", __name__)
MAX_FILE = 20 << 20
MAX_PIXELS = 40_000_000
MOST_FILES = 24
_MOST_SHOWN = 8
_SHOWN_SIDE = 320


@pages.get("/classify")
def page() -> str:
    """The page, with the models to choose from."""
    return render_template("classify.html", models=models.every(), most=MOST_FILES, page="classify")


@pages.post("/api/classify/<study>/<stage>/<unit>")
def answer(study: str, stage: str, unit: str) -> Response:
    """Names the pictures of the form field `pictures`; one that is no picture makes the whole
    request a 4xx.

    The form field `accuracy` says what the accepted answers should reach on validation.
    """
    found = archive.unit(study, stage, unit)
    uploads = request.files.getlist("pictures")
    if not 0 < len(uploads) <= MOST_FILES:
        abort(400, f"Send 1 to {MOST_FILES} pictures at once. Received: {len(uploads)}.")
    wished = request.form.get("accuracy", "0.95")
    if wished not in ("0.9", "0.95", "0.99"):
        abort(400, "`accuracy` is 0.9, 0.95 or 0.99.")
    with (
        contextlib.ExitStack() as opened
    ):  # large ones lie in a temporary file, which goes with its handle
        for upload in uploads:
            opened.callback(upload.close)
        files = [upload.stream.read(MAX_FILE + 1) for upload in uploads]
    # all or none; together they would fill the memory, so each is decoded again when its turn comes
    for data in files:
        decode(data)
    loaded = models.load(found)
    return jsonify(answers=[_told(loaded, decode(data), float(wished)) for data in files])


def decode(data: bytes) -> np.ndarray:
    """Returns an upload as uint8 RGB. Answers 413 or 415 for what is too large or no picture."""
    if len(data) > MAX_FILE:
        abort(413, f"A picture may have {MAX_FILE >> 20} MB.")
    try:
        return decode_module.decode(data, max_pixels=MAX_PIXELS).pixels
    except decode_module.ImageError as error:
        abort(
            413 if error.reason == "too_large" else 415,
            f"This is no picture that can be read: {error}",
        )


def _told(loaded: Loaded, pixels: np.ndarray, accuracy: float) -> dict[str, Any]:
    from lib.apply import classify

    with (
        loaded.asked
    ):  # a network is asked by one visitor at a time; the others wait some milliseconds
        found = classify(loaded.classifier, [pixels], accuracy=accuracy)[0]
        height, width = loaded.classifier.size
        small = decode_module.resize(
            pixels, height=height, width=width, fit=loaded.classifier.resize
        )
        heat = _heat(loaded, pixels, small, found.label)
        near = seen.nearest(loaded, small)
    ranked = sorted(found.probabilities.items(), key=lambda each: -each[1])[:_MOST_SHOWN]
    threshold = loaded.classifier.threshold(accuracy)
    return {
        "label": found.label,
        "sure": found.verdict == "accepted",
        "threshold": threshold,
        "probabilities": [[name, share] for name, share in ranked],
        "picture": _jpeg(_shrunk(pixels)),
        "heat": heat,
        "nearest": near,
    }


def _heat(loaded: Loaded, pixels: np.ndarray, small: np.ndarray, label: str | None) -> str | None:
    """The heat on the whole picture where it was stretched for the model, else on what the model
    saw of it.
    """
    from lib import explain
    from lib.explain import heat

    wished = {"method": "gradcam"}
    if not loaded.is_network:  # no gradients: hide a patch at every place, and see what that costs
        wished = {"method": "occlusion", "patch": max(1, min(small.shape[:2]) // 4), "stride": 1}
    try:
        values = explain.explain(loaded.model, small[None], target=label, **wished)
    except DarkroomError:  # a network without maps has no such picture
        return None
    shown = _shrunk(pixels) if loaded.classifier.resize == "stretch" else _shrunk(small)
    return _jpeg(overlaid(shown, heat.enlarge(values, size=shown.shape[:2])[0]))


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the picture, dark and grey, with the places that speak for the class in orange to
    yellow, uint8 (h, w, 3).
    """
    strength = np.clip(values / max(float(values.max()), 1e-9), 0, 1)[..., None]
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) * 0.55
    warm = np.array([213, 94, 0]) + strength * (np.array([255, 236, 120]) - np.array([213, 94, 0]))
    return np.clip(np.rint(grey * (1 - 0.8 * strength) + warm * 0.8 * strength), 0, 255).astype(
        np.uint8
    )


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    scale = _SHOWN_SIDE / max(pixels.shape[:2])
    height, width = (max(1, round(scale * length)) for length in pixels.shape[:2])
    return decode_module.resize(pixels, height=height, width=width)


def _jpeg(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=84)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
