"""Features computed once and kept on disk: mapped into memory by every run that shares the network and the images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import filelock
import keras
import numpy as np

from lib import atomic
from lib.models import predictor


def ensure(
    model: keras.Model, images: np.ndarray, *, images_key: str, folder: Path, layer: str = "pool", batch_size: int = 64
) -> np.ndarray:
    """Returns the float32 features (n, d) that `layer` gives for all images, mapped from disk and read-only.

    They are computed at the first call for this network, these images and this layer; several processes may ask at once.

    Args:
        model: a model as `lib.models.build` makes it, not compiled or compiled.
        images: uint8 images (n, side, side, 3), read batch by batch.
        images_key: names the images, as `Pixels.key` does.
        folder: where features are kept; safe to delete.
        layer: the name of the layer.
        batch_size: images a step.
    """
    key = f"{model.name}-{layer}-{_digest(predictor.up_to(model, layer), images_key)}"
    path = folder / f"{key}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f".{key}.lock"):
        if not path.is_file():
            found = predictor.features(model, images, layer=layer, batch_size=batch_size)
            with atomic.replacing(path) as aside, aside.open("wb") as file:
                np.save(file, found)
    return np.load(path, mmap_mode="r")


def _digest(part: keras.Model, images_key: str) -> str:
    hashed = hashlib.sha256(f"{images_key}\0{keras.config.dtype_policy().name}".encode())
    for weight in part.weights:
        values = keras.ops.convert_to_numpy(weight)
        hashed.update(f"{weight.path}\0{values.shape}\0".encode() + np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()[:16]
