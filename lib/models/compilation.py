"""A model made ready to learn at the speed of the machine."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from lib.models import batch_norm, hardware


def ready(
    model: keras.Model,
    optimizer: keras.Optimizer,
    loss: keras.Loss,
    *,
    metrics: Sequence[keras.Metric] = (),
) -> None:
    """Compiles a model for training, by XLA where that pays; `metrics` count images by their
    weights, as the loss does.
    """
    batch_norm.fuse(model)
    model.compile(
        optimizer, loss, weighted_metrics=list(metrics) or None, jit_compile=hardware.compiled()
    )
    # Made inside the first step, the optimizer's variables would have the whole step traced a
    # second time.
    model.optimizer.build(model.trainable_variables)
