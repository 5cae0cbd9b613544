"""The state of Keras that a run starts from: seeds, arithmetic, and a note of what it runs on."""

from __future__ import annotations

import os

import keras

from lib import quiet
from lib.runs import Run


def begin(*, seed: int, dtype_policy: str, run: Run) -> dict[str, str | int | None]:
    """Seeds Python, NumPy and the backend, sets the dtype policy, notes both with backend and device in `environment.json`.

    Returns what was noted.
    """
    with quiet.loading():  # the device is looked for at the first use
        keras.utils.set_random_seed(seed)
        devices = ", ".join(keras.distribution.list_devices())
    keras.config.set_dtype_policy(dtype_policy)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    found = {
        "backend": keras.backend.backend(),
        "devices": devices,
        "dtype_policy": keras.config.dtype_policy().name,
        "seed": seed,
        "threads": os.environ.get("TF_NUM_INTRAOP_THREADS") or os.environ.get("OMP_NUM_THREADS"),
    }
    run.environment(**found)
    return found
