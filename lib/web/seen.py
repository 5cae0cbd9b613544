"""The training images most like a new picture, in the feature space of the model that was asked."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import DarkroomError
from lib.web import archive, maps
from lib.web.maps import Shown
from lib.web.models import Loaded

NUMBER = 6


def nearest(loaded: Loaded, pixels: np.ndarray) -> list[dict[str, Any]] | None:
    """Returns the nearest training images of one picture (side, side, 3): `path`, `label`,
    `distance` and a small picture.

    None where no run of features has looked at this model's space, so that there is nothing to
    compare with.
    """
    found = _space(loaded.run.result["model_sha256"]) if loaded.is_network else None
    if found is None:
        return None
    from lib.models import feature_cache, predictor

    shown, rows = found
    layer = shown.account["layer"]
    wanted = predictor.features(loaded.model, pixels[None], layer=layer, batch_size=1)[0]
    try:
        stored = shown.features("trained")
        scale = feature_cache.told(Path(stored.filename).parent).get("scale", 1)
        near = maps.ranked(stored[rows], scale * wanted, NUMBER)
    except DarkroomError:  # the features were cleared away
        return None
    return [_told(shown, int(rows[each["row"]]), each["distance"]) for each in near]


def _told(shown: Shown, row: int, distance: float) -> dict[str, Any]:
    point = shown.points.iloc[row]
    try:
        picture = "data:image/jpeg;base64," + base64.b64encode(shown.thumbnail(row)).decode()
    except DarkroomError:
        picture = None
    return {
        "path": str(point["path"]),
        "label": str(point[shown.account["target"]]),
        "distance": distance,
        "picture": picture,
    }


def _space(sha256: str) -> tuple[Shown, np.ndarray] | None:
    for unit in archive.every("features"):
        try:
            shown = maps.shown(unit)
        except DarkroomError:
            continue
        model = shown.account.get("model")
        if model and model["sha256"] == sha256 and shown.account["spaces"][0]["name"] == "trained":
            return shown, np.flatnonzero((shown.points["split"] == "train").to_numpy())
    return None
