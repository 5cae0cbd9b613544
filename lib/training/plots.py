"""Figures of a training: its network, images and hardest images; and what TensorBoard shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas

from lib.data import thumbnails
from lib.data.batches import Batches
from lib.data.dataset import Dataset
from lib.evaluation import calibration, metrics, multilabel, run_records
from lib.evaluation.predictions import Predictions
from lib.models import heads, predictor
from lib.reporting import architecture_diagram, run_figures, style, tensorboard
from lib.reporting.style import Drawing
from lib.reporting.tensorboard import Board, Node
from lib.runs import Run
from lib.training.fit import Fitted
from lib.training.settings import Settings
from lib.training.strategies import Trained, TrainingData

LINEAR_HEADS = {
    "lda": "linear discriminant",
    "logistic": "logistic regression",
    "svm": "linear SVM",
}

_MOST_CURVES, _SAMPLES = 20, 12
_MOST_COMPUTED = (
    256  # features that were not stored must be computed, and a run must not wait for that
)
_THRESHOLDS = np.linspace(0, 1, 101)


def network(model: keras.Model) -> Drawing:
    """Returns a drawing of the network with the shape of each stage and its number of weights."""
    title = f"{model.name}: {model.count_params():,} parameters"
    return architecture_diagram.drawing(architecture_diagram.blocks(model), title=title)


def layer_table(model: keras.Model) -> Any:
    """Returns one row a layer (name, kind, output shape, parameters, whether they learn) and their
    totals, as a table of which a notebook shows every row.
    """
    table = architecture_diagram.layer_table(model)
    learning = table.loc[table["trainable"], "num_parameters"].sum()
    total = table["num_parameters"].sum()
    sums = [("all", total), ("trainable", learning), ("frozen", total - learning)]
    rows = pandas.DataFrame(
        [{"layer": "total", "type": kind, "num_parameters": number} for kind, number in sums]
    )
    whole = pandas.concat([table, rows], ignore_index=True).fillna({"output_shape": ""})
    whole["trainable"] = ["yes" if value is True else "" for value in whole["trainable"]]
    shown = whole.style.format({"num_parameters": "{:,.0f}"}).hide(axis="index")
    return shown.set_table_attributes('style="display: block; max-height: 30rem; overflow: auto"')


def first_batch(data: TrainingData, settings: Settings, *, num: int = 12) -> Drawing:
    """Returns a figure of the first images of the first epoch, exactly as the network gets them."""
    batches = Batches(
        data.examples("train"),
        batch_size=num,
        seed=settings.seed,
        policy=settings.augmentation,
        mix=settings.mix,
        mix_alpha=settings.mix_alpha,
    )
    pixels, truth = batches[0][:2]
    side, names = pixels.shape[1], data.split.class_names
    captions = (
        [_shares(row, names) for row in truth]
        if truth.ndim == 2
        else [names[label] for label in truth]
    )
    mixed = "" if settings.mix == "none" else f", {settings.mix}"
    title = f"Train images at {side} × {side}, augmentation: {settings.augmentation}{mixed}"
    return run_figures.pictures(list(pixels), captions, title=title)


def _shares(row: np.ndarray, names: list[str]) -> str:
    return "\n".join(
        f"{names[place]} {100 * row[place]:.0f} %"
        for place in np.argsort(-row)[:2]
        if row[place] > 0
    )


def random_of_each_class(
    test: Predictions, dataset: Dataset, *, seed: int = 0, most: int = 24
) -> Drawing:
    """Returns a figure of one test image of each class, drawn at random, with the prediction and
    its probability; of more than `most` classes, `most` drawn at random.
    """
    generator = np.random.default_rng(seed)
    classes = np.flatnonzero(test.truths.any(axis=0))
    chosen = np.sort(generator.permutation(classes)[:most])
    rows = [int(generator.choice(np.flatnonzero(test.truths[:, code]))) for code in chosen]
    title = f"A random test image of each class ({len(chosen)} of {len(classes)})"
    return answers(test, dataset, rows, title=title)


def answers(test: Predictions, dataset: Dataset, rows: Sequence[int], *, title: str) -> Drawing:
    """Returns a figure of some test images, each with its truth and what it was taken for."""
    if test.kind == "multilabel":
        labels = multilabel.names_of(test.truths, test.class_names)
        given = multilabel.names_of(test.present, test.class_names)
        right = (test.truths == test.present).all(axis=1)
    else:
        names = np.asarray(test.class_names, dtype=object)
        labels, right = names[test.truth], test.truth == test.predicted
        shares = [f" {100 * share:.0f} %" for share in test.confidence]
        given = names[test.predicted] + np.asarray(shares, dtype=object)
    return run_figures.pictures(
        [thumbnails.of(dataset, test.frame["path"].iloc[row]) for row in rows],
        [f"{labels[row]}\n→ {given[row]}" for row in rows],
        right=[bool(right[row]) for row in rows],
        title=title,
    )


def hardest(test: Predictions, dataset: Dataset, *, num: int = 12) -> Drawing:
    """Returns a figure of the images whose true class got the least probability, read from raw/ by
    the suite's one decoder; of several classes the one that was missed most counts.
    """
    of_truth = np.where(test.truths, test.probabilities, 1 - test.probabilities).min(axis=1)
    rows = np.argsort(of_truth, kind="stable")[:num]
    return answers(test, dataset, rows, title="The hardest images")


def curves(fitted: Fitted) -> Drawing:
    """Returns the learning curves of a training, or the candidates of a linear probe."""
    history = fitted.history
    epochs = run_records.epochs(history)
    if epochs.empty:
        return _candidates(history, fitted.kept_epoch)
    before = int(history["kind"].notna().sum()) if "kind" in history else 0
    kept: int | None = fitted.kept_epoch - before
    title = "Learning curves"
    if not 0 < kept <= len(epochs):
        title += " (the linear head was kept)" if kept <= 0 else " (the mean of weights was kept)"
        kept = None
    return run_figures.learning_curves(epochs, kept_epoch=kept, title=title)


@style.in_style
def _candidates(history: pandas.DataFrame, kept: int) -> Drawing:
    """The validation loss of every linear head that was tried, by its regularisation."""
    drawing = Drawing(6.4, 3.4)
    best = history.iloc[kept - 1]
    axes = drawing.subplots()
    for colour, (kind, rows) in zip(
        style.COLOURS, history.groupby("kind", sort=False), strict=False
    ):
        rows = rows.sort_values("strength")
        axes.plot(rows["strength"], rows["val_loss"], "o-", color=colour, label=LINEAR_HEADS[kind])
    axes.plot(best["strength"], best["val_loss"], "o", ms=11, mfc="none", mec="black")
    axes.set(xlabel="regularisation", ylabel="validation loss")
    style.logarithmic(axes.xaxis)
    drawing.legend(loc="outside lower center", ncols=3)
    style.set_title(drawing, "Linear heads that were tried (circle: chosen)")
    drawing.alt = (
        f"Validation loss of {len(history)} linear heads; {LINEAR_HEADS[best['kind']]} with "
        f"strength {best['strength']:g} is chosen, at {best['val_loss']:.3f}."
    )
    return drawing


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
        samples = answers(test, dataset, spread, title="Test images")
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
