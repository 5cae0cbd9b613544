"""How long a step of an architecture takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from lib.models import compilation, heads


def step_times(
    architecture: str, *, image_side: int, batch_size: int, num_steps: int = 3
) -> dict[str, float]:
    """Returns `predict_ms` and `train_ms`, the medians of `num_steps` steps in milliseconds after
    one that is not counted.

    A step takes `batch_size` images through the network with random weights, under the current
    dtype policy; a training step goes back through all of its layers with Adam.
    """
    from lib.models.factory import build  # which imports the table that calls this

    model = build(architecture, class_names=("a", "b"), image_side=image_side, weights="none")
    return steps(
        model,
        keras.optimizers.Adam(),
        image_side=image_side,
        batch_size=batch_size,
        num_steps=num_steps,
    )


def steps(
    model: keras.Model,
    optimizer: keras.Optimizer,
    *,
    image_side: int,
    batch_size: int,
    num_steps: int,
) -> dict[str, float]:
    """Returns the same of a model of two classes as it stands, with an optimiser."""
    compilation.ready(model, optimizer, heads.loss(model))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, image_side, image_side, 3), dtype=np.uint8)
    truth = rng.integers(0, 2, batch_size)
    return {
        "predict_ms": _median(lambda: model.predict_on_batch(images), num_steps),
        "train_ms": _median(lambda: model.train_on_batch(images, truth), num_steps),
    }


def _median(step: Callable[[], object], num_steps: int) -> float:
    step()
    times = []
    for _ in range(num_steps):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
