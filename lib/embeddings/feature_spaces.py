"""Features of all images of a data set by a finished run, a pretrained or an untrained network."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files, hashing, paths
from lib.data import pixel_cache, splits
from lib.data.dataset import Dataset
from lib.data.value_range import Rendering
from lib.embeddings import label_columns
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.models import build, feature_cache, heads, predictor, serialization
from lib.runs import record

if TYPE_CHECKING:
    import keras  # imported by functions, after lib.models has loaded the backend quietly

    from lib.batch.dask_executor import Executor

INDEX = "index.json"
PART_SIZE = 2000
_BATCH = 64


@dataclass(frozen=True)
class Space:
    """Features of images by one network: float16 (n, d), memory-mapped, in the rows of the
    `Origin`.

    `name` is one of `map_record.TITLES`; `folder` holds the features, their index and their maps.
    """

    name: str
    features: np.ndarray
    folder: Path
    layer: str

    @property
    def maps(self) -> Path:
        """The folder of the maps of this space."""
        return self.folder / "maps"


@dataclass(frozen=True)
class Origin:
    """A network, and the images with what is known about them.

    `table` has one row an image: `path`, `split` (missing outside the split), `group`, the label
    columns, and for a trained network `predicted`, `confidence` and `verdict`. `model_path` is None
    for a network that no run trained.
    """

    model: keras.Model
    name: str
    table: pd.DataFrame
    images: np.ndarray
    images_key: str
    target: str
    parameters: dict[str, Any]
    model_path: Path | None


def load_run(
    dataset: Dataset, *, study: str, trained: str, limit: int = 0, seed: int = 0
) -> Origin:
    """Returns the network of a finished training and the data set's images.

    Args:
        dataset: the images; it may differ from the data set that the network was trained on.
        study: a folder in `logs/`.
        trained: the training as `unit`, `stage/unit` or `study/stage/unit`.
        limit: largest number of images, drawn by `seed`; 0 uses all.
        seed: of the limit.

    Raises:
        DarkroomError: there is no such finished training.
    """
    study, stage, unit = _place(study, trained)
    folder = paths.run(study, stage, unit)
    model_path = paths.checkpoint(study, stage, unit) / "model.keras"
    if record.result(folder) is None or not model_path.is_file():
        finished = (paths.logs() / study).glob(f"*/*/{record.PREDICTIONS}")
        names = sorted(path.parent.name for path in finished)
        raise DarkroomError(
            f"There is no finished training {study}/{stage}/{unit} with its model. Finished in "
            f"{study}: {', '.join(names) or 'none'}."
        )
    parameters, model = record.parameters(folder), serialization.load(model_path)
    predicted = predictions.read(folder / record.PREDICTIONS)
    known = _prediction_columns(predicted).set_index("path")
    fit = parameters.get("resize", "stretch")
    table, images, key = _images(dataset, model, known.index, fit=fit, limit=limit, seed=seed)
    for name in known.columns:
        table[name] = table["path"].map(known[name])
    target = predicted.target.partition(":")[0]
    return Origin(model, "trained", table, images, key, target, parameters, model_path)


def load_backbone(
    dataset: Dataset,
    *,
    architecture: str,
    image_side: int,
    weights: str = "imagenet",
    target: str = "label",
    limit: int = 0,
    seed: int = 0,
) -> Origin:
    """Returns a pretrained or untrained network and the images, with a grouped split."""
    import keras

    split = splits.ensure(dataset, seed=seed, target=target)
    keras.utils.set_random_seed(seed)
    model = build(
        architecture, class_names=split.class_names, image_side=image_side, weights=weights
    )
    known = split.frame.set_index("path")["split"]
    table, images, key = _images(dataset, model, known.index, fit="stretch", limit=limit, seed=seed)
    table["split"] = table["path"].map(known)
    name = "untrained" if weights == "none" or architecture == "custom" else "frozen"
    parameters = {"architecture": architecture, "image_side": image_side, "weights": weights}
    return Origin(model, name, table, images, key, target.partition(":")[0], parameters, None)


def features(origin: Origin, dataset: Dataset, *, layer: str = "pool") -> Space:
    """Returns the features of a network's `layer` for all images, computed once and then read."""
    return _space(origin, dataset, origin.model, origin.name, layer)


def load_before(
    origin: Origin, dataset: Dataset, *, which: str, layer: str = "pool", seed: int = 0
) -> Space:
    """Returns the features of the same images in the network before training.

    `which` is `untrained` (weights drawn by the seed) or `frozen` (the pretrained weights that the
    run began with, else ImageNet's). Raises DarkroomError if there is no such network, or it is the
    network itself.
    """
    import keras

    architecture = origin.parameters.get("architecture", "custom")
    if which == "untrained":
        keras.utils.set_random_seed(seed)
        model = keras.models.clone_model(origin.model)
    elif which == "frozen" and architecture != "custom":
        alpha, weights = (origin.parameters.get(name) for name in ("alpha", "weights"))
        options = {"alpha": alpha} if alpha not in (None, 1.0) else {}
        options["weights"] = weights if weights not in (None, "none") else "imagenet"
        side = origin.model.input_shape[1]
        model = build(architecture, class_names=["a", "b"], image_side=side, **options)
    else:
        raise DarkroomError(
            "`reference` must be untrained, frozen (for a network that has ImageNet weights) or "
            f"none. Received: {which!r} for {architecture}."
        )
    if which == origin.name:
        raise DarkroomError(f"The network itself is {which}; choose another `reference`, or none.")
    return _space(origin, dataset, model, which, layer)


def compute(
    dataset: Dataset,
    path: Path,
    *,
    executor: Executor,
    layer: str = "pool",
    dtype: str = "float16",
    part_size: int = PART_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Computes the features of all accepted images by an executor; returns their folder.

    The features are float (n, d) in `features.npy`, in the order of the images' paths, where
    `features` and the site find them. An interrupted pass continues.

    Args:
        dataset: a cleaned data set.
        path: of a saved network.
        executor: computes the parts; workers must see the data set's folder.
        layer: the layer whose output is taken; maps are averaged over height and width.
        dtype: float16, as 8_features reads them, or float32.
        part_size: images in a part.
        progress: called with (images done, images in all).
    """
    if path.suffix != ".keras":
        raise DarkroomError(f"Only a network has features. Received: {path.name}.")
    network = serialization.load(path)
    side, resize = network.input_shape[1:3], _resize(network)
    rows = dataset.accepted().sort_values("path", ignore_index=True)
    images_key = pixel_cache.key_of(rows, side=side, fit=resize)
    key = feature_cache.key(network, images_key=images_key, layer=layer, dtype=dtype)
    target = dataset.folder / "features" / key
    if (target / "features.npy").is_file():
        return target
    store, names = target.with_name(f"{target.name}-parts"), list(rows["path"])
    parts = [names[start : start + part_size] for start in range(0, len(names), part_size)]
    rendering = json.dumps(dataset.rendering.as_json())
    common = (str(dataset.raw.resolve()), str(path.resolve()), layer, dtype, rendering)
    width = predictor.up_to(network, layer).output_shape[-1]
    with files.directory(target) as aside:
        whole = np.lib.format.open_memmap(
            aside / "features.npy", mode="w+", dtype=dtype, shape=(len(rows), width)
        )
        for index, values in executor.map(compute_part, parts, *common, folder=store):
            start = index * part_size
            whole[start : start + len(values)] = values
            if progress is not None:
                progress(start + len(values), len(rows))
        whole.flush()
        del whole  # Windows renames no folder with a mapped file
        files.write_json(aside / "engine.json", {"engine": "keras", "images": images_key})
    shutil.rmtree(store, ignore_errors=True)
    return target


def compute_part(
    part: Sequence[str], raw: str, path: str, layer: str, dtype: str, rendering: str = "{}"
) -> np.ndarray:
    """Returns the features of a part's images, (n, d); runs on a worker."""
    network = _load_cached(path)
    side, resize, batches = network.input_shape[1:3], _resize(network), []
    rendered = Rendering.from_json(json.loads(rendering))
    for start in range(0, len(part), _BATCH):
        names = part[start : start + _BATCH]
        how = {"side": side, "fit": resize, "rendering": rendered}
        images = pixel_cache.decode_few(Path(raw), names, **how)
        wanted = {"layer": layer, "batch_size": _BATCH, "dtype": dtype}
        batches.append(predictor.features(network, images, **wanted))
    return np.concatenate(batches)


def _resize(network: keras.Model) -> str:
    return (heads.of(network).card or {}).get("parameters", {}).get("resize", "stretch")


@functools.lru_cache(maxsize=1)
def _load_cached(path: str) -> keras.Model:
    return serialization.load(Path(path))


def _space(origin: Origin, dataset: Dataset, model: keras.Model, name: str, layer: str) -> Space:
    folder = dataset.folder / "features"
    about = {"images_key": origin.images_key, "layer": layer, "dtype": "float16"}
    values = feature_cache.ensure(model, origin.images, folder=folder, **about)
    own = Path(values.filename).parent  # its name also has the engine that computed them
    if not (own / INDEX).is_file():
        index = {"paths": list(origin.table["path"]), "layer": layer}
        files.write_json(own / INDEX, {**index, "network": model.name, "space": name})
    return Space(name, values, own, layer)


def _place(study: str, trained: str) -> tuple[str, str, str]:
    parts = trained.strip("/").split("/")
    if not 1 <= len(parts) <= 3:
        raise DarkroomError(
            "`trained` names a training as unit, stage/unit or study/stage/unit. Received: "
            f"{trained!r}."
        )
    return (study, "train", *parts)[-3:] if len(parts) == 1 else (study, *parts)[-3:]


def _images(
    dataset: Dataset, model: keras.Model, divided: pd.Index, *, fit: str, limit: int, seed: int
) -> tuple[pd.DataFrame, np.ndarray, str]:
    decoded = pixel_cache.cache(dataset, side=model.input_shape[1], fit=fit)
    manifest = dataset.accepted().sort_values("path", ignore_index=True)
    attributes = [name for name in manifest.columns if name.startswith("attr_")]
    table = manifest[["path", "group", "label", *attributes]].copy()
    images, key = decoded.array, decoded.key
    if 0 < limit < len(table):
        order = np.random.default_rng(seed).permutation(len(table))
        # Images of the split come first, since only they can be judged.
        outside = ~table["path"].isin(divided).to_numpy()
        rows = np.sort(order[np.argsort(outside[order], kind="stable")][:limit])
        table = table.iloc[rows].reset_index(drop=True)
        images, key = decoded.array[rows], f"{key}-{limit}-{hashing.digest(*table['path'])}"
    for name in label_columns.names(table):
        table[name] = table[name].astype("string") if table[name].dtype == object else table[name]
    return table, images, key


def _prediction_columns(predicted: predictions.Predictions) -> pd.DataFrame:
    known = predicted.frame[["path", "split"]].copy()
    if predicted.kind == "multilabel":
        return known
    known["predicted"] = np.asarray(predicted.class_names, dtype=object)[predicted.predicted]
    known["confidence"] = predicted.confidence
    known["verdict"] = np.where(predicted.predicted == predicted.truth, "right", "wrong")
    return known
