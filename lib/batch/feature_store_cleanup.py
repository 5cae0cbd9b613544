"""Stored features that nothing will ask for any more, told without Keras by the notes that lie
beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lib import files, paths
from lib.data import pixel_cache
from lib.data.dataset import Dataset

_NOTES, _INDEX, _MAPS = (
    "engine.json",
    "index.json",
    "maps.json",
)  # of models.feature_cache, features.spaces, features.record
_BY_A_RUN = (
    "trained",
    "untrained",
)  # spaces that no other run will ask for; a pretrained network's are there for all


def of(dataset: Dataset) -> list[Path]:
    """Returns the folders of all stored features of a data set that no finished run's map shows."""
    shown = set(_shown())
    found = sorted(path.parent for path in (dataset.folder / "features").glob("*/features.npy"))
    return [path for path in found if (dataset.name, path.name) not in shown]


def stale(dataset: Dataset) -> list[tuple[Path, str]]:
    """Returns those of them that nothing will ask for again, each with the reason why.

    That is so where their images are no longer the data set's, or where the network was that of a
    run whose map is gone.
    """
    accepted = dataset.accepted().sort_values("path", ignore_index=True)
    now, old = pixel_cache.digest_of(accepted), {path.name for path in pixel_cache.stale(dataset)}
    there = {path.name for path in (dataset.folder / "pixels").glob("*")} - old
    found = []
    for path in of(dataset):
        images, space = _note(path / _NOTES, "images"), _note(path / _INDEX, "space")
        of_pixels = re.match(
            r"[^-]+-[^-]+-([0-9a-f]{16})", images
        )  # a part of the images has a longer name
        if of_pixels and of_pixels[1] != now and of_pixels[0] not in there:
            found.append((path, "features of data that has changed"))
        elif space in _BY_A_RUN:
            found.append((path, "features of a network that no run shows any more"))
    return found


def _shown() -> Iterator[tuple[str, str]]:
    for file in paths.logs().glob(f"[!.]*/*/*/{_MAPS}"):
        account = files.read_json(file)
        if isinstance(account, dict):
            yield from (
                (account.get("data", ""), each["features"]) for each in account.get("spaces", ())
            )


def _note(file: Path, name: str) -> str:
    told = files.read_json(file) if file.is_file() else None
    return str(told.get(name, "")) if isinstance(told, dict) else ""
