"""Chooses float32 or mixed bfloat16 by timed steps, remembered for network and machine.

Neither wins everywhere: on a CPU with AMX, bfloat16 is much faster for plain convolutions and
slower for depthwise ones.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from lib import files, paths, schema
from lib.errors import check_choice
from lib.models import hardware, timing
from lib.training import network, optimizers
from lib.training.settings import LOSSES, Settings

POLICIES = ("float32", "mixed_bfloat16")
CHOICES = (*POLICIES, "auto")
_GAIN = 1.1  # less is noise, and float32 is the safer of two equals
_STEPS = 5


def check(policy: str) -> None:
    """Raises DarkroomError for an unknown policy."""
    check_choice("dtype_policy", policy, CHOICES)


def choose(parameters: Mapping[str, Any], *, image_side: int) -> dict[str, Any]:
    """Returns the faster policy for the network that `3_train`'s parameters describe:
    `dtype_policy` and milliseconds a step.

    A training on frozen features is judged by predicting, any other by whole training steps. The
    first call on a machine times both, with random weights; later ones read
    `checkpoints/.precision.json`. Leaves the global policy as it was.
    """
    path = paths.checkpoints() / ".precision.json"
    known = _known(path)
    key = _key(parameters, image_side)
    if key not in known:
        milliseconds = {
            policy: _milliseconds(policy, parameters, image_side) for policy in POLICIES
        }
        chosen = (
            "mixed_bfloat16"
            if milliseconds["mixed_bfloat16"] * _GAIN < milliseconds["float32"]
            else "float32"
        )
        known[key] = {"dtype_policy": chosen, "milliseconds_a_step": milliseconds}
        # Two processes at once may each time their network; the later one adds to what the other
        # wrote.
        files.write_json(path, {**_known(path), key: known[key]})
    return known[key]


def _milliseconds(policy: str, parameters: Mapping[str, Any], image_side: int) -> float:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        binary = LOSSES[parameters["loss"]] == "sigmoid"
        target = "label:a" if binary else "label"
        model = network.describe(
            {**parameters, "weights": "none"},
            class_names=["a", "b"],
            image_side=image_side,
            target=target,
            mean=(127.0,) * 3,
            std=(64.0,) * 3,
        )
        optimizer = optimizers.build(Settings.of(parameters), total_steps=1000)
        times = timing.steps(
            model,
            optimizer,
            image_side=image_side,
            batch_size=parameters["batch_size"],
            num_steps=_STEPS,
        )
    finally:
        keras.config.set_dtype_policy(before)
    return round(times["predict_ms" if parameters["strategy"] == "frozen" else "train_ms"], 3)


def _key(parameters: Mapping[str, Any], image_side: int) -> str:
    """Key of the stored answer: the network's parameters, the size of a step, and the machine."""
    named = {
        name: parameters[name]
        for name in (*schema.NETWORK, "strategy", "batch_size", "optimizer")
        if name in parameters
    }
    text = json.dumps([named, image_side, machine()], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{parameters['architecture']}-{image_side}-{digest}"


def machine() -> list[str]:
    """Returns what arithmetic runs on: backend with version, devices, processor, threads."""
    backend = [
        keras.backend.backend(),
        hardware.backend_version(),
        *keras.distribution.list_devices(),
    ]
    return [*backend, platform.machine(), hardware.processor(), hardware.threads()]


def _known(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or not ours: it is measured again
        return {}
