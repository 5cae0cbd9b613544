"""The models that the site may load: those of finished runs, whose file is still the one that the
run wrote.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib import hashing, paths
from lib.errors import DarkroomError
from lib.evaluation import multilabel
from lib.web import archive
from lib.web.archive import Unit

_loading = threading.RLock()
_NAMES = ("model.keras", "model.thumbnail")
KEPT = 2
"""Models in memory at once."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to be asked: the classifier with its calibration, and the model itself, which
    is a Keras network or one of thumbnails.
    """

    run: Unit
    classifier: Any
    model: Any
    is_network: bool
    asked: threading.Lock


def every() -> list[Unit]:
    """Returns the finished trainings that left a model and its hash, the best on validation first
    in each study.

    Those that give an image several classes are left out: a page that names one would say less than
    they know.
    """
    found = [
        each
        for study in archive.studies()
        for each in archive.units(study)
        if _path(each) is not None
    ]
    found = [
        each
        for each in found
        if each.result.get("model_sha256") and not multilabel.is_of(each.result)
    ]
    return sorted(
        found, key=lambda each: (each.study, -each.result["metrics"].get("val_accuracy", 0))
    )


def load(found: Unit) -> Loaded:
    """Returns a run's model, loaded once as long as its file stays as it is.

    Raises DarkroomError for a model that is gone or whose bytes are not those that its run wrote.
    """
    path, expected = _path(found), found.result.get("model_sha256")
    if path is None or not expected:
        raise DarkroomError(f"{found.id} left no model that this site may load; train it again.")
    with _loading:  # two at once would load it twice
        return _loaded(found.id, path, path.stat().st_mtime_ns, expected)


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
        archive.unit(*id.split("/")), apply.load(id), kind.load(path), is_network, threading.Lock()
    )
    warm(loaded)
    return loaded


def warm(loaded: Loaded) -> None:
    """Asks a model once, so that the first visitor does not wait for it to be compiled."""
    loaded.classifier.probabilities(np.zeros((1, *loaded.classifier.size, 3), np.uint8))


def _path(found: Unit) -> Path | None:
    folder = paths.checkpoint(found.study, found.stage, found.unit)
    there = [folder / name for name in _NAMES if (folder / name).is_file()]
    inside = [
        path for path in there if path.resolve().is_relative_to(paths.checkpoints().resolve())
    ]
    return next(iter(inside), None)
