"""Description of the hardware: processor, threads, backend, GPU."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import keras


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
