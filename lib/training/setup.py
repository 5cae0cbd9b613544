"""Sets seeds and arithmetic of Keras, and records the environment."""

from __future__ import annotations

from typing import Any

import keras

from lib import processes
from lib.models import distribution
from lib.runs import Run


def begin(*, seed: int, dtype_policy: str, run: Run, devices: int = 1) -> dict[str, Any]:
    """Seeds Python, NumPy and the backend, sets the dtype policy, notes both with backend and
    device in `environment.json`.

    `devices` of them share each batch (0: all there are). Returns what was noted.
    """
    with processes.without_native_messages():  # the device is looked for at the first use
        keras.utils.set_random_seed(seed)
        found_devices = ", ".join(keras.distribution.list_devices())
    shared = distribution.share(devices)
    keras.config.set_dtype_policy(dtype_policy)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    environment = {
        "backend": keras.backend.backend(),
        "devices": found_devices,
        "devices_that_share_a_batch": shared,
        "dtype_policy": keras.config.dtype_policy().name,
        "seed": seed,
        "threads": distribution.threads(),
        "processor": distribution.processor(),
    }
    run.environment(**environment)
    return environment
