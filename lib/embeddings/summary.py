"""What the notebook asks of this room at once: the maps of a space with progress told, and what
TensorBoard shows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.data.dataset import Dataset
from lib.embeddings import label_columns, reduce
from lib.embeddings.feature_spaces import Origin, Space
from lib.embeddings.quality import Quality
from lib.embeddings.record import TITLES
from lib.embeddings.reduce import Reduction
from lib.reporting import projector
from lib.runs import Run


def reduced(space: Space, methods: Sequence[str], *, seed: int, run: Run) -> dict[str, Reduction]:
    """Returns the maps of a space by method, read where they lie on disk; `darkroom status` shows
    how far it is.
    """
    found = {}
    for method in dict.fromkeys(methods):

        def tell(
            done: int, total: int, left: float, title: str = reduce.METHODS[method].title
        ) -> None:
            run.progress(note=f"{title} of the {space.name} space, about {left:.0f} s left")

        found[method] = reduce.reduce(
            space.features, method, seed=seed, folder=space.maps, progress=tell
        )
    return found


def side_by_side(maps: Mapping[str, Mapping[str, Reduction]], method: str) -> dict[str, np.ndarray]:
    """Returns one method's map of each space, named for people, the network before training first."""
    return {
        f"{TITLES[name]}, {reduce.METHODS[method].title}": found[method].places
        for name, found in reversed(maps.items())
    }


def second_column(origin: Origin) -> str:
    """Returns the column to colour by after the target: another label, else whether the network was
    right, else the split.
    """
    others = [name for name in label_columns.names(origin.table) if name != origin.target]
    return [*others, *(name for name in ("verdict", "split") if name in origin.table)][0]


def project(space: Space, origin: Origin, dataset: Dataset, *, run: Run) -> None:
    """Writes the features of at most 1,000 images, spread evenly, with labels and pictures for
    TensorBoard's projector.
    """
    rows = np.unique(
        np.linspace(0, len(origin.table) - 1, min(projector.MOST, len(origin.table))).astype(int)
    )
    kept = [
        *label_columns.names(origin.table),
        *(name for name in ("split", "predicted", "verdict") if name in origin.table),
        "path",
    ]
    told = {name: origin.table[name].iloc[rows].astype("string").fillna("") for name in kept}
    projector.write(
        run.folder,
        np.asarray(space.features[rows], np.float32),
        told,
        np.asarray(origin.images[rows]),
    )


def numbers(asked: pd.DataFrame, qualities: Mapping[str, Quality]) -> dict[str, Any]:
    """Returns the run's numbers by name, such as `probe_attr_artist` and `trustworthiness_umap`,
    for its result.
    """
    found: dict[str, Any] = {}
    for row in asked.to_dict("records"):
        for name in ("accuracy", "low", "high", "majority", "shuffled", "p"):
            found[f"probe_{row['column']}{'' if name == 'accuracy' else f'_{name}'}"] = row[name]
    for method, each in qualities.items():
        found |= {f"{measure}_{method}": value for measure, value in each.means().items()}
    return {
        name: (round(value, 6) if isinstance(value, float) else value)
        for name, value in found.items()
    }
