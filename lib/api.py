"""The public names of the packages, each imported when it is first used.

    from lib import data, evaluation, training

    pictures = data.load("path/to/folder")
    run = training.train(pictures, strategy="full")
    evaluation.compare([run, other])

`data.load` also cleans, so its function is in a package above `data`. This table is above all
packages, and nothing in `lib` calls these names.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from lib import quiet

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
        with quiet.loading():  # a backend announces its instruction sets and missing drivers
            if name in public:
                return getattr(importlib.import_module(public[name]), name)
            if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
                return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
