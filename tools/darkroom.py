"""`import darkroom`: the package `lib` by a name that nobody else has, for code outside notebooks.

The wheel installs this file beside `lib`. `darkroom.data` is `lib.data`, and so on.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

__version__ = importlib.metadata.version("darkroom")


def __getattr__(name: str) -> Any:
    try:
        return importlib.import_module(f"lib.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"lib.{name}":
            raise
        raise AttributeError(f"module 'darkroom' has no attribute {name!r}") from None
