"""In a process that trains many networks, one of equal structure learns in a new one's place,
because its steps are traced.

Tracing costs a small network as much as an epoch or two. A twin takes the new network's weights
over, and its optimizer begins anew, so nothing of an earlier training reaches a later one.
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
"""So many twins are kept, with so many parameters together, which take sixteen bytes each."""
_BY_STEP = ("cosine", "step")  # schedules whose numbers are constants of the traced step
_twins: OrderedDict[str, keras.Model] = OrderedDict()
_keeps = False


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Inside, whatever is fitted learns by a twin, which stays for the next one of its structure."""
    global _keeps
    before, _keeps = _keeps, True
    try:
        yield
    finally:
        _keeps = before


def learner(
    model: keras.Model,
    settings: Settings,
    *,
    total_steps: int,
    compiles: Callable[[keras.Model], None],
) -> keras.Model:
    """Returns what learns for `model`, compiled and with its weights: the model itself outside of
    `kept`, else its twin.
    """
    if not _keeps or distribution.count() > 1:
        compiles(model)
        return model
    key = _key(model, settings, total_steps)
    twin = _twins.pop(key, None)
    if twin is None:
        twin = keras.models.clone_model(model)
        compiles(twin)
    else:
        _begin_anew(twin.optimizer, settings)
    twin.set_weights(model.get_weights())
    _twins[key] = twin
    while len(_twins) > 1 and (
        len(_twins) > MOST or sum(each.count_params() for each in _twins.values()) > MOST_PARAMETERS
    ):
        _twins.popitem(last=False)
    return twin


def _begin_anew(optimizer: keras.Optimizer, settings: Settings) -> None:
    for variable in optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    if settings.schedule not in _BY_STEP:
        optimizer.learning_rate = settings.learning_rate


def _key(model: keras.Model, settings: Settings, total_steps: int) -> str:
    """All that a traced step holds as a constant."""
    told = [
        model.get_config(),
        settings.of_loss,
        settings.optimizer,
        settings.momentum,
        settings.weight_decay,
        settings.gradient_clip,
    ]
    if settings.schedule in _BY_STEP:
        told += [
            settings.schedule,
            settings.learning_rate,
            settings.warm_up,
            settings.decay_every,
            settings.decay_factor,
        ]
        told.append(total_steps)
    return hashing.digest(json.dumps(told, sort_keys=True, default=str))
