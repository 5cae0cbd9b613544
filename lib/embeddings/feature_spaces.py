"""Feature spaces of a data set: what a finished run, a pretrained or an untrained network makes of
every image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files, hashing, paths
from lib.data import pixel_cache, splits
from lib.data.dataset import Dataset
from lib.embeddings import label_columns
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.models import build, feature_cache, serialization
from lib.runs import record

if TYPE_CHECKING:
    import keras  # the functions import it when lib.models has loaded its backend, quietly

INDEX = "index.json"


@dataclass(frozen=True)
class Space:
    """Features of images by one network: float16 (n, d), mapped from disk, row for row the images
    of the `Origin`.

    `name` is one of `record.TITLES`; `folder` holds the features, their index, and the maps made of
    them.
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
    """A network, and the images with all that is known about them.

    `table` has one row an image: `path`, `split` (missing where it is in none), `group`, the label
    columns, and for a trained network `predicted`, `confidence` and `verdict`. `model_path` is the
    saved network's file, None for one that no run trained.
    """

    model: keras.Model
    name: str
    table: pd.DataFrame
    images: np.ndarray
    images_key: str
    target: str
    parameters: dict[str, Any]
    model_path: Path | None


def of_run(dataset: Dataset, *, study: str, trained: str, limit: int = 0, seed: int = 0) -> Origin:
    """Returns the network of a finished training and the data set's images.

    Args:
        dataset: the images; it need not be the set that the network was trained on.
        study: a folder in `logs/`.
        trained: the training as `unit`, `stage/unit` or `study/stage/unit`.
        limit: take at most so many images, drawn by `seed`; 0 takes all.

    Raises:
        DarkroomError: there is no such finished training.
    """
    study, stage, unit = _place(study, trained)
    folder, model_path = (
        paths.run(study, stage, unit),
        paths.checkpoint(study, stage, unit) / "model.keras",
    )
    if record.result(folder) is None or not model_path.is_file():
        done = sorted(
            path.parent.name for path in (paths.logs() / study).glob("*/*/predictions.parquet")
        )
        raise DarkroomError(
            f"There is no finished training {study}/{stage}/{unit} with its model. Finished in "
            f"{study}: "
            f"{', '.join(done) or 'none'}."
        )
    parameters = record.parameters(folder)
    model, found = serialization.load(model_path), predictions.read(folder / record.PREDICTIONS)
    known = _judged(found).set_index("path")
    fit = parameters.get("resize", "stretch")
    table, images, key = _images(dataset, model, known.index, fit=fit, limit=limit, seed=seed)
    for name in known.columns:
        table[name] = table["path"].map(known[name])
    return Origin(
        model, "trained", table, images, key, found.target.partition(":")[0], parameters, model_path
    )


def of_backbone(
    dataset: Dataset,
    *,
    architecture: str,
    image_side: int,
    weights: str = "imagenet",
    target: str = "label",
    limit: int = 0,
    seed: int = 0,
) -> Origin:
    """Returns a network as it comes and the data set's images, divided by a grouped split of the
    seed.
    """
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
    """Returns the features of a network's `layer` for all images, computed at the first call and
    read at every later one.
    """
    return _space(origin, dataset, origin.model, origin.name, layer)


def before(
    origin: Origin, dataset: Dataset, *, which: str, layer: str = "pool", seed: int = 0
) -> Space:
    """Returns the same images in the same network before it was trained.

    `which` is `untrained` (weights drawn by the seed) or `frozen` (ImageNet's). Raises
    DarkroomError where there are none, or where it would be the very same network.
    """
    import keras

    architecture = origin.parameters.get("architecture", "custom")
    if which == "untrained":
        keras.utils.set_random_seed(seed)
        model = keras.models.clone_model(origin.model)
    elif which == "frozen" and architecture != "custom":
        options = {"alpha": origin.parameters["alpha"]} if origin.parameters.get("alpha") else {}
        side = origin.model.input_shape[1]
        model = build(
            architecture, class_names=["a", "b"], image_side=side, weights="imagenet", **options
        )
    else:
        raise DarkroomError(
            "`against` must be untrained, frozen (for a network that has ImageNet weights) or "
            f"none. Received: {which!r} "
            f"for {architecture}."
        )
    if which == origin.name:
        raise DarkroomError(f"The network itself is {which}; choose another `against`, or none.")
    return _space(origin, dataset, model, which, layer)


def _space(origin: Origin, dataset: Dataset, model: keras.Model, name: str, layer: str) -> Space:
    folder = dataset.folder / "features"
    found = feature_cache.ensure(
        model,
        origin.images,
        images_key=origin.images_key,
        folder=folder,
        layer=layer,
        dtype="float16",
    )
    own = Path(found.filename).parent  # its name also tells which engine computed them
    if not (own / INDEX).is_file():
        told = {
            "paths": list(origin.table["path"]),
            "layer": layer,
            "network": model.name,
            "space": name,
        }
        files.write_json(own / INDEX, told)
    return Space(name, found, own, layer)


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
    kept = [
        "path",
        "group",
        "label",
        *(name for name in manifest.columns if name.startswith("attr_")),
    ]
    table, images, key = manifest[kept].copy(), decoded.array, decoded.key
    if 0 < limit < len(table):
        order = np.random.default_rng(seed).permutation(len(table))
        outside = (
            ~table["path"].isin(divided).to_numpy()
        )  # images of the split come first, since only they can be judged
        rows = np.sort(order[np.argsort(outside[order], kind="stable")][:limit])
        table = table.iloc[rows].reset_index(drop=True)
        images, key = decoded.array[rows], f"{key}-{limit}-{hashing.digest(*table['path'])}"
    for name in label_columns.names(table):
        table[name] = table[name].astype("string") if table[name].dtype == object else table[name]
    return table, images, key


def _judged(found: predictions.Predictions) -> pd.DataFrame:
    known = found.frame[["path", "split"]].copy()
    if found.kind == "multilabel":
        return known
    known["predicted"] = np.asarray(found.class_names, dtype=object)[found.predicted]
    known["confidence"] = found.confidence
    known["verdict"] = np.where(found.predicted == found.truth, "right", "wrong")
    return known
