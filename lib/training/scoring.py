"""Scores every accepted image with the kept model and writes the prediction table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

from lib.data.batches import Batches
from lib.errors import DarkroomError
from lib.evaluation import predictions, test_set_log
from lib.evaluation.predictions import Predictions
from lib.models import heads, losses, predictor
from lib.models import inference as engines
from lib.runs import Run, record
from lib.training import tensorboard_figures
from lib.training.strategies import Trained, TrainingData

_BATCHES_AT_ONCE = 16  # so that no more than this many batches of pixels are in memory
_COMPARED, _TOLERANCE = 64, 0.01


def score(trained: Trained, data: TrainingData, *, run: Run, batch_size: int = 64) -> Predictions:
    """Scores train, validation and test, writes `predictions.parquet` into the run's folder and
    returns what it holds.

    The images are not augmented and the dtype policy is the model's own. Call it once a run, when
    the model is chosen: this is where the test split is opened, and the opening is recorded. The
    table also notes what Keras' own evaluate says of the test images, which the audit holds against
    it; their features go to TensorBoard's projector.

    Raises:
        DarkroomError: the model has other classes than the split, or its stored features are
            another model's.
    """
    split = data.split
    if list(heads.of(trained.model).class_names) != list(split.class_names):
        raise DarkroomError(
            f"The model has the classes {list(heads.of(trained.model).class_names)}, the split "
            f"{list(split.class_names)}. Build the model with the split's class_names."
        )
    test_set_log.record(data.dataset_folder, split.id, run.name)
    rows = data.pixels.rows_of(split.frame["path"])
    if trained.on_features is not None and not _fits(trained, data.pixels.array, rows):
        trained = dataclasses.replace(trained, on_features=None)
    if trained.on_features is None:
        probabilities = np.concatenate(
            list(_chunks(trained.model, data.pixels.array, rows, batch_size))
        )
    else:
        probabilities = _from_features(trained, rows)
    if trained.val_probabilities is not None:
        probabilities[split.frame["split"].to_numpy() == "val"] = trained.val_probabilities
    table = predictions.table(
        split.frame["path"],
        splits=split.frame["split"],
        labels=split.frame["label"],
        groups=split.frame["group"],
        probabilities=probabilities,
        class_names=split.class_names,
    )
    path = run.folder / record.PREDICTIONS
    about = {
        "class_names": split.class_names,
        "data_hash": split.data_hash(),
        "target": split.target,
    }
    predictions.write(
        path,
        table,
        {
            **about,
            "kind": "multilabel" if split.is_multilabel else "probability",
            "run": run.name,
            "evaluated": _evaluated(trained, data, batch_size),
        },
    )
    written = predictions.read(path)
    tensorboard_figures.features(trained, data, written, run=run)
    return written


def _evaluated(trained: Trained, data: TrainingData, batch_size: int) -> dict[str, float]:
    """Keras' own evaluation of the test images, which uses its batches and metric."""
    if trained.on_features is None:
        model, test = predictor.averaged(trained.model), data.examples("test")
        if not model.compiled:  # an ensemble, a linear head, or the mean over mirror images
            head = trained.model
            model.compile(loss=losses.loss(head), weighted_metrics=[losses.accuracy(head)])
    else:
        model, features = trained.on_features
        test = data.on_features("test", features)
    metrics = model.evaluate(Batches(test, batch_size=batch_size), return_dict=True, verbose=0)
    return {"accuracy": float(metrics["accuracy"])}


def _chunks(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    chunk = batch_size * _BATCHES_AT_ONCE
    for start in range(0, len(rows), chunk):
        yield predictor.predict_proba(
            model, images[rows[start : start + chunk]], batch_size=batch_size
        )


def _from_features(trained: Trained, rows: np.ndarray) -> np.ndarray:
    classifier, features = trained.on_features
    logits = classifier.predict(features[rows], batch_size=512, verbose=0)
    return heads.probabilities(heads.of(trained.model), logits)


def _fits(trained: Trained, images: np.ndarray, rows: np.ndarray) -> bool:
    """Returns whether the head on stored features scores some images as the whole model does.

    Features of another backend than Keras may be too coarse for that; the whole model scores then.
    """
    some = rows[:: max(1, len(rows) // _COMPARED)][:_COMPARED]
    whole = predictor.predict_proba(trained.model, images[some])
    apart = float(np.abs(whole - _from_features(trained, some)).max())
    if apart > _TOLERANCE and engines.resolve(trained.settings.feature_backend) == "keras":
        raise DarkroomError(
            f"The whole model and its head on stored features disagree by up to {apart:.3f} in "
            "probability; the stored features are not this model's. Delete the data set's folder "
            "`features` and run again."
        )
    return apart <= _TOLERANCE
