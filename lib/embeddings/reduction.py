"""Dimensionality reduction of features to a map in two dimensions, and its quality."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lib import files, hashing, processes
from lib.errors import DarkroomError, check_choice

COMPONENTS = 50


@dataclass(frozen=True)
class Method:
    """One method; `fit` takes (components, seed, options) and returns (n, 2).

    `place` takes a finished map and the components of new images; None if the method cannot.
    `needs` is an optional package: the names to import and to install it by.
    """

    title: str
    fit: Callable[..., np.ndarray]
    place: Callable[..., np.ndarray] | None
    components: int = COMPONENTS
    options: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, str] | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the package that the method needs is installed."""
        return self.needs is None or importlib.util.find_spec(self.needs[0]) is not None


def _pca(components: np.ndarray, seed: int, options: dict[str, Any]) -> np.ndarray:
    return components


def _pca_place(reduction: Reduction, new: np.ndarray) -> np.ndarray:
    return new


def _tsne(components: np.ndarray, seed: int, options: dict[str, Any]) -> np.ndarray:
    import openTSNE

    tsne = openTSNE.TSNE(
        early_exaggeration=12,
        initial_momentum=0.5,
        negative_gradient_method="auto" if len(components) > 4_000 else "bh",
        n_jobs=processes.num_cores(),
        random_state=seed,
    )
    start = openTSNE.initialization.rescale(components[:, :2].astype(np.float64))
    return np.asarray(
        tsne.fit(affinities=_affinities(components, seed, options), initialization=start)
    )


def _affinities(components: np.ndarray, seed: int, options: dict[str, Any]) -> Any:
    import openTSNE

    return openTSNE.affinity.PerplexityBasedNN(
        np.asarray(components, np.float64),
        perplexity=min(options["perplexity"], (len(components) - 1) / 3),
        n_jobs=processes.num_cores(),
        random_state=seed,
        method="exact" if len(components) <= 1_000 else "auto",
    )


def _tsne_place(reduction: Reduction, new: np.ndarray) -> np.ndarray:
    import openTSNE

    held = openTSNE.TSNEEmbedding(
        np.asarray(reduction.places, np.float64),
        _affinities(reduction.components, reduction.seed, reduction.options),
        n_jobs=processes.num_cores(),
        random_state=reduction.seed,
        negative_gradient_method="bh",
    )
    perplexity = min(5, (len(reduction.places) - 1) / 3)
    return np.asarray(held.transform(np.asarray(new, np.float64), perplexity=perplexity))


def _umap(components: np.ndarray, seed: int, options: dict[str, Any]) -> np.ndarray:
    start = np.array(components[:, :2], np.float32)
    start = 10 * (start - start.min(axis=0)) / np.maximum(np.ptp(start, axis=0), 1e-9)
    # Equal images must not coincide.
    start += np.random.default_rng(seed).normal(0, 1e-4, start.shape).astype(np.float32)
    return _umap_model(len(components), seed, options, init=start).fit_transform(components)


def _umap_place(reduction: Reduction, new: np.ndarray) -> np.ndarray:
    # No epochs: the map is taken as it is, and only the search tree for new neighbours is rebuilt.
    places = np.array(reduction.places, np.float32)
    model = _umap_model(len(places), reduction.seed, reduction.options, init=places, n_epochs=0)
    model.fit(reduction.components)
    model.embedding_ = places
    model.n_epochs = 100
    return model.transform(new)


def _umap_model(num: int, seed: int, options: dict[str, Any], **more: Any) -> Any:
    """UMAP without its parametric part, which loads TensorFlow or warns that it is missing."""
    absent = "tensorflow" not in sys.modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        if absent:
            sys.modules["tensorflow"] = None  # an import of it fails at once
        try:
            import umap
        finally:
            if absent:
                del sys.modules["tensorflow"]
    return umap.UMAP(
        n_neighbors=min(options["neighbours"], num - 1),
        min_dist=options["min_dist"],
        random_state=seed,
        n_jobs=1,
        low_memory=num > 50_000,
        **more,
    )


def _pacmap(components: np.ndarray, seed: int, options: dict[str, Any]) -> np.ndarray:
    import pacmap

    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns of every seed
    options = {"n_neighbors": options["neighbours"], "random_state": seed, "apply_pca": False}
    with contextlib.redirect_stdout(io.StringIO()):
        return pacmap.PaCMAP(n_components=2, **options).fit_transform(components, init="pca")


METHODS = {
    "pca": Method("PCA", _pca, _pca_place, components=2),
    "tsne": Method("t-SNE", _tsne, _tsne_place, options={"perplexity": 30}),
    "umap": Method(
        "UMAP",
        _umap,
        _umap_place,
        options={"neighbours": 15, "min_dist": 0.1},
        needs=("umap", "umap-learn"),
    ),
    "pca_tsne": Method(
        "PCA to 30, then t-SNE", _tsne, _tsne_place, components=30, options={"perplexity": 30}
    ),
    "pacmap": Method(
        "PaCMAP", _pacmap, None, options={"neighbours": 10}, needs=("pacmap", "pacmap")
    ),
}


def installed(methods: Sequence[str]) -> list[str]:
    """Returns those of the methods whose package is installed, and prints which are left out.

    Raises DarkroomError if none is left.
    """
    missing = [METHODS[name] for name in methods if not METHODS[name].is_installed]
    for method in missing:
        print(f"Left out: {method.title}. It needs: python -m pip install {method.needs[1]}")
    if len(missing) == len(methods):
        raise DarkroomError("`map_methods` has no method that is installed. Add 'pca' or 'tsne'.")
    return [name for name in dict.fromkeys(methods) if METHODS[name].is_installed]


FEWEST = 12
"""The least number of images of a map."""
_ROWS = 8_192  # at a time, so that half precision is not widened all at once
_SUBSPACE_ROWS = 20_000  # rows that principal components are computed from; of more, a seeded draw


@dataclass(frozen=True)
class Reduction:
    """A map: `places` float32 (n, 2) in the order of the features, and what places others."""

    method: str
    places: np.ndarray
    seed: int
    options: dict[str, Any]
    seconds: float
    mean: np.ndarray
    axes: np.ndarray
    components: np.ndarray

    def place(self, features: np.ndarray) -> np.ndarray:
        """Returns the places of new images (n, d) on this map, float32 (n, 2); the others stay.

        Raises DarkroomError for a method that cannot, and for features of another length.
        """
        method = METHODS[self.method]
        if method.place is None:
            able = ", ".join(name for name, known in METHODS.items() if known.place)
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
    **options: Any,
) -> Reduction:
    """Returns the map of a feature space by a method of `METHODS`; equal seeds give equal maps.

    Args:
        features: (n, d), n at least 12; may be memory-mapped and float16.
        method: a name in `METHODS`.
        seed: of the method.
        folder: a cache for maps of exactly these features.
        options: of the method: `perplexity` of t-SNE; `neighbours` and `min_dist` of UMAP.

    Raises:
        DarkroomError: an unknown method or option, too few images, or values that are not finite.
    """
    options = _checked(features, method, options)
    if folder is None:
        return _computed(features, method, seed, options)
    name = f"{method}-{hashing.digest(json.dumps([seed, options], sort_keys=True))}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        reduction = _stored(folder / name, method, len(features))
        if reduction is None:
            reduction = _computed(features, method, seed, options)
            _store(folder / name, reduction)
    return reduction


def _checked(features: np.ndarray, method: str, options: dict[str, Any]) -> dict[str, Any]:
    check_choice("method", method, METHODS)
    if not METHODS[method].is_installed:
        raise DarkroomError(
            f"The method {method!r} needs a package that is not installed. Install it with: python "
            f"-m pip install {METHODS[method].needs[1]}"
        )
    if features.ndim != 2 or len(features) < FEWEST:
        raise DarkroomError(
            f"A map takes features (n, d) of at least {FEWEST} images. Received shape: "
            f"{features.shape}."
        )
    for start in range(0, len(features), _ROWS):
        if not np.isfinite(features[start : start + _ROWS]).all():
            raise DarkroomError(
                "A map takes finite features. Received NaN or infinity; did the network's training "
                "diverge?"
            )
    known = METHODS[method].options
    for name in options:
        check_choice("option", name, known, where=method)
    return known | options


def _computed(features: np.ndarray, method: str, seed: int, options: dict[str, Any]) -> Reduction:
    began = time.perf_counter()
    mean, axes = principal(features, METHODS[method].components, seed=seed)
    components = np.concatenate(
        [
            (np.asarray(features[start : start + _ROWS], np.float32) - mean) @ axes
            for start in range(0, len(features), _ROWS)
        ]
    )
    places = METHODS[method].fit(components, seed, options)
    seconds = round(time.perf_counter() - began, 2)
    return Reduction(
        method, np.asarray(places, np.float32), seed, options, seconds, mean, axes, components
    )


def principal(features: np.ndarray, number: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (d,) and the first `number` principal axes (d, number), widest first."""
    from sklearn.decomposition import PCA

    rows = features
    if len(features) > _SUBSPACE_ROWS:
        chosen = np.random.default_rng(seed).choice(len(features), _SUBSPACE_ROWS, replace=False)
        rows = features[np.sort(chosen)]
    rows = np.asarray(rows, np.float32)
    solver = "covariance_eigh" if rows.shape[1] <= 1_024 else "auto"
    pca = PCA(min(number, *rows.shape), svd_solver=solver, random_state=seed).fit(rows)
    return pca.mean_, np.ascontiguousarray(pca.components_.T, np.float32)


def _store(path: Path, reduction: Reduction) -> None:
    about = {name: getattr(reduction, name) for name in ("method", "seed", "options", "seconds")}
    with files.replacing(path) as aside, aside.open("wb") as file:
        arrays = {
            name: getattr(reduction, name) for name in ("places", "mean", "axes", "components")
        }
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def _stored(path: Path, method: str, num: int) -> Reduction | None:
    if not path.is_file():
        return None
    try:
        # Opened here, since numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            reduction = Reduction(
                **json.loads(str(arrays["about"])),
                **{name: arrays[name] for name in ("places", "mean", "axes", "components")},
            )
    except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile):
        return None  # damaged: it is computed again
    return reduction if reduction.method == method and reduction.places.shape == (num, 2) else None


NEIGHBOURS = 10
MEASURES = ("trustworthiness", "continuity", "preservation")
_LEVEL = 0.05
_MAX_JUDGED = 1_000  # images, each compared with all others
_ROWS_JUDGED = 128  # of them at once, so that a hundred thousand images need 200 MB


@dataclass(frozen=True)
class Quality:
    """The measures of each image in `judged` (rows), 1 for a perfect map.

    Trustworthiness falls if distant images become neighbours on the map, continuity if neighbours
    are separated; preservation is the share of nearest neighbours that remain neighbours.
    """

    trustworthiness: np.ndarray
    continuity: np.ndarray
    preservation: np.ndarray
    judged: np.ndarray

    def means(self) -> dict[str, float]:
        """Returns the mean of each measure, by name."""
        return {name: float(getattr(self, name).mean()) for name in MEASURES}


def measure(
    features: np.ndarray, places: np.ndarray, *, neighbours: int = NEIGHBOURS, seed: int = 0
) -> Quality:
    """Measures a map of n images, `places` (n, 2), against `features` (n, d).

    At most 1,000 images are compared with all others. Raises DarkroomError unless n exceeds 3/2 of
    the neighbours, for which the measures are defined.
    """
    num = len(features)
    if num != len(places) or not 0 < neighbours < (num - 1) * 2 / 3:
        raise DarkroomError(
            f"Measuring a map with {neighbours} neighbours needs more than "
            f"{neighbours * 3 // 2 + 1} images. Received: {num} ({len(places)} places)."
        )
    judged = np.sort(np.random.default_rng(seed).permutation(num)[:_MAX_JUDGED])
    high, low = np.asarray(features, np.float32), np.asarray(places, np.float32)
    norm = 2 / (neighbours * (2 * num - 3 * neighbours - 1))
    parts = []
    for start in range(0, len(judged), _ROWS_JUDGED):
        rows = judged[start : start + _ROWS_JUDGED]
        before, after = _ranks(high, rows), _ranks(low, rows)  # (rows, n), the image itself 0
        near, after_near = before <= neighbours, after <= neighbours
        false = np.where(after_near & ~near, before - neighbours, 0).sum(axis=1)
        lost = np.where(near & ~after_near, after - neighbours, 0).sum(axis=1)
        kept = (near & after_near & (before > 0)).sum(axis=1)
        parts.append((1 - norm * false, 1 - norm * lost, kept / neighbours))
    return Quality(*(np.concatenate(column) for column in zip(*parts, strict=True)), judged)


@dataclass(frozen=True)
class Difference:
    """The mean difference of two maps on the same images, `first` minus `second`, with interval."""

    measure: str
    first: str
    second: str
    value: float
    low: float
    high: float


def compare(qualities: dict[str, Quality], *, first: str, second: str) -> list[Difference]:
    """Returns the difference between two maps of the same images in each measure.

    The 95 % intervals hold for the three measures together (Bonferroni).
    """
    rows = []
    for name in MEASURES:
        difference = getattr(qualities[first], name) - getattr(qualities[second], name)
        draws = np.random.default_rng(0).integers(len(difference), size=(2_000, len(difference)))
        means = difference[draws].mean(axis=1)
        level = _LEVEL / len(MEASURES)
        low, high = np.quantile(means, [level / 2, 1 - level / 2])
        rows.append(
            Difference(name, first, second, float(difference.mean()), float(low), float(high))
        )
    return rows


def _ranks(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rank of every image by distance to each of `rows`, 0 for itself, int32 (rows, n)."""
    distance = (values**2).sum(axis=1) - 2 * values[rows] @ values.T
    distance[np.arange(len(rows)), rows] = -np.inf
    order = distance.argsort(axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(values.shape[0], dtype=np.int32)[None], axis=1)
    return ranks
