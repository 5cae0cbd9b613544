"""Is there room for what is about to be written?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from lib import paths
from lib.batch.plan import Step
from lib.errors import DarkroomError

BYTES_A_TRAINING, BYTES_A_RUN = 25_000_000, 2_000_000
"""What a run leaves on the disk, by a generous guess: one that trains, its checkpoint included, and
any other.
"""
BYTES_ALWAYS = 200_000_000
"""What must stay free whatever is run."""


def check(steps: Sequence[Step]) -> None:
    """Raises DarkroomError when the disk of `logs/` cannot hold the runs that are to be done."""
    todo = [step for step in steps if step.action != "skip"]
    number = len(todo)
    if not number:
        return
    folder = paths.root()
    trainings = sum("epochs" in step.unit.parameters for step in todo)
    needed = (
        BYTES_ALWAYS
        + trainings * BYTES_A_TRAINING
        + (number - trainings) * BYTES_A_RUN
        + _pixels(todo)
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DarkroomError(
            f"{number} runs need about {needed / 1e9:.1f} GB in {folder}, but its disk has "
            f"{free / 1e9:.1f} GB free. Make room "
            "(`darkroom prune`), or set DARKROOM_HOME to a folder on another disk."
        )


def _pixels(steps: Sequence[Step]) -> int:
    """Bytes of the pixel caches: one for each data set and image side."""
    sizes = {
        (step.unit.parameters["data"], step.unit.parameters["image_side"])
        for step in steps
        if {"data", "image_side"} <= set(step.unit.parameters)
    }
    if not sizes:
        return 0
    from lib.data import dataset

    counted = {name: len(dataset.load(name).files()) for name in {name for name, _ in sizes}}
    return sum(counted[name] * side * side * 3 for name, side in sizes)
