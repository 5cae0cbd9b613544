"""Features on disk, computed once for each network and set of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from filelock import FileLock

from lib import files
from lib.models import inference as engines
from lib.models import predictor

_WORTH_AN_EXPORT = 500  # images; an export takes seconds
_NOT_WHAT_A_LAYER_COMPUTES = ("name", "trainable", "seed", "momentum", "dtype_policy")


def ensure(
    model: keras.Model,
    images: np.ndarray,
    *,
    images_key: str,
    folder: Path,
    layer: str = "pool",
    batch_size: int = 64,
    dtype: str = "float32",
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Returns the features of `layer` for every image, (n, d) in `dtype`, memory-mapped and
    read-only.

    They are computed once and kept in `folder`, by the weights and layers up to `layer` and by
    `images_key`, which must name the pixels (a digest). Two processes at once are safe: one
    computes, the other waits.

    `engine` is one of `engines.ENGINES`; beside the features `engine.json` says what computed them,
    of which images, how it agreed with Keras, and by which `scale` they were multiplied to fit into
    half precision. Those that Keras has computed serve every wish but `openvino`.
    """
    by_keras = folder / key(model, images_key=images_key, layer=layer, dtype=dtype)
    chosen = engines.resolve(engine)
    if engine == "auto" and len(images) < _WORTH_AN_EXPORT:
        chosen = "keras"
    path = by_keras if chosen == "keras" else by_keras.with_name(f"{by_keras.name}-{chosen}")
    folder.mkdir(parents=True, exist_ok=True)
    if engine == "auto" and (stored := _stored(by_keras, num_images=len(images))) is not None:
        return stored
    with FileLock(str(path) + ".lock"):
        stored = _stored(path, num_images=len(images))
        if stored is None:
            part = predictor.up_to(model, layer)
            wanted = chosen if chosen == "keras" else engine
            computing = engines.prepare(part, images, engine=wanted)
            shape = (len(images), part.output_shape[-1])
            batches = predictor.feature_batches(
                model, images, layer=layer, batch_size=batch_size, engine=computing
            )
            about = {**computing.facts(), "images": images_key}
            rows = {"shape": shape, "dtype": predictor.feature_dtype(dtype)}
            _write(path, batches, **rows, about=about, progress=progress)
            stored = _stored(path, num_images=len(images))
    return stored


def facts(path: Path) -> dict[str, Any]:
    """Returns what `engine.json` says beside stored features; empty for those that are older than
    it.
    """
    file = path / "engine.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def key(model: keras.Model, *, images_key: str, layer: str = "pool", dtype: str = "float32") -> str:
    """Returns the name under which features are kept: what computes them, on what, by which
    backend.
    """
    digest = hashlib.sha256(f"{images_key}\n{keras.backend.backend()}\n".encode())
    part = predictor.up_to(model, layer)
    for inner in part.layers:
        # Keras numbers some names differently in each process, and freezing changes no output.
        settings = {
            name: value
            for name, value in inner.get_config().items()
            if name not in _NOT_WHAT_A_LAYER_COMPUTES and not name.endswith("_initializer")
        }
        digest.update(
            f"{type(inner).__name__} {json.dumps(settings, sort_keys=True, default=str)}\n".encode()
        )
        for array in inner.get_weights():
            digest.update(np.ascontiguousarray(array))
    layer = "pool" if layer.endswith("_pool") else layer  # of one of joined backbones
    return f"{layer}-{digest.hexdigest()[:20]}{'' if dtype == 'float32' else f'-{dtype}'}"


def _write(
    path: Path,
    batches: Iterable[tuple[int, np.ndarray]],
    *,
    shape: tuple[int, int],
    dtype: np.dtype,
    about: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    limits, scale = np.finfo(dtype), 0.0
    with files.directory(path) as aside:
        rows = np.lib.format.open_memmap(
            aside / "features.npy", mode="w+", dtype=dtype, shape=shape
        )
        for start, values in batches:
            scale = scale or _scale(values, dtype)
            rows[start : start + len(values)] = np.clip(
                scale * values, limits.min, limits.max
            )  # no infinity in half precision
            if progress is not None:
                progress(start + len(values), shape[0])
        rows.flush()
        del rows  # Windows renames no folder that holds a mapped file
        files.write_json(aside / "engine.json", {**about, "scale": scale})


def _scale(values: np.ndarray, dtype: np.dtype) -> float:
    """A power of two that brings features into the reach of half precision, 1 where they are: a
    deep network without training gives values so small that all would be 0. Neighbours,
    directions and shares do not change by it.
    """
    largest = float(np.abs(values).max(initial=0))
    if dtype != np.float16 or largest == 0 or largest >= 2**-6:
        return 1.0
    return 2.0 ** -round(np.log2(largest))


def _stored(path: Path, *, num_images: int) -> np.ndarray | None:
    file = path / "features.npy"
    if not file.is_file():
        return None
    try:
        rows = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):  # cut off or not an array: it is computed again
        return None
    return rows if rows.ndim == 2 and len(rows) == num_images else None
