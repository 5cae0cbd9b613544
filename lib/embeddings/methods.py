"""The ways from principal components to a map: what each library is asked, and how each takes new
images.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lib.errors import DarkroomError

COMPONENTS = 50

Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, seconds left)."""


class Map(Protocol):
    """What placing new images asks of a finished map."""

    places: np.ndarray
    components: np.ndarray
    seed: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One way to a map. `title` is for people; `fit` takes (components, seed, options, tell) and
    returns (n, 2).
    """

    title: str
    fit: Callable[..., np.ndarray]
    place: Callable[..., np.ndarray] | None
    components: int = COMPONENTS
    options: dict[str, Any] = field(default_factory=dict)


def _pca(components: np.ndarray, seed: int, options: dict[str, Any], tell: Progress) -> np.ndarray:
    tell(1, 1, 0.0)
    return components


def _pca_place(map_: Map, new: np.ndarray) -> np.ndarray:
    return new


def _tsne(components: np.ndarray, seed: int, options: dict[str, Any], tell: Progress) -> np.ndarray:
    import openTSNE

    began = time.perf_counter()
    early, late = 250, 500

    def step(iteration: int, error: float, embedding: Any) -> None:
        done = iteration + (early if step.phase else 0)
        tell(done, early + late, (time.perf_counter() - began) / done * (early + late - done))

    step.phase = 0
    affinities = _affinities(components, seed, options)
    start = openTSNE.initialization.rescale(components[:, :2].astype(np.float64))
    embedding = openTSNE.TSNEEmbedding(
        start,
        affinities,
        negative_gradient_method="auto" if len(components) > 4_000 else "bh",
        n_jobs=_cores(),
        random_state=seed,
        callbacks=step,
        callbacks_every_iters=25,
    )
    embedding = embedding.optimize(early, exaggeration=12, momentum=0.5)
    step.phase = 1
    return np.asarray(embedding.optimize(late, momentum=0.8))


def _affinities(components: np.ndarray, seed: int, options: dict[str, Any]) -> Any:
    import openTSNE

    perplexity = min(options["perplexity"], (len(components) - 1) / 3)
    return openTSNE.affinity.PerplexityBasedNN(
        np.asarray(components, np.float64),
        perplexity=perplexity,
        n_jobs=_cores(),
        random_state=seed,
        method="exact" if len(components) <= 1_000 else "auto",
    )


def _tsne_place(map_: Map, new: np.ndarray) -> np.ndarray:
    import openTSNE

    affinities = _affinities(map_.components, map_.seed, map_.options)
    held = openTSNE.TSNEEmbedding(
        np.asarray(map_.places, np.float64),
        affinities,
        n_jobs=_cores(),
        random_state=map_.seed,
        negative_gradient_method="bh",
    )
    return np.asarray(
        held.transform(np.asarray(new, np.float64), perplexity=min(5, (len(map_.places) - 1) / 3))
    )


def _umap(components: np.ndarray, seed: int, options: dict[str, Any], tell: Progress) -> np.ndarray:
    with _told(tell) as shown:
        return _umap_model(
            len(components), seed, options, init=components[:, :2], shown=shown
        ).fit_transform(components)


def _umap_place(map_: Map, new: np.ndarray) -> np.ndarray:
    # No epochs: the map is taken as it is, and only the search tree for new neighbours is made
    # again.
    model = _umap_model(len(map_.places), map_.seed, map_.options, init=map_.places, n_epochs=0)
    model.fit(map_.components)
    model.embedding_ = np.array(map_.places)
    model.n_epochs = 100
    return model.transform(new)


def _umap_model(
    num: int,
    seed: int,
    options: dict[str, Any],
    *,
    init: np.ndarray,
    shown: Any = None,
    **more: Any,
) -> Any:
    umap = _import_umap()
    start = np.array(init, np.float32)
    if "n_epochs" not in more:
        start = 10 * (start - start.min(axis=0)) / np.maximum(np.ptp(start, axis=0), 1e-9)
        start += (
            np.random.default_rng(seed).normal(0, 1e-4, start.shape).astype(np.float32)
        )  # equal images must not coincide
    verbose = (
        {"verbose": True, "tqdm_kwds": {"file": shown, "mininterval": 0.5}}
        if shown is not None
        else {}
    )
    return umap.UMAP(
        n_neighbors=min(options["neighbours"], num - 1),
        min_dist=options["min_dist"],
        init=start,
        random_state=seed,
        n_jobs=1,
        low_memory=num > 50_000,
        **verbose,
        **more,
    )


def _import_umap() -> Any:
    """Imports UMAP without its parametric part, which would load TensorFlow for seconds, or warn
    that there is none.
    """
    absent = "tensorflow" not in sys.modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        if absent:
            sys.modules["tensorflow"] = None  # an import of it fails at once
        try:
            import umap
            import umap.layouts
            from tqdm import tqdm
        finally:
            if absent:
                del sys.modules["tensorflow"]
    # in a notebook its own draws a widget, whatever file it is given, and tells nobody else
    umap.layouts.tqdm = tqdm
    return umap


def _pacmap(
    components: np.ndarray, seed: int, options: dict[str, Any], tell: Progress
) -> np.ndarray:
    try:
        import pacmap
    except ImportError:
        raise DarkroomError(
            "The method 'pacmap' needs a package that is not installed. Install it with: python -m "
            "pip install pacmap==0.9.1"
        ) from None
    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns of every seed
    with contextlib.redirect_stdout(io.StringIO()):
        model = pacmap.PaCMAP(
            n_components=2, n_neighbors=options["neighbours"], random_state=seed, apply_pca=False
        )
        found = model.fit_transform(components, init="pca")
    tell(1, 1, 0.0)
    return found


class _Bar(io.StringIO):
    """What UMAP writes its progress bar to; it offers no other way to hear how far it is."""

    def __init__(self, tell: Progress) -> None:
        super().__init__()
        self.tell, self.began = tell, time.perf_counter()

    def write(self, text: str) -> int:
        if found := re.search(r"(\d+)/(\d+)", text):
            done, total = int(found[1]), int(found[2])
            if done:
                self.tell(done, total, (time.perf_counter() - self.began) / done * (total - done))
        return len(text)


@contextlib.contextmanager
def _told(tell: Progress) -> Iterator[_Bar]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield _Bar(tell)


def _cores() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


METHODS = {
    "pca": Method("PCA", _pca, _pca_place, components=2),
    "tsne": Method("t-SNE", _tsne, _tsne_place, options={"perplexity": 30}),
    "umap": Method("UMAP", _umap, _umap_place, options={"neighbours": 15, "min_dist": 0.1}),
    "pca_tsne": Method(
        "PCA to 30, then t-SNE", _tsne, _tsne_place, components=30, options={"perplexity": 30}
    ),
    "pacmap": Method("PaCMAP", _pacmap, None, options={"neighbours": 10}),
}
"""The ways to a map, by name; PaCMAP where its package is installed."""
