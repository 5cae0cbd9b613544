"""Maps: a feature space in two dimensions, by five methods, each seeded, kept on disk, and able to
take new images.

Every method but PCA itself starts from the first 50 principal components (`pca_tsne` from 30, as in
the study this grew from): distances among them are those of the features but for noise, at a tenth
of the time.
"""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lib import files, hashing
from lib.embeddings.methods import METHODS, Progress
from lib.errors import DarkroomError, suggest

FEWEST = 12
"""Images below which no neighbourhood means anything."""
_ROWS = 8_192  # at a time, so that half precision is not widened all at once
_SUBSPACE_ROWS = 20_000  # rows that principal components are computed from; of more, a seeded draw


@dataclass(frozen=True)
class Reduction:
    """A map: `places` float32 (n, 2) in the order of the features, and what it takes to place new
    images.
    """

    method: str
    places: np.ndarray
    seed: int
    options: dict[str, Any]
    seconds: float
    mean: np.ndarray
    axes: np.ndarray
    components: np.ndarray

    def place(self, features: np.ndarray) -> np.ndarray:
        """Returns where new images (n, d) lie on this map, float32 (n, 2), without moving the
        others.

        Raises DarkroomError for a method that cannot, and for features of another length.
        """
        method = METHODS[self.method]
        if method.place is None:
            able = ", ".join(name for name, each in METHODS.items() if each.place)
            raise DarkroomError(
                f"{method.title} cannot place new images on a finished map. Those that can: {able}."
            )
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise DarkroomError(
                f"This map takes features of length {len(self.mean)}. Received: {features.shape}."
            )
        new = (np.asarray(features, np.float32) - self.mean) @ self.axes
        return np.asarray(method.place(self, new), np.float32)


def reduce(
    features: np.ndarray,
    method: str,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Reduction:
    """Returns the map of a feature space by a method of `METHODS`; the same seed gives the same
    map.

    Args:
        features: (n, d), n at least 12; it may be mapped from disk and of half precision.
        folder: where maps of these very features are kept; a map that lies there is read, not
            computed. progress: told while it works. options: of the method (`perplexity` for t-SNE;
            `neighbours` and `min_dist` for UMAP), in place of its own.

    Raises:
        DarkroomError: an unknown method or option, too few images, or values that are not finite.
    """
    options = _checked(features, method, options)
    if folder is None:
        return _computed(features, method, seed, options, progress)
    name = f"{method}-{hashing.digest(json.dumps([seed, options], sort_keys=True))}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        found = _stored(folder / name, method, len(features))
        if found is None:
            found = _computed(features, method, seed, options, progress)
            _store(folder / name, found)
    return found


def _checked(features: np.ndarray, method: str, options: dict[str, Any]) -> dict[str, Any]:
    if method not in METHODS:
        near = suggest(method, list(METHODS))
        raise DarkroomError(
            f"A map's method is one of {', '.join(METHODS)}. Received: {method!r}.{near}"
        )
    if features.ndim != 2 or len(features) < FEWEST:
        raise DarkroomError(
            f"A map takes features (n, d) of at least {FEWEST} images. Received shape: "
            f"{features.shape}."
        )
    known = METHODS[method].options
    for name in options:
        if name not in known:
            raise DarkroomError(
                f"{method!r} takes the options {', '.join(known) or 'none'}. Received: {name!r}."
            )
    return known | options


def _computed(
    features: np.ndarray, method: str, seed: int, options: dict[str, Any], progress: Progress | None
) -> Reduction:
    if not all(
        np.isfinite(features[start : start + _ROWS]).all()
        for start in range(0, len(features), _ROWS)
    ):
        raise DarkroomError(
            "A map takes finite features. Received NaN or infinity; did the network's training "
            "diverge?"
        )
    began = time.perf_counter()
    mean, axes = principal(features, METHODS[method].components, seed=seed)
    components = np.concatenate(
        [
            (np.asarray(features[start : start + _ROWS], np.float32) - mean) @ axes
            for start in range(0, len(features), _ROWS)
        ]
    )
    places = METHODS[method].fit(components, seed, options, progress or (lambda *_: None))
    seconds = round(time.perf_counter() - began, 2)
    return Reduction(
        method, np.asarray(places, np.float32), seed, options, seconds, mean, axes, components
    )


def principal(features: np.ndarray, number: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (d,) and the first `number` principal axes (d, number) of features (n, d),
    the widest first.

    Signs are fixed (the largest entry of an axis is positive), so that a map is never mirrored by
    another library.
    """
    rows = features
    if len(features) > _SUBSPACE_ROWS:
        rows = features[
            np.sort(
                np.random.default_rng(seed).choice(len(features), _SUBSPACE_ROWS, replace=False)
            )
        ]
    rows = np.asarray(rows, np.float32)
    mean = rows.mean(axis=0)
    rows = rows - mean
    number = min(number, *rows.shape)
    if max(min(rows.shape), 1) <= 1_024:
        small = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
        values, vectors = np.linalg.eigh(small)
        vectors = vectors[:, ::-1][:, :number]
        axes = (
            rows.T @ (vectors / np.sqrt(np.maximum(values[::-1][:number], 1e-12)))
            if len(rows) < rows.shape[1]
            else vectors
        )
    else:
        from sklearn.utils.extmath import randomized_svd

        axes = randomized_svd(rows, number, n_iter=4, random_state=seed)[2].T
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(number)])
    return mean, np.ascontiguousarray(axes * np.where(signs == 0, 1, signs), np.float32)


def _store(path: Path, found: Reduction) -> None:
    about = {name: getattr(found, name) for name in ("method", "seed", "options", "seconds")}
    with files.replacing(path) as aside, aside.open("wb") as file:
        arrays = {name: getattr(found, name) for name in ("places", "mean", "axes", "components")}
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def _stored(path: Path, method: str, num: int) -> Reduction | None:
    if not path.is_file():
        return None
    try:
        # Opened here, since numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            found = Reduction(
                **json.loads(str(held["about"])),
                **{name: held[name] for name in ("places", "mean", "axes", "components")},
            )
    except (
        ValueError,
        KeyError,
        OSError,
        EOFError,
        TypeError,
        zipfile.BadZipFile,
    ):  # damaged: it is computed again
        return None
    return found if found.method == method and found.places.shape == (num, 2) else None
