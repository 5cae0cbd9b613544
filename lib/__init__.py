"""Darkroom: reproducible image-classification experiments in Keras.

    from lib import data, evaluation, training

    pictures = data.load("path/to/folder")
    run = training.train(pictures, strategy="full")
    evaluation.compare([run, other])

Each package imports only from those before it: `runs`, `data`, `models`, `evaluation`, `reporting`,
`cleaning`, `training`, `batch`, `tuning`, `baselines`, `explain`, `embeddings`, `apply`, `web` and
the command line `cli`. `PUBLIC` lists the public names, which nothing in `lib` calls: `data.load`
also cleans, so its function is in a package above `data`.
"""

import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

# Keras itself defaults to TensorFlow.
if "KERAS_BACKEND" not in os.environ and not find_spec("tensorflow") and find_spec("jax"):
    os.environ["KERAS_BACKEND"] = "jax"

PUBLIC = {
    "lib.data": {"load": "lib.cleaning.clean"},
    "lib.evaluation": {"compare": "lib.evaluation.comparison"},
    "lib.training": dict.fromkeys(
        ("Session", "TrainedRun", "finished_runs", "train"), "lib.training.session"
    ),
}
"""By package its public names, each with the module that defines it."""


def attach(package: str) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package: its public names, and its modules.

    After `from lib import training`, `training.plots` needs no import of its own.
    """
    public = PUBLIC.get(package, {})

    def __getattr__(name: str) -> Any:  # noqa: N807
        from lib import processes

        # A backend announces its instruction sets and missing drivers.
        with processes.without_native_messages():
            if name in public:
                return getattr(importlib.import_module(public[name]), name)
            if not name.startswith("_") and find_spec(f"{package}.{name}"):
                return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
