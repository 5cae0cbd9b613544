"""Measured time of a training step of an architecture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pandas

from lib.models import backbones, compilation, losses
from lib.models.factory import build


def backbone_table(
    measured: Sequence[str] = (), *, image_side: int = 128, batch_size: int = 32, num_steps: int = 3
) -> pandas.DataFrame:
    """Returns one row a backbone: what is known of it and, for those named, its speed here.

    Args:
        measured: names whose `predict_ms` and `train_ms` (milliseconds a step, with random weights
            and Adam through all layers) are measured.
        image_side: side of the images in pixels.
        batch_size: images a step.
        num_steps: steps of which the median is taken.

    Returns:
        A table by architecture: `top1`, `top5` (ImageNet, percent), `num_parameters`, `depth`,
        `smallest_side`, `weights` (where they come from) and `offline` (whether they are on this
        machine through pip).
    """
    columns = ("top1", "top5", "num_parameters", "depth", "smallest_side")
    rows = {
        name: {
            **{column: getattr(backbone, column) for column in columns},
            "weights": backbone.origin,
            "offline": backbone.is_offline,
        }
        for name, backbone in backbones.BACKBONES.items()
    }
    for name in measured:
        backbones.named(name)
        model = build(name, class_names=("a", "b"), image_side=image_side, weights="none")
        rows[name] |= steps(
            model,
            keras.optimizers.Adam(),
            image_side=image_side,
            batch_size=batch_size,
            num_steps=num_steps,
        )
    table = pandas.DataFrame.from_dict(rows, orient="index").rename_axis("architecture")
    return table.astype({"depth": "Int64"})


def steps(
    model: keras.Model,
    optimizer: keras.Optimizer,
    *,
    image_side: int,
    batch_size: int,
    num_steps: int,
) -> dict[str, float]:
    """Returns `predict_ms` and `train_ms` of a model of two classes as it stands: the medians of
    `num_steps` steps in milliseconds, after one that is not counted.
    """
    compilation.compile_model(model, optimizer, losses.loss(model))
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
