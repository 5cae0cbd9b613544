"""TensorBoard output of a training: figures, curves, graph, hyperparameters, features."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from lib.data.dataset import Dataset
from lib.evaluation import calibration, metrics
from lib.evaluation.predictions import Predictions
from lib.models import heads, predictor
from lib.reporting import run_figures, tensorboard
from lib.reporting.tensorboard import Board, Node
from lib.runs import Run
from lib.training import plots as training_plots
from lib.training.strategies import Trained, TrainingData

_MOST_CURVES, _SAMPLES = 20, 12
_MOST_COMPUTED = (
    256  # features that were not stored must be computed, and a run must not wait for that
)
_THRESHOLDS = np.linspace(0, 1, 101)


def show(
    run: Run, trained: Trained, scored: Predictions, *, dataset: Dataset, numbers: dict[str, Any]
) -> None:
    """Adds the finished training to the run's TensorBoard: confusion, samples, curves, network,
    hyperparameters.
    """
    board, test, step = Board(run.folder), scored.split("test"), trained.fitted.kept_epoch
    if test.kind != "multilabel":  # multilabel images have no confusion matrix
        matrix = run_figures.confusion_matrix(metrics.confusion(test), scored.class_names)
        board.figure("test/confusion", matrix, step)
        spread = np.unique(np.linspace(0, len(test) - 1, _SAMPLES).astype(int))
        samples = training_plots.answers(test, dataset, spread, title="Test images")
        board.figure("test/samples", samples, step)
    for index, name in enumerate(scored.class_names[:_MOST_CURVES]):
        board.precision_recall(
            f"test/{name}", calibration.counts_at_thresholds(test, index, _THRESHOLDS), step
        )
    board.graph(nodes(trained.model))
    board.hparams(
        hyperparameters(run, dataset),
        {tag: numbers[name] for name, tag in tensorboard.RESULTS.items() if name in numbers},
    )


def hyperparameters(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Returns the run's parameters, its data by their name and not their path, and its arm as its
    folder is called.
    """
    return {
        **run.parameters,
        "data": dataset.name,
        "arm": run.unit.removesuffix(f"-s{run.parameters['seed']}"),
    }


def nodes(model: keras.Model) -> list[Node]:
    """Returns the model's layers with what each reads, as TensorBoard draws them."""
    made = []
    for layer in model.layers:
        inputs = [] if isinstance(layer, keras.layers.InputLayer) else layer.input
        read = inputs if isinstance(inputs, list | tuple) else [inputs]
        names = tuple(dict.fromkeys(tensor._keras_history.operation.name for tensor in read))
        output = layer.output[0] if isinstance(layer.output, list | tuple) else layer.output
        made.append(
            Node(layer.name, type(layer).__name__, names, tuple(output.shape), layer.count_params())
        )
    return made


def features(trained: Trained, data: TrainingData, scored: Predictions, *, run: Run) -> None:
    """Writes the features of test images with labels and pictures for TensorBoard's projector.

    Stored features are all taken; others are computed for at most 256 images, spread evenly over
    the split.
    """
    test = scored.split("test")
    most = tensorboard.MOST if trained.on_features is not None else _MOST_COMPUTED
    chosen = np.unique(np.linspace(0, len(test) - 1, min(most, len(test))).astype(int))
    rows = data.pixels.rows_of(test.frame["path"].iloc[chosen])
    images = np.asarray(data.pixels.array[rows])
    if trained.on_features is not None:
        vectors = np.asarray(trained.on_features[1][rows], np.float32)
    else:
        vectors = predictor.features(trained.model, images, layer=_before_head(trained.model))
    names = np.asarray(scored.class_names, dtype=object)
    frame = test.frame.iloc[chosen]
    if test.kind == "multilabel":
        present = test.present[chosen]
        label = np.array([", ".join(own) or "none" for own in frame["label"]], object)
        predicted = np.array([", ".join(sorted(names[row])) or "none" for row in present], object)
    else:
        label, predicted = frame["label"].to_numpy(), names[test.predicted[chosen]]
    verdict = np.where(predicted == label, "right", "wrong")
    columns = {
        "label": label,
        "predicted": predicted,
        "verdict": verdict,
        "path": frame["path"],
    }
    tensorboard.write_projector(run.folder, vectors, columns, images)


def _before_head(model: keras.Model) -> str:
    """The layer whose output the head reads, dropout aside."""
    heads.of(model)
    return next(
        layer.name
        for layer in reversed(model.layers[:-1])
        if not isinstance(layer, keras.layers.Dropout)
    )
