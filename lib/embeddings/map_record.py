"""The stored result of `8_features`: every image with its labels and positions, for the site."""

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
from lib.embeddings.reduction import METHODS
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from lib.embeddings.feature_spaces import Origin, Space  # loads Keras
    from lib.embeddings.reduction import Quality, Reduction

POINTS, ACCOUNT = "points.parquet", "maps.json"
VERSION = 1
TITLES = {"trained": "trained", "frozen": "pretrained", "untrained": "untrained"}
"""Titles of the spaces."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run of `8_features`.

    `points` has one row an image: its labels, and `x <space> <method>`, `y <space> <method>`.
    `account` holds the data set, the network, the spaces (`features` names a folder below the data
    set's `features/`), the methods with their quality, and the columns that colour the points.
    """

    folder: Path
    points: pd.DataFrame
    account: dict[str, Any]

    def places(self, space: str, method: str) -> np.ndarray:
        """Returns the map of a space by a method, float32 (n, 2)."""
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
    """Writes `points.parquet` and `maps.json` into a run's folder."""
    points = origin.table.copy()
    for space, reductions in maps.items():
        for method, reduction in reductions.items():
            points[f"x {space} {method}"], points[f"y {space} {method}"] = reduction.places.T
    model = origin.model_path and {
        "path": origin.model_path.relative_to(paths.checkpoints()).as_posix(),
        "sha256": hashing.file(origin.model_path),
    }
    account = {
        "version": VERSION,
        "data": dataset.name,
        "target": origin.target,
        "label": label_columns.label_title(dataset.source),
        "network": origin.parameters.get("architecture", "custom"),
        "model": model,
        "layer": next(iter(spaces.values())).layer,
        "spaces": [
            {
                "name": entry.name,
                "features": entry.folder.name,
                "length": entry.features.shape[1],
            }
            for entry in spaces.values()
        ],
        "methods": [
            {
                "name": name,
                "title": METHODS[name].title,
                "seconds": reductions.seconds,
                "seed": reductions.seed,
                "options": reductions.options,
                "quality": qualities[name].means() if name in qualities else None,
            }
            for name, reductions in next(iter(maps.values())).items()
        ],
        "columns": label_columns.names(points),
        "sentences": sentences,
    }
    files.write_parquet(folder / POINTS, points)
    files.write_json(folder / ACCOUNT, account)


def read(folder: Path) -> Record:
    """Returns what `write` wrote. Raises DarkroomError where it is missing or of
    another version.
    """
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
