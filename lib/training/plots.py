"""Pictures of a training: its network, what it saw, and what its model finds hard."""

from __future__ import annotations

from typing import Any

import keras
import matplotlib
import matplotlib.ticker
import numpy as np
import pandas

from lib.data import thumbnails
from lib.data.batches import Batches
from lib.data.dataset import Dataset
from lib.evaluation import metrics, run_records
from lib.evaluation.predictions import Predictions
from lib.models import layer_summary
from lib.reporting import architecture_diagram as drawn
from lib.reporting import plots, style
from lib.reporting.style import Drawing
from lib.training.fit import Fitted
from lib.training.settings import Settings
from lib.training.strategies import Material


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


def first_batch(material: Material, settings: Settings, *, num: int = 12) -> Drawing:
    """Returns a figure of the first images of the first epoch, exactly as the network gets them."""
    batches = Batches(
        material.examples("train"),
        batch_size=num,
        seed=settings.seed,
        policy=settings.augmentation,
        mix=settings.mix,
        mix_alpha=settings.mix_alpha,
    )
    pixels, truth = batches[0][:2]
    side, names = pixels.shape[1], material.split.class_names
    captions = (
        [_shares(row, names) for row in truth]
        if truth.ndim == 2
        else [names[label] for label in truth]
    )
    mixed = "" if settings.mix == "none" else f", {settings.mix}"
    title = f"Train images at {side} × {side}, augmentation: {settings.augmentation}{mixed}"
    return plots.pictures(list(pixels), captions, title=title)


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
    classes = np.unique(test.truth)
    chosen = np.sort(generator.permutation(classes)[:most])
    rows = [int(generator.choice(np.flatnonzero(test.truth == code))) for code in chosen]
    names = test.class_names
    captions = [
        f"{names[test.truth[row]]}\n→ {names[test.predicted[row]]} "
        f"{100 * test.confidence[row]:.0f} %"
        for row in rows
    ]
    return plots.pictures(
        [thumbnails.of(dataset, test.frame["path"].iloc[row]) for row in rows],
        captions,
        right=[bool(test.truth[row] == test.predicted[row]) for row in rows],
        title=f"A random test image of each class ({len(chosen)} of {len(classes)})",
    )


def hardest(test: Predictions, dataset: Dataset, *, num: int = 12) -> Drawing:
    """Returns a figure of the images whose true class got the least probability, read from raw/ by
    the suite's one decoder.
    """
    rows = metrics.hardest(test, num)
    captions = [
        f"{row.label}\n→ {row.predicted} {100 * row.confidence:.0f} %"
        if row.label != row.predicted
        else f"{row.label}\n{100 * row.of_truth:.0f} %"
        for row in rows.itertuples()
    ]
    right = list(rows["label"] == rows["predicted"])
    return plots.pictures(
        [thumbnails.of(dataset, path) for path in rows["path"]],
        captions,
        right=right,
        title="The hardest images",
    )


def curves(fitted: Fitted) -> Drawing:
    """Returns the learning curves of a training, or the candidates of a linear probe."""
    history = fitted.history
    epochs = run_records.epochs(history)
    if epochs.empty:
        return _candidates(history, fitted.kept_epoch)
    kept = fitted.kept_epoch - (len(history) - len(epochs))
    title = "Learning curves" if kept > 0 else "Learning curves (the linear head was kept)"
    return plots.learning_curves(epochs, kept_epoch=kept if kept > 0 else None, title=title)


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
