"""A table beside the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "table"
ABOUT = "a CSV or Parquet table with a row for each image"
LICENCE = None


def find(raw: Path, **options: Any) -> dict[str, Any] | None:
    """Returns the options that read the table in `raw`, or None when there is none."""
    return None
