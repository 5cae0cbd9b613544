"""`import darkroom`: the package `lib` by a name that nobody else has, for code outside notebooks.

The wheel installs this file beside `lib`. `darkroom.data` is `lib.data`, and so on.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

__version__ = importlib.metadata.version("darkroom")


def __getattr__(name: str) -> Any:
    try:
        return importlib.import_module(f"lib.{name}")
    except ModuleNotFoundError as error:
        if error.name not in ("lib", f"lib.{name}"):
            raise
        import lib

        if not Path(str(lib.__file__)).with_name("api.py").is_file():
            raise ImportError(
                f"{lib.__file__} hides Darkroom's package `lib`. Rename it, or start Python "
                "elsewhere."
            ) from None
        raise AttributeError(f"module 'darkroom' has no attribute {name!r}") from None
