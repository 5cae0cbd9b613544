"""Learning-rate range test: the loss while the rate grows.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3.
"""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pandas

from lib.data.batches import Batches
from lib.models import compilation, losses
from lib.reporting import style
from lib.reporting.style import Drawing
from lib.training import optimizers
from lib.training.settings import DEFAULTS, Settings
from lib.training.strategies import TrainingData

LOWEST, HIGHEST = 1e-6, 1.0
_SMOOTHING = 0.9
_OF_SCHEDULES = ("schedule", "warm_up", "decay_every", "decay_factor", "plateau_patience")
_LOST = 4.0  # times the best smoothed loss: beyond, training diverges


def try_out(
    model: keras.Model, data: TrainingData, *, settings: Settings, num_steps: int = 100
) -> pandas.DataFrame:
    """Returns one row a step: `learning_rate`, `loss`, `smoothed` (bias-corrected running mean).

    The rate grows by the same factor each step, from 1e-6 to 1; the trial ends early where the loss
    has left the finite numbers or risen to four times its best. The model's weights are as before
    afterwards; what it does follows from the settings' seed. Images are augmented as in the
    training itself.
    """
    before = model.get_weights()
    growing = dataclasses.replace(settings, **{name: DEFAULTS[name] for name in _OF_SCHEDULES})
    optimizer = optimizers.build(growing, total_steps=num_steps)
    compilation.compile_model(model, optimizer, losses.loss(model, **settings.of_loss))
    train = data.examples("train")
    batches = Batches(
        train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        policy=settings.augmentation,
        mix=settings.mix,
        mix_alpha=settings.mix_alpha,
    )
    rows, mean, best = [], 0.0, math.inf
    for step, rate in enumerate(np.geomspace(LOWEST, HIGHEST, num_steps)):
        if step and step % len(batches) == 0:
            batches.on_epoch_end()
        optimizer.learning_rate = float(rate)
        loss = float(model.train_on_batch(*batches[step % len(batches)]))
        if not math.isfinite(loss):
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed = mean / (1 - _SMOOTHING ** (step + 1))
        rows.append({"learning_rate": float(rate), "loss": loss, "smoothed": smoothed})
        best = min(best, smoothed)
        if smoothed > _LOST * best:
            break
    model.set_weights(before)
    return pandas.DataFrame(rows)


def suggested(tried: pandas.DataFrame) -> float:
    """Returns the rate at which the smoothed loss falls fastest on the way to its lowest point."""
    lowest = max(2, int(tried["smoothed"].argmin()) + 1)
    slope = np.gradient(
        tried["smoothed"].to_numpy()[:lowest], np.log(tried["learning_rate"].to_numpy()[:lowest])
    )
    return float(tried["learning_rate"].iloc[int(slope.argmin())])


@style.in_style
def drawing(tried: pandas.DataFrame) -> Drawing:
    """Returns a figure of the loss over the rate, with the suggested rate marked."""
    rate = suggested(tried)
    figure = Drawing(7.0, 3.6)
    axes = figure.subplots()
    axes.plot(tried["learning_rate"], tried["loss"], color=style.MUTED, label="each step")
    axes.plot(
        tried["learning_rate"], tried["smoothed"], color=style.COLOURS[0], label="running mean"
    )
    label = f"falls fastest at {rate:.1e}"
    axes.axvline(rate, color=style.COLOURS[1], linestyle="--", label=label)
    axes.set(
        xlabel="learning rate",
        ylabel="training loss",
        title="Loss while the learning rate grows",
    )
    axes.set_ylim(0, 1.2 * float(tried["smoothed"].iloc[:10].max()))
    style.logarithmic(axes.xaxis)
    axes.legend()
    lowest = tried["smoothed"].min()
    figure.alt = (
        f"The running mean of the loss falls fastest at a learning rate of {rate:.1e}; its "
        f"lowest is {lowest:.3f}."
    )
    return figure
