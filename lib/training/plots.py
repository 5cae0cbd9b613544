"""Figures of a training: its network, its images, and its hardest images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import matplotlib
import matplotlib.ticker
import numpy as np
import pandas

from lib.data import thumbnails
from lib.data.batches import Batches
from lib.data.dataset import Dataset
from lib.evaluation import multilabel, run_records
from lib.evaluation.predictions import Predictions
from lib.models import layer_summary
from lib.reporting import architecture_diagram as drawn
from lib.reporting import run_figures, style
from lib.reporting.style import Drawing
from lib.training.fit import Fitted
from lib.training.settings import Settings
from lib.training.strategies import TrainingData


def network(model: keras.Model) -> Drawing:
    """Returns a drawing of the network with the shape of each stage and its number of weights."""
    title = f"{model.name}: {model.count_params():,} parameters"
    return drawn.drawing(layer_summary.blocks(model), title=title)


def layer_table(model: keras.Model) -> Any:
    """Returns one row a layer (name, kind, output shape, parameters, whether they learn) and their
    totals, as a table of which a notebook shows every row.
    """
    table = layer_summary.layer_table(model)
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


def _candidates(history: pandas.DataFrame, kept: int) -> Drawing:
    """The validation loss of every linear head that was tried, by its regularisation."""
    drawing = Drawing(6.4, 3.4)
    best = history.iloc[kept - 1]
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        for colour, (kind, rows) in zip(
            style.COLOURS, history.groupby("kind", sort=False), strict=False
        ):
            rows = rows.sort_values("strength")
            axes.plot(rows["strength"], rows["val_loss"], "o-", color=colour, label=kind)
        axes.plot(best["strength"], best["val_loss"], "o", ms=11, mfc="none", mec="black")
        axes.set(xscale="log", xlabel="regularisation", ylabel="validation loss")
        axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        drawing.legend(loc="outside lower center", ncols=3)
        style.set_title(drawing, "Linear heads that were tried (circle: chosen)")
    drawing.alt = (
        f"Validation loss of {len(history)} linear heads; {best['kind']} with strength "
        f"{best['strength']:g} is chosen, at {best['val_loss']:.3f}."
    )
    return drawing
