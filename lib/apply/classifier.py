"""A saved model with its run's temperature and thresholds, and its answers for a few images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from lib import paths
from lib.data import decode
from lib.data.value_range import Rendering
from lib.errors import DarkroomError, few, suggest
from lib.evaluation import calibration, multilabel, predictions
from lib.evaluation.predictions import Predictions, probability_columns
from lib.model_card import target_accuracy
from lib.runs import record

MODELS = ("model.keras", "model.thumbnail")
"""File names of a run's saved model, of Keras or a baseline."""
MAX_BYTES = 512 << 20
"""Larger files are not read: no photograph is that large, and a few would fill the memory."""
ACCEPTED, UNSURE, UNREAD = "accepted", "look at it", "not read"
"""Verdicts on an image."""
SEPARATOR = "|"
"""Between the labels of a multilabel image."""


@dataclass(frozen=True)
class Classifier:
    """A model with calibrated probabilities.

    `predict_pixels` takes uint8 RGB (n, *size, 3), with `size` (height, width) in pixels, and
    returns (n, classes), uncalibrated. `known` holds the calibrated predictions of the run's
    validation and test images; a model file without its run has only `advice`, the thresholds
    stored in it. If `multilabel`, an image has every class whose probability reaches
    `class_thresholds`. Stored values of more than 8 bits are read by `rendering`, that of the data
    set it was trained on.
    """

    name: str
    class_names: tuple[str, ...]
    size: tuple[int, int]
    predict_pixels: Callable[[np.ndarray], np.ndarray]
    resize: str = "stretch"
    temperature: float = 1.0
    known: Predictions | None = None
    advice: tuple[dict[str, Any], ...] | None = None
    multilabel: bool = False
    class_thresholds: tuple[float, ...] = ()
    rendering: Rendering = field(default_factory=Rendering)

    def predict(
        self, pictures: Sequence[bytes | str | Path | np.ndarray], *, accuracy: float = 0.95
    ) -> pd.DataFrame:
        """Returns one row a picture: `label`, calibrated `probability`, `verdict`, which is
        "accepted", "look at it" (below the threshold) or "not read"; `problem`, why a picture could
        not be read; and a column `p_<class>` of each class.

        Args:
            pictures: paths, the bytes of files, or uint8 RGB of shape (height, width, 3). All are
                in memory at once.
            accuracy: the target accuracy of accepted answers.
        """
        threshold = self.threshold(accuracy)
        given = [Path(picture) if isinstance(picture, str) else picture for picture in pictures]
        images = [read_picture(picture, **self.reading) for picture in given]
        names = [str(one) if isinstance(one, Path) else number for number, one in enumerate(given)]
        return self.answers(images, threshold).set_axis(names)

    def answers(self, images: Sequence[np.ndarray | str], threshold: float | None) -> pd.DataFrame:
        """Returns the table of `predict` for what `read_picture` returns."""
        is_read = np.array([isinstance(image, np.ndarray) for image in images], bool)
        shares = np.full((len(images), len(self.class_names)), np.nan, np.float32)
        if is_read.any():
            pixels = [image for image in images if isinstance(image, np.ndarray)]
            shares[is_read] = self.probabilities(np.stack(pixels))
        problems = [image if isinstance(image, str) else None for image in images]
        return self.judged(shares, problems, threshold)

    def judged(
        self, shares: np.ndarray, problems: Sequence[str | None], threshold: float | None
    ) -> pd.DataFrame:
        """Returns the table of `predict` for calibrated probabilities, float (n, classes).

        A row with a problem has none. Without a threshold nothing is accepted.
        """
        is_read = np.array([problem is None for problem in problems], bool)
        label, confidence = np.full(len(shares), None, object), np.full(len(shares), np.nan)
        label[is_read] = self.labels(shares[is_read])
        confidence[is_read] = self.confidence(shares[is_read])
        accepted = confidence >= (np.inf if threshold is None else threshold)
        verdict = np.select([~is_read, accepted], [UNREAD, ACCEPTED], UNSURE)
        columns = {
            "label": pd.Series(label, dtype=object),
            "probability": confidence,
            "verdict": verdict,
            "problem": pd.Series(problems, dtype=object),
        }
        names = probability_columns(self.class_names)
        return pd.DataFrame(columns | dict(zip(names, shares.T, strict=True)))

    def decode(self, content: bytes, *, max_pixels: int | None = None) -> np.ndarray:
        """Returns the bytes of a picture as uint8 RGB (height, width, 3), as training saw its own.

        Raises ImageError for what cannot be read.
        """
        return decode.decode(content, max_pixels=max_pixels, rendering=self.rendering).pixels

    @property
    def reading(self) -> dict[str, Any]:
        """How `read_picture` makes the pixels of a file."""
        return {"size": self.size, "resize": self.resize, "rendering": self.rendering}

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes), calibrated: of images with 0.9 nine in ten are correct."""
        shares = self.predict_pixels(pixels)
        return shares if self.multilabel else calibration.at_temperature(shares, self.temperature)

    def labels(self, probabilities: np.ndarray) -> list[str]:
        """Returns the label of each row of probabilities; several are joined by `|`."""
        names = np.asarray(self.class_names, dtype=object)
        if not self.multilabel:
            return list(names[probabilities.argmax(axis=1)])
        present = probabilities >= np.asarray(self.class_thresholds)
        return [SEPARATOR.join(names[row]) for row in present]

    def confidence(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns (n,): the highest probability; if multilabel, that of the whole set of labels."""
        if not self.multilabel:
            return probabilities.max(axis=1)
        present = probabilities >= np.asarray(self.class_thresholds)
        return np.where(present, probabilities, 1 - probabilities).prod(axis=1)

    def threshold(self, accuracy: float) -> float | None:
        """Returns the confidence above which answers reach `accuracy`, or None.

        The validation images promise it with 95 % confidence; None if they cannot.

        Raises DarkroomError for an accuracy outside 0 to 1, and if neither a run nor the model's
        file has thresholds.
        """
        if not 0 < accuracy <= 1:
            raise DarkroomError(
                f"The target accuracy must be above 0 and at most 1. Received: {accuracy}."
            )
        if self.known is not None:
            chosen = calibration.threshold(self.known.split("val"), accuracy=accuracy)
            return None if chosen is None else chosen["threshold"]
        if self.advice is None:
            raise DarkroomError(
                f"{self.name} holds no thresholds; apply its run in logs/, or train it again."
            )
        enough = [row for row in self.advice if target_accuracy(row) >= accuracy]
        return min((row["threshold"] for row in enough), default=None)

    def tested(self, threshold: float | None) -> dict[str, float] | None:
        """Returns `coverage` and `accuracy` of the threshold on the run's test images, or None."""
        if self.known is None or threshold is None:
            return None
        confidence, correct = calibration.certainty(self.known.split("test"))
        answered = confidence >= threshold
        accuracy = float(correct[answered].mean()) if answered.any() else float("nan")
        return {"coverage": float(answered.mean()), "accuracy": accuracy}

    def accuracy(self, split: str) -> tuple[float, int]:
        """Returns accuracy (exact match if multilabel) and number of images of the run's split."""
        _, correct = calibration.certainty(self.known.split(split))
        return float(correct.mean()), len(correct)


class FinishedRun(Protocol):
    """A training, as `training.train` returns it."""

    folder: Path


def load(model: str | Path | FinishedRun, *, study: str = "interactive") -> Classifier:
    """Returns the classifier of a finished training or of a saved model.

    `model` is a run such as `quickstart/train/custom-s0` (or its folder, or the run that
    `training.train` returned), the path of a saved model, the name of a study, or `best`: the
    training of `study` with the best validation score.

    Raises DarkroomError for a model that is missing or damaged.
    """
    path, folder = find(str(getattr(model, "folder", model)), study=study)
    fields, card = _read_model(path)
    stored = card.get("calibration") or {}
    table = folder and folder / record.PREDICTIONS
    if not table or not table.is_file():
        return Classifier(
            **fields,
            name=path.name,
            temperature=stored.get("temperature", 1.0),
            advice=tuple(stored["thresholds"]) if "thresholds" in stored else None,
            class_thresholds=_class_thresholds(fields, stored, None),
        )
    known = predictions.read(table, class_names=list(fields["class_names"]))
    if known.kind not in ("probability", "multilabel"):
        raise DarkroomError(f"{known.run} gives {known.kind} and no probabilities.")
    rows = known.frame[known.frame["split"] != "train"]
    held_out = Predictions(rows, known.class_names, kind=known.kind, run=known.run)
    temperature = 1.0
    if not fields["multilabel"]:
        temperature = calibration.useful_temperature(known.split("val"))
        held_out = calibration.scaled(held_out, temperature)
    return Classifier(
        **fields,
        name=known.run,
        temperature=temperature,
        known=held_out,
        class_thresholds=_class_thresholds(fields, stored, held_out),
    )


def find(model: str, *, study: str = "interactive") -> tuple[Path, Path | None]:
    """Returns the file of a saved model and its run's folder, None for a model without a run."""
    path = paths.typed(model)
    checkpoints = paths.checkpoints().resolve()
    if path.name in MODELS or path.suffix in (".keras", ".thumbnail"):
        if not path.exists():
            raise DarkroomError(f"There is no saved model {model!r}.")
        folder = path.resolve().parent
        has_run = folder.is_relative_to(checkpoints)
        return path, paths.logs() / folder.relative_to(checkpoints) if has_run else None
    name = study if model == "best" else model.strip("/")
    is_path = path.is_absolute() or (path / record.RESULT).is_file()
    run = path.resolve() if is_path else paths.logs() / name
    if not run.is_relative_to(paths.logs().resolve()) and not run.is_relative_to(paths.logs()):
        raise DarkroomError(
            f"{model!r} is neither a run in {paths.logs()} nor a saved model (*.keras)."
        )
    if record.result(run) is None:
        run = _best_run(run, name)
    return _model_file(run), run


def trained(study_folder: Path) -> list[Path]:
    """Returns the run folders of a study that have a saved model, sorted."""
    finished = record.finished_runs(*Path(study_folder).glob("[!.]*"))
    return [folder for folder in finished if any(path.exists() for path in _candidates(folder))]


def read_picture(
    picture: bytes | Path | np.ndarray,
    *,
    size: tuple[int, int],
    resize: str,
    rendering: Rendering,
) -> np.ndarray | str:
    """Returns uint8 pixels of shape (*size, 3), or why the picture cannot be read."""
    try:
        is_array = isinstance(picture, np.ndarray)
        content = picture if is_array else _read_bytes(picture)
        pixels = content if is_array else decode.decode(content, rendering=rendering).pixels
    except decode.ImageError as error:
        return f"{error.reason}: {error}"
    except OSError as error:
        return f"unreadable: {error.strerror or error}"
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DarkroomError(
            "A picture must be uint8 RGB (height, width, 3). "
            f"Received: {pixels.dtype} {pixels.shape}."
        )
    return decode.resize(pixels, height=size[0], width=size[1], fit=resize)


def _class_thresholds(
    fields: dict[str, Any], stored: dict[str, Any], known: Predictions | None
) -> tuple[float, ...]:
    """Per class the threshold with the best F1 on validation; stored ones or 0.5 without a run."""
    if not fields["multilabel"] or known is not None:
        return known.label_thresholds if fields["multilabel"] else ()
    thresholds = stored.get("class_thresholds", {})
    return tuple(thresholds.get(name, 0.5) for name in fields["class_names"])


def _best_run(study_folder: Path, name: str) -> Path:
    candidates = trained(study_folder)
    if not candidates:
        studies = paths.logs().glob("[!.]*")
        runs = [run for study in studies for run in trained(study)]
        known = sorted(run.relative_to(paths.logs()).as_posix() for run in runs)
        hint = f" There are: {few(known)}." if known else " Train one with 3_train."
        raise DarkroomError(
            f"There is no trained run {name!r} in {paths.logs()}.{suggest(name, known)}{hint}"
        )
    # The accuracy of a multilabel run is another measure, so such runs come last.
    single = [run for run in candidates if not multilabel.is_of(record.read(run))]
    return max(single or candidates, key=_val_score)


def _val_score(run: Path) -> tuple[float, float]:
    result = record.read(run)
    return result.get("metrics", {}).get("val_accuracy", 0), result.get("seconds", 0)


def _candidates(run: Path) -> list[Path]:
    folder = paths.checkpoints() / run.resolve().relative_to(paths.logs().resolve())
    return [folder / name for name in MODELS]


def _model_file(run: Path) -> Path:
    for path in _candidates(run):
        if path.exists():
            return path
    name = run.relative_to(paths.logs()).as_posix()
    raise DarkroomError(f"The run {name} has no saved model in {_candidates(run)[0].parent}.")


def _read_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model as fields of a classifier, and its card."""
    if path.suffix != ".keras":
        from lib.baselines import model as baselines

        model = baselines.load(path)
        class_names, card, size = model.class_names, model.card, model.size
        predict, resize, is_multilabel = model.predict_proba, model.resize, model.multilabel
    else:
        from lib.models import heads, predictor, serialization

        network = serialization.load(path)
        head = heads.of(network)
        class_names, card, size = head.class_names, head.card or {}, network.input_shape[1:3]
        predict, is_multilabel = (
            partial(predictor.predict_proba, network),
            head.kind == "multilabel",
        )
        resize = (card.get("parameters") or {}).get("resize", "stretch")
    fields = {
        "class_names": tuple(class_names),
        "size": tuple(size),
        "predict_pixels": predict,
        "resize": resize,
        "multilabel": is_multilabel,
        "rendering": Rendering.from_json(card.get("rendering")),
    }
    return fields, card


def _read_bytes(picture: bytes | Path) -> bytes:
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    with Path(picture).open("rb") as file:
        head = file.read(64)
        if decode.kind(head) is None:  # a film or an archive is not read to its end
            reason = "not an image format that we know" if head else "empty file"
            raise decode.ImageError("not_an_image", reason)
        rest = file.read(MAX_BYTES)
        if len(rest) == MAX_BYTES:
            raise decode.ImageError("too_large", f"more than {MAX_BYTES >> 20} MiB")
        return head + rest
