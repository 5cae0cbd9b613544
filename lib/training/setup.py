"""Sets seeds and arithmetic of Keras, and records the environment."""

from __future__ import annotations

from typing import Any

import keras

from lib import quiet
from lib.models import distribution, hardware
from lib.runs import Run
from lib.training import precision


def begin(
    *, seed: int, dtype_policy: str, run: Run, image_side: int = 0, devices: int = 1
) -> dict[str, Any]:
    """Seeds Python, NumPy and the backend, sets the dtype policy, notes both with backend and
    device in `environment.json`.

    `devices` of them share each batch (0: all there are). With the policy `auto` the faster one for
    the run's network at `image_side` is taken, see `precision.choose`. Returns what was noted.
    Raises DarkroomError for an unknown policy.
    """
    precision.check(dtype_policy)
    with quiet.loading():  # the device is looked for at the first use
        keras.utils.set_random_seed(seed)
        found_devices = ", ".join(keras.distribution.list_devices())
    shared = distribution.share(devices)
    chosen = {"dtype_policy": dtype_policy}
    if dtype_policy == "auto":
        chosen = precision.choose(run.parameters, image_side=image_side)
        keras.utils.set_random_seed(seed)  # timing drew from it
    keras.config.set_dtype_policy(chosen["dtype_policy"])
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    environment = {
        "backend": keras.backend.backend(),
        "devices": found_devices,
        "devices_that_share_a_batch": shared,
        "dtype_policy": keras.config.dtype_policy().name,
        "milliseconds_a_step": chosen.get("milliseconds_a_step"),
        "seed": seed,
        "threads": hardware.threads(),
        "processor": hardware.processor(),
    }
    run.environment(**environment)
    return environment
