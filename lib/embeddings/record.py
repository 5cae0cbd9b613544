"""What a run of features leaves for the site: every image with its labels and its place on each
map, and an account of both.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files, hashing, paths
from lib.data.dataset import Dataset
from lib.embeddings import label_columns
from lib.embeddings.methods import METHODS
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from lib.embeddings.feature_spaces import (  # they load Keras, which the site does without
        Origin,
        Space,
    )
    from lib.embeddings.quality import Quality
    from lib.embeddings.reduce import Reduction

POINTS, ACCOUNT = "points.parquet", "maps.json"
VERSION = 1
TITLES = {"trained": "trained", "frozen": "pretrained", "untrained": "untrained"}
"""Spaces by name, and what people read."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run of features. `points` has one row an image: what is known of it, and `x
    <space> <method>`, `y …`.

    `account` tells the data set, the network, the spaces (`name`, `features`: a folder below the
    data set's `features/`), the methods with their quality, and the columns that colour the points.
    """

    folder: Path
    points: pd.DataFrame
    account: dict[str, Any]

    def places(self, space: str, method: str) -> np.ndarray:
        """Returns float32 (n, 2), the map of a space by a method. Raises DarkroomError when the run
        made none.
        """
        wanted = [f"{axis} {space} {method}" for axis in "xy"]
        if any(name not in self.points.columns for name in wanted):
            raise DarkroomError(f"This run has no map {method!r} of the space {space!r}.")
        return self.points[wanted].to_numpy(np.float32)


def write(
    folder: Path,
    *,
    dataset: Dataset,
    origin: Origin,
    spaces: Mapping[str, Space],
    maps: Mapping[str, Mapping[str, Reduction]],
    qualities: Mapping[str, Quality],
    sentences: list[str],
) -> None:
    """Writes `points.parquet` and `maps.json` into a run's folder; `maps` holds the reductions of
    each space by method.
    """
    points = origin.table.copy()
    for space, found in maps.items():
        for method, reduction in found.items():
            points[f"x {space} {method}"], points[f"y {space} {method}"] = reduction.places.T
    model = origin.model_path and {
        "path": origin.model_path.relative_to(paths.checkpoints()).as_posix(),
        "sha256": hashing.file(origin.model_path),
    }
    account = {
        "version": VERSION,
        "data": dataset.name,
        "target": origin.target,
        "label": label_columns.label_of(dataset.source),
        "network": origin.parameters.get("architecture", "custom"),
        "model": model,
        "layer": next(iter(spaces.values())).layer,
        "spaces": [
            {"name": each.name, "features": each.folder.name, "length": each.features.shape[1]}
            for each in spaces.values()
        ],
        "methods": [
            {
                "name": name,
                "title": METHODS[name].title,
                "seconds": found.seconds,
                "seed": found.seed,
                "options": found.options,
                "quality": qualities[name].means() if name in qualities else None,
            }
            for name, found in next(iter(maps.values())).items()
        ],
        "columns": label_columns.names(points),
        "sentences": sentences,
    }
    files.write_parquet(folder / POINTS, points)
    files.write_json(folder / ACCOUNT, account)


def read(folder: Path) -> Record:
    """Returns what `write` wrote. Raises DarkroomError where it is missing or of another version."""
    try:
        account = json.loads((folder / ACCOUNT).read_text(encoding="utf-8"))
        points = pd.read_parquet(folder / POINTS)
    except (OSError, ValueError) as error:
        raise DarkroomError(
            f"{folder.name} holds no maps that can be read ({error}); run 8_features again."
        ) from None
    if account.get("version") != VERSION:
        raise DarkroomError(
            f"The maps of {folder.name} were written by another version; run 8_features again."
        )
    return Record(folder, points, account)
