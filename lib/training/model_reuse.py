"""Reuse of compiled models, for a process that trains many networks of equal structure.

Tracing its steps costs a small network as much as an epoch or two. A compiled model takes over the
weights of the next network of its structure and a fresh optimizer state, so nothing of an earlier
training reaches a later one.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator

import keras
import numpy as np

from lib import hashing
from lib.models import distribution
from lib.training.settings import Settings

MOST, MOST_PARAMETERS = 8, 4_000_000
"""Limits on the models kept and on their parameters together, of sixteen bytes each."""
_BY_STEP = ("cosine", "step")  # schedules whose numbers are constants of the traced step
_compiled: OrderedDict[str, keras.Model] = OrderedDict()
_is_reusing = False


@contextlib.contextmanager
def reusing() -> Iterator[None]:
    """Inside, `fit` trains a compiled model kept from an earlier network of equal structure."""
    global _is_reusing
    before, _is_reusing = _is_reusing, True
    try:
        yield
    finally:
        _is_reusing = before


def compiled(
    model: keras.Model,
    settings: Settings,
    *,
    total_steps: int,
    compile: Callable[[keras.Model], None],
) -> keras.Model:
    """Returns a compiled model with the weights of `model`: itself, or inside `reusing` one of
    equal structure that was compiled before.
    """
    if not _is_reusing or distribution.count() > 1:
        compile(model)
        return model
    key = _key(model, settings, total_steps)
    reused = _compiled.pop(key, None)
    if reused is None:
        reused = keras.models.clone_model(model)
        compile(reused)
    else:
        _reset(reused.optimizer, settings)
    reused.set_weights(model.get_weights())
    _compiled[key] = reused
    while len(_compiled) > 1 and (
        len(_compiled) > MOST
        or sum(kept.count_params() for kept in _compiled.values()) > MOST_PARAMETERS
    ):
        _compiled.popitem(last=False)
    return reused


def _reset(optimizer: keras.Optimizer, settings: Settings) -> None:
    for variable in optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    if settings.schedule not in _BY_STEP:
        optimizer.learning_rate = settings.learning_rate


def _key(model: keras.Model, settings: Settings, total_steps: int) -> str:
    """All that a traced step holds as a constant."""
    constants = [
        model.get_config(),
        settings.of_loss,
        settings.optimizer,
        settings.momentum,
        settings.weight_decay,
        settings.gradient_clip,
    ]
    if settings.schedule in _BY_STEP:
        constants += [
            settings.schedule,
            settings.learning_rate,
            settings.warm_up,
            settings.decay_every,
            settings.decay_factor,
        ]
        constants.append(total_steps)
    return hashing.digest(json.dumps(constants, sort_keys=True, default=str))
