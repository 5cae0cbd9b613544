"""Packages whose modules and public names are imported when they are first used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any


def attach(package: str, **public: str) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package.

    `from lib import training` then gives `training.plots` without an import of its own, and
    `training.train`, which `public` maps to the module that defines it. Nothing is loaded before.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name in public:
            return getattr(importlib.import_module(public[name]), name)
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
