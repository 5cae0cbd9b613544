"""Drawn pictures with planted faults: a data set without download and permission."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from lib import paths
from lib.errors import DarkroomError

NAME = "planted"
ABOUT = (
    "1,000 pictures drawn by this suite (painting, photo, schematic, sketch, text), with "
    "planted faults"
)
LICENCE = "CC0 1.0"
CITATION = "Drawn by Darkroom itself, tools/synthetic."
NUM_IMAGES = 1000


def intake(raw: Path) -> dict[str, Any]:
    """Draws the data set into the empty folder `raw`, and its truth table next to it; returns what
    to note about it.
    """
    drawing().draw(raw, num_images=NUM_IMAGES, seed=0)
    rule = "the class folder's name; 3 % are planted wrong, truth.parquet says which"
    return {"licence": LICENCE, "citation": CITATION, "label_rule": rule}


def rows(raw: Path) -> pd.DataFrame:
    """Returns one row a file, with boxes in pixels and `attr_artist`, `attr_palette`, `attr_year`;
    nothing of the faults.

    Raises DarkroomError when the truth table that was drawn with the pictures is gone.
    """
    table = raw.parent / drawing().TRUTH
    if not table.is_file():
        raise DarkroomError(
            f"The table {table} that was drawn with the pictures is gone; delete {raw.parent} and "
            "draw it again."
        )
    truth = pd.read_parquet(table)
    truth = truth[~truth["path"].str.rsplit("/", n=1).str[-1].isin(list(drawing("faults").LITTER))]
    known = truth.drop(columns=["kind", "fault", "detail", "partner"]).reset_index(drop=True)
    known["source_split"] = None
    return known


def drawing(module: str = "") -> ModuleType:
    """Returns the package that draws synthetic pictures, or one of its modules.

    It stands in `tools/` of a checkout; a wheel holds it as `lib.synthetic`.
    """
    package = "tools.synthetic" if paths.is_checkout() else "lib.synthetic"
    return importlib.import_module(f"{package}.{module}" if module else package)
