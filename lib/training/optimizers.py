"""Optimisers and learning-rate schedules, each from one table of builders."""

from __future__ import annotations

import math

import keras

from lib.errors import DarkroomError, suggest

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": lambda **settings: keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings),
}
SCHEDULES = ("constant", "cosine", "step", "plateau")
WARM_UP = 0.05
"""Share of all steps over which the cosine schedule rises from 0 to the full rate."""


def build(name: str, *, learning_rate: float, schedule: str, total_steps: int, clip: float = 1.0) -> keras.Optimizer:
    """Returns an optimiser whose learning rate follows a schedule.

    Args:
        name: `adam`, `adamw` or `sgd` (Nesterov momentum 0.9).
        learning_rate: the highest rate, above 0.
        schedule: `constant`; `cosine` (warm-up, then down to 0); `step` (a tenth after half and again after three quarters of
            all steps, as PyTorch's StepLR is used); `plateau` (constant here; `fit` lowers it when validation stalls).
        total_steps: steps of the whole training.
        clip: largest norm of all gradients together, 0 for none.

    Raises:
        DarkroomError: for an unknown name or a rate that is not above 0.
    """
    if name not in OPTIMIZERS:
        raise _unknown("optimizer", name, list(OPTIMIZERS))
    if schedule not in SCHEDULES:
        raise _unknown("schedule", schedule, list(SCHEDULES))
    if not learning_rate > 0 or not math.isfinite(learning_rate):
        raise DarkroomError(f"`learning_rate` must be a finite number above 0, such as 0.001. Received: {learning_rate}.")
    rate = _rate(schedule, learning_rate, total_steps)
    return OPTIMIZERS[name](learning_rate=rate, global_clipnorm=clip or None)


def _rate(schedule: str, learning_rate: float, total_steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if schedule == "cosine":
        warm_up = max(1, round(WARM_UP * total_steps))
        return keras.optimizers.schedules.CosineDecay(
            0.0, max(1, total_steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
        )
    if schedule == "step":
        bounds = [max(1, total_steps // 2), max(2, 3 * total_steps // 4)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            bounds, [learning_rate, learning_rate / 10, learning_rate / 100]
        )
    return learning_rate


def _unknown(what: str, name: str, known: list[str]) -> DarkroomError:
    return DarkroomError(f"There is no {what} {name!r}. There are: {', '.join(known)}.{suggest(name, known)}")
