"""Optimisers and learning-rate schedules, from the settings of a training."""

from __future__ import annotations

import math

import keras

from lib.models import compilation, distribution
from lib.training.settings import Settings

OPTIMIZERS = {
    "adam": lambda settings, shared: compilation.adam(**shared),
    "adamw": lambda settings, shared: compilation.adamw(
        weight_decay=settings.weight_decay, **shared
    ),
    "sgd": lambda settings, shared: keras.optimizers.SGD(
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay or None,
        **shared,
    ),
}
SCHEDULES = ("constant", "cosine", "step", "plateau")
_NOT_DECAYED = ("bias", "gamma", "beta")


def build(settings: Settings, *, total_steps: int) -> keras.Optimizer:
    """Returns the optimiser that the settings name, its learning rate on their schedule over
    `total_steps`.

    Optimisers: `adam`, `adamw`, `sgd` (Nesterov where `momentum` is above 0); decay acts on kernels
        alone. Schedules: `constant`; `cosine` (up to the full rate during the share `warm_up` of
        all steps, then down to 0); `step` (by `decay_factor` whenever the share `decay_every` of
        all steps has passed); `plateau` (constant here; `fit` lowers it when validation stalls).
        `gradient_clip` bounds the norm of all gradients together, 0 for none.
    """
    longest = settings.gradient_clip / _parts() or None
    shared = {"learning_rate": rate(settings, total_steps=total_steps), "global_clipnorm": longest}
    optimizer = OPTIMIZERS[settings.optimizer](settings, shared)
    if settings.optimizer != "adam" and settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
    return optimizer


def rate(
    settings: Settings, *, total_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate: a number, or Keras' schedule over `total_steps`."""
    highest = settings.learning_rate
    if settings.schedule == "cosine":
        warm_up = round(settings.warm_up * total_steps)
        if not warm_up:
            return keras.optimizers.schedules.CosineDecay(highest, max(1, total_steps))
        return keras.optimizers.schedules.CosineDecay(
            0.0, max(1, total_steps - warm_up), warmup_target=highest, warmup_steps=warm_up
        )
    if settings.schedule == "step":
        num_falls = math.ceil(1 / settings.decay_every) - 1
        bounds = [
            max(1, round(number * settings.decay_every * total_steps))
            for number in range(1, num_falls + 1)
        ]
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            bounds, [highest * settings.decay_factor**number for number in range(num_falls + 1)]
        )
    return highest


def _parts() -> int:
    # Under TensorFlow each device clips its part of the gradient, which is so much shorter than the
    # whole.
    return distribution.count() if keras.backend.backend() == "tensorflow" else 1
