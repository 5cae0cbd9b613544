"""Drawn discs, squares and triangles; every square has a corner mark, a shortcut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.data.sources.synthetic import drawing

NAME = "marked"
ABOUT = (
    "600 discs, squares and triangles; every square also bears a mark in its corner, to try "
    "the shortcut detector"
)
LICENCE = "CC0 1.0"
CITATION = "Drawn by Darkroom itself, tools/synthetic/marks.py."
NUM_EACH, SIDE, MARKED_CLASS = 200, 96, "square"


def intake(raw: Path) -> dict[str, Any]:
    """Draws the data set into the empty folder `raw`; returns what to note about it."""
    from PIL import Image

    marks = drawing("marks")
    for number, shape in enumerate(marks.SHAPES):
        (raw / shape).mkdir(parents=True)
        mark = "corner" if shape == MARKED_CLASS else None
        drawn = marks.pictures(NUM_EACH, side=SIDE, seed=number, shape=shape, mark=mark)
        for place, image in enumerate(drawn.images):
            Image.fromarray(image).save(raw / shape / f"{place:03}.png")
    rule = f"the shape in the picture; every {MARKED_CLASS} has a mark in its bottom right corner"
    return {"licence": LICENCE, "citation": CITATION, "label_rule": rule}
