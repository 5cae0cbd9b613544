"""The models that the site may load: those of finished runs with an unchanged file."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib import hashing, paths
from lib.apply.classifier import MODELS
from lib.errors import DarkroomError
from lib.evaluation import multilabel, statistics
from lib.web import archive
from lib.web.archive import Run

_loading = threading.RLock()
KEPT = 2
"""Models in memory at once."""


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
    runs = [run for study in archive.studies() for run in archive.runs(study)]
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
        archive.run(*id.split("/")), apply.load(id), kind.load(path), is_network, threading.Lock()
    )
    warm(loaded)
    return loaded


def warm(loaded: Loaded) -> None:
    """Asks a model once, so that the first visitor does not wait for it to be compiled."""
    loaded.classifier.probabilities(np.zeros((1, *loaded.classifier.size, 3), np.uint8))


def _path(run: Run) -> Path | None:
    folder = paths.checkpoint(run.study, run.stage, run.name)
    there = [folder / name for name in MODELS if (folder / name).is_file()]
    return next((path for path in there if archive.is_inside(path, paths.checkpoints())), None)
