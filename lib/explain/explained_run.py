"""A finished run to be explained: its model, its predictions, and its images as the model sees
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from lib import paths, runs
from lib.baselines import model as thumbnails
from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError, suggest
from lib.evaluation import multilabel
from lib.evaluation import predictions as tables
from lib.evaluation.predictions import Predictions
from lib.explain import model_wrapper as asked
from lib.explain.model_wrapper import BlackBox
from lib.models import serialization
from lib.runs import record

GROUPS = ("surely right", "surely wrong", "least certain")


@dataclass(frozen=True)
class Subject:
    """One run's model with its predictions; `decoded` holds the data set's images at the model's
    side.
    """

    unit: str
    model: keras.Model | BlackBox
    predictions: Predictions
    decoded: pixel_cache.Pixels

    @property
    def test(self) -> Predictions:
        """The predictions of the test split."""
        return self.predictions.split("test")

    @property
    def is_network(self) -> bool:
        """Whether the model has gradients; a thumbnail model has none."""
        return isinstance(self.model, keras.Model)

    def about(self) -> str:
        """Returns what is explained, in words."""
        name = self.model.name if self.is_network else self.model.kind
        height, width = asked.of(self.model).size
        return f"{self.unit}: {name} at {height} x {width} px, {len(self.test):,} test images"

    def images(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Returns uint8 (n, height, width, 3): the test images in these rows of the predictions."""
        return np.asarray(
            self.decoded.array[self.decoded.rows_of(self.test.frame["path"].iloc[rows])]
        )

    def classes(self, places: np.ndarray) -> np.ndarray:
        """Returns int32 (n,): the model's own number of each class, given by its place in the
        predictions' class names.
        """
        names = asked.of(self.model).class_names
        return np.array([names.index(name) for name in self.test.class_names], np.int32)[places]

    def chosen(self, num: int) -> pd.DataFrame:
        """Returns `num` rows of test images a group of `GROUPS`: most confident right, most
        confident wrong, smallest margin.

        Columns: `group`, `row` (in the predictions), `label`, `predicted`, `confidence`. A group
            has fewer where there are no more; no image stands in two.
        """
        right = self.test.predicted == self.test.truth
        ordered = np.sort(self.test.probabilities, axis=1)
        margin, sure = ordered[:, -1] - ordered[:, -2], self.test.confidence
        places = np.arange(len(right))
        picked = [places[right][np.argsort(-sure[right], kind="stable")][:num]]
        picked.append(places[~right][np.argsort(-sure[~right], kind="stable")][:num])
        left = np.setdiff1d(places, np.concatenate(picked))
        picked.append(left[np.argsort(margin[left], kind="stable")][:num])
        return self.table(np.concatenate(picked), np.repeat(GROUPS, [len(each) for each in picked]))

    def table(self, rows: np.ndarray, group: object = "") -> pd.DataFrame:
        """Returns these rows with what the model said of them, in the columns of `chosen`."""
        names = np.asarray(self.test.class_names, dtype=object)
        return pd.DataFrame(
            {
                "group": group,
                "row": rows,
                "label": self.test.frame["label"].to_numpy()[rows],
                "predicted": names[self.test.predicted[rows]],
                "confidence": self.test.confidence[rows],
            }
        )

    def spread(self, num: int, *, seed: int = 0) -> np.ndarray:
        """Returns the rows of at most `num` test images, drawn without regard to class or success."""
        rng = np.random.default_rng(seed)
        return np.sort(rng.permutation(len(self.test))[:num])


def of_run(study: str, dataset: Dataset, *, stage: str = "train", unit: str = "") -> Subject:
    """Returns a finished run of a study; without a unit, the one of the highest validation accuracy
    on this data set.

    Raises DarkroomError where the study has no finished run of that name, or the run kept no model,
    was of other data or gives an image several classes.
    """
    folder = paths.logs() / study / stage
    there = {
        path.parent.name: runs.read(path.parent)
        for path in sorted(folder.glob("[!.]*/result.json"))
    }
    if unit and unit not in there:
        raise DarkroomError(
            f"{study}/{stage} has no finished run {unit!r}. It has: "
            f"{', '.join(there) or 'none'}.{suggest(unit, list(there))}"
        )
    if unit:
        _check(f"{study}/{stage}/{unit}", there[unit], dataset)
    here = {name: each for name, each in there.items() if _data(each, dataset) == dataset.name}
    fitting = {name: each for name, each in here.items() if not multilabel.is_of(each)}
    if not fitting:
        raise DarkroomError(
            f"The study {study!r} has no finished run in {folder} that names one class of the "
            f"images of {dataset.name!r}. "
            "Run 3_train first."
        )
    unit = unit or max(
        fitting, key=lambda name: fitting[name].get("metrics", {}).get("val_accuracy", -1.0)
    )
    model = _model(paths.checkpoint(study, stage, unit))
    fit = there[unit]["key"]["parameters"].get("resize", "stretch")
    decoded = pixel_cache.cache(dataset, side=asked.of(model).size, fit=fit)
    return Subject(unit, model, tables.read(folder / unit / record.PREDICTIONS), decoded)


def _check(name: str, result: Mapping[str, Any], dataset: Dataset) -> None:
    if (data := _data(result, dataset)) != dataset.name:
        raise DarkroomError(
            f"{name} was trained on the data set {data!r}. Received: data = {dataset.name!r}."
        )
    if multilabel.is_of(result):
        raise DarkroomError(
            f"{name} gives an image several classes; a map explains the one class that a model "
            "names."
        )


def _data(result: Mapping[str, Any], dataset: Dataset) -> str:
    return result.get("data") or dataset.name


def _model(folder: Path) -> keras.Model | BlackBox:
    thumbnail = folder / thumbnails.NAME
    return (
        thumbnails.load(thumbnail)
        if thumbnail.is_file()
        else serialization.load(folder / "model.keras")
    )
