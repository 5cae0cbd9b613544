"""A saved model together with what its run knows: how it saw its images, its temperature, and how
sure it must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib import paths
from lib.errors import DarkroomError, few, suggest
from lib.evaluation import calibration, multilabel, predictions
from lib.evaluation.predictions import Predictions
from lib.runs import record

MODELS = ("model.keras", "model.thumbnail")
"""What a trained run's saved model is called in its folder of checkpoints: Keras' own, or one of
thumbnails.
"""


@dataclass(frozen=True)
class Classifier:
    """A model that gives calibrated probabilities.

    `predict` takes uint8 RGB, (n, *size, 3), with `size` (height, width) in pixels, and gives (n,
    classes) as the model states them. `known` holds the scaled predictions of its validation and
    test images; a model file without its run has only `advice`, the thresholds noted inside.
    """

    name: str
    class_names: tuple[str, ...]
    size: tuple[int, int]
    predict: Callable[[np.ndarray], np.ndarray]
    resize: str = "stretch"
    temperature: float = 1.0
    known: Predictions | None = None
    advice: tuple[dict[str, Any], ...] = field(default=())

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """float32 (n, classes): calibrated, so that of the images given 0.9 about nine in ten are
        right.
        """
        return calibration.at_temperature(self.predict(pixels), self.temperature)

    def threshold(self, accuracy: float) -> float | None:
        """The probability from which on answers are promised to reach `accuracy` (0 to 1), with
        95 % confidence; None where validation images cannot promise it.

        Raises DarkroomError for an accuracy out of range, and where neither a run nor the model's
        file can tell.
        """
        if not 0 < accuracy <= 1:
            raise DarkroomError(
                f"The target accuracy must be above 0 and at most 1. Received: {accuracy}."
            )
        if self.known is not None:
            found = calibration.threshold(self.known.split("val"), accuracy=accuracy)
            return None if found is None else found["threshold"]
        if not self.advice:
            raise DarkroomError(
                f"{self.name} does not say how sure it must be; apply its run in logs/, or train "
                "it again."
            )
        enough = [
            entry
            for entry in self.advice
            if entry.get("target_accuracy", entry.get("wished")) >= accuracy  # older runs: wished
        ]
        return min((entry["threshold"] for entry in enough), default=None)

    def tested(self, threshold: float | None) -> dict[str, float] | None:
        """What `threshold` does on the run's own test images, `coverage` and `accuracy`; None where
        nothing is known.
        """
        if self.known is None or threshold is None:
            return None
        test = self.known.split("test")
        sure = test.confidence >= threshold
        right = (test.predicted == test.truth)[sure]
        return {
            "coverage": float(sure.mean()),
            "accuracy": float(right.mean()) if sure.any() else float("nan"),
        }


def load(model: str | Path, *, study: str = "interactive") -> Classifier:
    """Returns the classifier of a finished training or of a saved model.

    `model` is a run such as `quickstart/train/custom-s0` (or its folder), the path of a saved
    model, the name of a study, or `best`: the training of `study` with the highest validation
    accuracy.

    Raises DarkroomError for a model that is not there, is damaged, or gives an image several
    labels.
    """
    path, folder = find(str(getattr(model, "folder", model)), study=study)
    saved = _open(path)
    table = folder and folder / record.PREDICTIONS
    if not table or not table.is_file():
        noted = saved.get("calibration", {})
        return Classifier(
            **_about(saved),
            name=path.name,
            temperature=noted.get("temperature", 1.0),
            advice=tuple(noted.get("thresholds", ())),
        )
    known = predictions.read(table, class_names=saved["class_names"])
    if known.kind != "probability":
        raise DarkroomError(
            f"{known.run} gives {known.kind} and no probabilities, so nothing says how sure it is."
        )
    temperature = calibration.useful_temperature(known.split("val"))
    rest = Predictions(
        known.frame[known.frame["split"] != "train"], known.class_names, run=known.run
    )
    return Classifier(
        **_about(saved),
        name=known.run,
        temperature=temperature,
        known=calibration.scaled(rest, temperature),
    )


def find(model: str, *, study: str = "interactive") -> tuple[Path, Path | None]:
    """Returns the file of a saved model and its run's folder (None for a model by itself); `model`
    as for `load`.
    """
    place = paths.typed(model)
    if place.name in MODELS or place.suffix in (".keras", ".thumbnail"):
        if not place.exists():
            raise DarkroomError(f"There is no saved model {model!r}.")
        run = place.resolve().parent
        inside = run.is_relative_to(paths.checkpoints().resolve())
        return place, paths.logs() / run.relative_to(
            paths.checkpoints().resolve()
        ) if inside else None
    name = study if model == "best" else model.strip("/")
    run = (
        place.resolve()
        if place.is_absolute() or (place / record.RESULT).is_file()
        else paths.logs() / name
    )
    if not run.is_relative_to(paths.logs().resolve()) and not run.is_relative_to(paths.logs()):
        raise DarkroomError(
            f"{model!r} is neither a run in {paths.logs()} nor a saved model (a name that ends in "
            ".keras)."
        )
    if (run / record.RESULT).is_file():
        return _model_of(run), run
    run = _best(run, name)
    return _model_of(run), run


def trained(study_folder: Path) -> list[Path]:
    """Returns the run folders below a study's folder in `logs/` that left a model, sorted."""
    finished = record.finished_runs(*Path(study_folder).glob("[!.]*"))
    return [folder for folder in finished if any(path.exists() for path in _places(folder))]


def _best(study_folder: Path, name: str) -> Path:
    found = trained(study_folder)
    if not found:
        known = sorted(
            f"{run.relative_to(paths.logs()).as_posix()}"
            for run in paths.logs().glob("[!.]*/*/*")
            if record.result(run) is not None and any(path.exists() for path in _places(run))
        )
        told = f" There are: {few(known)}." if known else " Train one with 3_train."
        raise DarkroomError(
            f"There is no trained run {name!r} in {paths.logs()}.{suggest(name, known)}{told}"
        )
    found = [
        run for run in found if not multilabel.is_of(_result(run))
    ] or found  # what gives several labels cannot be applied
    return max(
        found,
        key=lambda run: (
            _result(run)["metrics"].get("val_accuracy", 0),
            _result(run).get("seconds", 0),
        ),
    )


def _places(run: Path) -> list[Path]:
    folder = paths.checkpoints() / run.resolve().relative_to(paths.logs().resolve())
    return [folder / name for name in MODELS]


def _model_of(run: Path) -> Path:
    for path in _places(run):
        if path.exists():
            return path
    raise DarkroomError(
        f"The run {run.relative_to(paths.logs()).as_posix()} left no model in "
        f"{_places(run)[0].parent}."
    )


def _result(run: Path) -> dict[str, Any]:
    return record.read(run)


def _open(path: Path) -> dict[str, Any]:
    """The model at `path` as the fields of a classifier, and the `calibration` noted inside."""
    if path.suffix != ".keras":
        from lib.baselines import model as thumbnails

        model = thumbnails.load(path)
        if model.several:
            raise DarkroomError(
                f"{path.name} gives an image several labels; only models of one class an image can "
                "be applied."
            )
        return {
            "class_names": model.class_names,
            "size": model.size,
            "predict": model.predict_proba,
            "resize": model.resize,
            "calibration": model.card.get("calibration", {}),
        }
    from lib.models import heads, predictor, serialization

    model = serialization.load(path)
    head = heads.of(model)
    if head.kind == "multilabel":
        raise DarkroomError(
            f"{path.name} gives an image several labels; only models of one class an image can be "
            "applied."
        )
    card = head.card or {}
    return {
        "class_names": head.class_names,
        "size": model.input_shape[1:3],
        "predict": lambda pixels: predictor.predict_proba(model, pixels),
        "resize": card.get("parameters", {}).get("resize", "stretch"),
        "calibration": card.get("calibration", {}),
    }


def _about(saved: dict[str, Any]) -> dict[str, Any]:
    about = {name: saved[name] for name in ("class_names", "size", "predict", "resize")}
    return {**about, "class_names": tuple(about["class_names"])}
