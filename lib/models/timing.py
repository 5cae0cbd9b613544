"""How long a step of an architecture takes on this machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from lib.models import heads


def step_times(architecture: str, *, image_side: int, batch_size: int, num_steps: int = 3) -> dict[str, float]:
    """Returns `predict_ms` and `train_ms`, the medians of `num_steps` steps in milliseconds after one that is not counted.

    A step takes `batch_size` images through the network with random weights, under the current dtype policy; a training
    step goes back through all of its layers with Adam.
    """
    from lib.models.factory import build  # which imports the table that calls this

    model = build(architecture, class_names=("a", "b"), image_side=image_side, weights="none")
    return steps(model, keras.optimizers.Adam(), image_side=image_side, batch_size=batch_size, num_steps=num_steps)


def steps(
    model: keras.Model, optimizer: keras.Optimizer, *, image_side: int, batch_size: int, num_steps: int
) -> dict[str, float]:
    """Returns the same of a model of two classes as it stands, with an optimiser."""
    model.compile(optimizer, heads.loss(model), jit_compile=compiled())
    # Made inside the first step, the optimizer's variables would have the whole step traced a second time.
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, image_side, image_side, 3), dtype=np.uint8)
    truth = rng.integers(0, 2, batch_size)
    return {
        "predict_ms": _median(lambda: model.predict_on_batch(images), num_steps),
        "train_ms": _median(lambda: model.train_on_batch(images, truth), num_steps),
    }


def compiled() -> bool:
    """Returns whether XLA compiles: it pays on accelerators; on a CPU TensorFlow's plain graphs are ten times as fast."""
    return keras.backend.backend() == "jax" or has_gpu()


def has_gpu() -> bool:
    """Returns whether the backend sees a GPU."""
    return any("gpu" in device.lower() for device in keras.distribution.list_devices())


def backend_version() -> str:
    """Returns the version of the library under Keras."""
    import importlib

    return str(importlib.import_module(keras.backend.backend()).__version__)


def processor() -> str:
    """Returns the processor's name with what makes bfloat16 fast on it; elsewhere than under Linux what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    fast = [flag for flag in found.get("flags", "").split() if flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2")]
    return " ".join([found.get("model name", platform.processor()), *fast])


def threads() -> str:
    """Returns how many threads the backend may use."""
    return os.environ.get("TF_NUM_INTRAOP_THREADS") or os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())


def _median(step: Callable[[], object], num_steps: int) -> float:
    step()
    times = []
    for _ in range(num_steps):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
