"""The devices of this machine, and data parallelism: several of them share each batch.

One call before a network is built sets it for the process: Keras' own distribution under JAX,
MirroredStrategy under TensorFlow. There batch normalisation has statistics of each device's part,
whereas under JAX it sees the whole batch.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import keras

from lib.errors import DarkroomError

_scopes: list[object] = []  # entered once for the rest of the process


def share(num_devices: int) -> int:
    """Lets `num_devices` devices share each batch from now on, all there are for 0, and returns
    their number.

    GPUs where there are any, else what the backend calls CPU devices. Raises DarkroomError for more
    than there are, and for a second call with another number.
    """
    devices = keras.distribution.list_devices()
    wanted = num_devices or len(devices)
    if wanted > len(devices):
        raise DarkroomError(
            f"`devices` is {num_devices}, and the backend sees {len(devices)}: "
            f"{', '.join(devices)}."
        )
    if wanted == count():
        return wanted
    if count() > 1:
        raise DarkroomError(
            f"{count()} devices share each batch in this process already. Restart the process for "
            f"{wanted}."
        )
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices[:wanted], auto_shard_dataset=False)
        )
    elif keras.backend.backend() == "tensorflow":
        import tensorflow

        scope = tensorflow.distribute.MirroredStrategy(
            [device.upper() for device in devices[:wanted]]
        ).scope()
        scope.__enter__()
        _scopes.append(scope)
    else:
        raise DarkroomError(
            "Several devices share a batch under JAX and TensorFlow alone, not "
            f"{keras.backend.backend()}."
        )
    return wanted


def count() -> int:
    """Returns how many devices share each batch."""
    if keras.backend.backend() == "tensorflow" and "tensorflow" in sys.modules:
        return sys.modules["tensorflow"].distribute.get_strategy().num_replicas_in_sync
    shared = keras.distribution.distribution()
    return 1 if shared is None else int(shared.device_mesh.devices.size)


def check(batch_size: int) -> None:
    """Raises DarkroomError for a batch that cannot be shared evenly."""
    if batch_size % count():
        raise DarkroomError(
            f"{count()} devices share each batch, so `batch_size` must be a multiple of {count()}. "
            f"Received: {batch_size}."
        )


def compiled() -> bool:
    """Returns whether XLA compiles: it pays on accelerators; on a CPU TensorFlow's plain graphs are
    ten times as fast.
    """
    return keras.backend.backend() == "jax" or has_gpu()


def has_gpu() -> bool:
    """Returns whether the backend sees a GPU."""
    return any("gpu" in device.lower() for device in keras.distribution.list_devices())


def processor() -> str:
    """Returns the processor's name with what makes bfloat16 fast on it; elsewhere than under Linux
    what Python knows.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    description = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    fast = [
        flag
        for flag in description.get("flags", "").split()
        if flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    ]
    return " ".join([description.get("model name", platform.processor()), *fast])


def threads() -> str:
    """Returns how many threads the backend may use."""
    return (
        os.environ.get("TF_NUM_INTRAOP_THREADS")
        or os.environ.get("OMP_NUM_THREADS")
        or str(os.cpu_count())
    )
