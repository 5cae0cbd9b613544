"""Features of all accepted images by a trained network, computed by the workers of an executor.

They are put where `feature_cache.ensure` looks for them, so that 8_features and the site find them
done.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lib import files
from lib.apply import classifier
from lib.batch.executor import PART_SIZE, Executor, split_parts
from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.data.value_range import Rendering
from lib.errors import DarkroomError
from lib.models import feature_cache, heads, predictor, serialization

_BATCH = 64


def compute(
    executor: Executor,
    dataset: Dataset,
    model: str,
    *,
    layer: str = "pool",
    dtype: str = "float16",
    size: int = PART_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Returns the folder of the features, float (n, d) in `features.npy`, row for row the accepted
    images by path.

    Args:
        model: a finished training such as `wikiart/train/custom-s0`, or the path of a saved
            network. layer: the layer whose values are taken; maps are averaged over height and
            width. dtype: float16, as 8_features reads them, or float32. size: images in a part.
            progress: called with (images done, images in all).
    """
    path, _ = classifier.find(model)
    if path.suffix != ".keras":
        raise DarkroomError(
            f"Only a network has features; {model} is a classic model on thumbnails."
        )
    network = serialization.load(path)
    side, fit = network.input_shape[1:3], _fit(network)
    rows = dataset.accepted().sort_values("path", ignore_index=True)
    images_key = pixel_cache.key_of(rows, side=side, fit=fit)
    target = (
        dataset.folder
        / "features"
        / feature_cache.key(network, images_key=images_key, layer=layer, dtype=dtype)
    )
    if (target / "features.npy").is_file():
        return target
    kept = target.with_name(f"{target.name}-parts")
    parts = split_parts(list(rows["path"]), size=size)
    common = (str(dataset.raw.resolve()), str(path.resolve()), layer, dtype)
    common += (json.dumps(dataset.rendering.as_json()),)
    with files.directory(target) as aside:
        width = predictor.up_to(network, layer).output_shape[-1]
        whole = np.lib.format.open_memmap(
            aside / "features.npy", mode="w+", dtype=dtype, shape=(len(rows), width)
        )
        for index, values in executor.map(of_part, parts, *common, folder=kept):
            whole[index * size : index * size + len(values)] = values
            if progress is not None:
                progress(index * size + len(values), len(rows))
        whole.flush()
        del whole  # Windows renames no folder that holds a mapped file
        files.write_json(aside / "engine.json", {"engine": "keras", "images": images_key})
    shutil.rmtree(kept, ignore_errors=True)
    return target


def of_part(
    part: Sequence[str], raw: str, path: str, layer: str, dtype: str, rendering: str = "{}"
) -> np.ndarray:
    """Returns the features of a part's images, (n, d); runs on a worker."""
    network = _loaded(path)
    found = []
    for start in range(0, len(part), _BATCH):
        images = pixel_cache.decode_few(
            Path(raw),
            part[start : start + _BATCH],
            side=network.input_shape[1:3],
            fit=_fit(network),
            rendering=Rendering.from_json(json.loads(rendering)),
        )
        found.append(
            predictor.features(network, images, layer=layer, batch_size=_BATCH, dtype=dtype)
        )
    return np.concatenate(found)


def _fit(network: object) -> str:
    return (heads.of(network).card or {}).get("parameters", {}).get("resize", "stretch")


@functools.lru_cache(maxsize=1)
def _loaded(path: str) -> object:
    return serialization.load(Path(path))
