"""A training step by step (`3_train`), and in one call (`train`)."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import pandas

from lib import hashing, notebooks, parameter_table, paths, runs
from lib.cleaning import clean
from lib.data import pixel_cache, splits
from lib.data.dataset import Dataset
from lib.data.splits import Split
from lib.errors import DarkroomError
from lib.evaluation import comparison, metrics, test_set_log
from lib.evaluation import predictions as tables
from lib.evaluation.comparison import Comparison
from lib.evaluation.predictions import Predictions
from lib.reporting import run_figures
from lib.runs import Run, record
from lib.training import finalise, fit, learning_rate_finder, network, strategies
from lib.training.settings import Settings, effective
from lib.training.strategies import Trained, TrainingData

if TYPE_CHECKING:
    from lib.reporting.style import Drawing


class Session:
    """The steps of one training. Each is done when it is first asked for; `run` says with which
    parameters.

    Example:
        >>> session = Session(pictures, run)
        >>> session.split.counts()
        >>> session.fit()
        >>> session.score()
        >>> session.finish()
    """

    def __init__(self, pictures: Dataset, run: Run) -> None:
        self.pictures, self.run = pictures, run
        self.parameters = effective(run.parameters)
        names = ("seed", "dtype_policy", "devices")
        fit.begin(run=run, **{name: self.parameters[name] for name in names})
        self.settings = Settings.of(self.parameters)
        self._trained: Trained | None = None
        self._predictions: Predictions | None = None

    def active_settings(self) -> dict[str, Any]:
        """Returns the settings that act beside the others, by name."""
        return parameter_table.active(dataclasses.asdict(self.settings), self.parameters)

    @functools.cached_property
    def split(self) -> Split:
        """The division into train, validation and test."""
        split = splits.of_parameters(self.pictures, self.parameters)
        tuned_on = self.parameters.get("tuned_on")
        if tuned_on and not self.parameters["tiny"]:  # a sample has splits of its own
            test_set_log.refuse_tuned(self.pictures.folder, split.id, tuned_on=tuned_on)
        return split

    @functools.cached_property
    def images(self) -> TrainingData:
        """The decoded images of the split."""
        decoded = pixel_cache.cache(
            self.pictures,
            side=self.parameters["image_side"],
            fit=self.parameters["resize"],
            progress=self.run.counting("pictures decoded"),
        )
        return TrainingData(decoded, self.split, self.pictures.folder / "features")

    @functools.cached_property
    def model(self) -> keras.Model:
        """The network; `fit` trains it in place."""
        return network.build(self.parameters, self.images)

    def range_test(self) -> Drawing | None:
        """Returns the figure of a learning-rate range test where the parameter of that name asks
        for one; the weights stay as they are.
        """
        if not self.parameters["range_test"]:
            return None
        tested = learning_rate_finder.try_out(self.model, self.images, settings=self.settings)
        return learning_rate_finder.drawing(tested)

    def fit(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Trained:
        """Trains the model by the strategy of the parameters and returns it with its history."""
        self._trained = strategies.train(
            self.parameters["strategy"],
            self.model,
            self.images,
            settings=self.settings,
            run=self.run,
            fraction=self.parameters["fine_tune_fraction"],
            callbacks=callbacks,
        )
        return self._trained

    def adopt(self, trained: Trained) -> None:
        """Takes a model that was trained elsewhere, on the images of this session's split, as its
        own.
        """
        self._trained = trained

    def score(self) -> Predictions:
        """Opens the test split: scores every image once and returns the table of predictions."""
        self._predictions = finalise.score(
            self._done(self._trained, "fit"), self.images, run=self.run
        )
        return self._predictions

    def finish(self) -> dict[str, Any]:
        """Computes the numbers, saves the model, writes `result.json` and returns what it says."""
        predictions = self._done(self._predictions, "score")
        return finalise.conclude(
            self._trained, self.split, predictions, dataset=self.pictures, run=self.run
        )

    def _done(self, value: Any, step: str) -> Any:
        if value is None:
            raise DarkroomError(
                f"This training has no result of `{step}` yet. Call {step}() first."
            )
        return value


class TrainedRun:
    """A finished training: its result, its predictions and its model, read from its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.result = record.read(self.folder)

    @property
    def name(self) -> str:
        """`<study>/<stage>/<run>`, as `apply.load` and `darkroom apply` take it."""
        return "/".join(self.folder.parts[-3:])

    @functools.cached_property
    def predictions(self) -> Predictions:
        """The table of predictions, of train, validation and test."""
        return tables.read(self.folder / record.PREDICTIONS)

    @functools.cached_property
    def history(self) -> pandas.DataFrame:
        """One row an epoch: `epoch`, `loss`, `accuracy`, `val_loss`, `val_accuracy`,
        `learning_rate`, `seconds`.
        """
        return pandas.read_csv(self.folder / record.HISTORY)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the test split by name, with intervals (`accuracy_low`); of the others
        with `train_`, `val_`.
        """
        return self.result["metrics"]

    @property
    def split_counts(self) -> pandas.DataFrame:
        """Images of each class in train, validation and test."""
        return pandas.DataFrame(self.result["split_counts"])

    def compare(self, others: Sequence[TrainedRun], **options: Any) -> Comparison:
        """Returns the comparison with other runs, see `evaluation.compare`."""
        return comparison.compare([self, *others], **options)

    def summary(self) -> str:
        """Returns the result in words: accuracy and kappa with their intervals, the kept epoch, and
        what was flagged.
        """
        return finalise.sentence(self.result)

    def confusion_matrix(self, split: str = "test") -> pandas.DataFrame:
        """Returns the confusion matrix of a split: rows are the truth, columns the prediction."""
        table = self.predictions.split(split)
        names = list(table.class_names)
        return (
            pandas.DataFrame(metrics.confusion(table), index=names, columns=names)
            .rename_axis("truth")
            .rename_axis("prediction", axis=1)
        )

    def plot_confusion_matrix(self, split: str = "test") -> Drawing:
        """Returns a figure of the confusion matrix."""
        table = self.predictions.split(split)
        return run_figures.confusion_matrix(
            metrics.confusion(table), table.class_names, title=self.folder.name
        )

    def __repr__(self) -> str:
        return f"TrainedRun({self.name!r}: test accuracy {self.metrics['accuracy']:.3f})"


def finished_runs(study: str, stage: str = "train") -> list[TrainedRun]:
    """Returns the finished trainings of a study, a folder in `logs/`, sorted by name."""
    return [TrainedRun(folder) for folder in record.finished_runs(paths.logs() / study / stage)]


def train(
    pictures: Dataset,
    *,
    study: str = "python",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **parameters: Any,
) -> TrainedRun:
    """Trains one model and returns the finished run; a run that finished with the same parameters,
    data and code is returned as it is.

    Args:
        pictures: a data set, as `data.load` returns it.
        study: the folder in `logs/` that the run belongs to.
        callbacks: Keras callbacks besides the suite's own; with them a run is always trained.
        **parameters: those of `3_train`, such as `architecture`, `strategy`, `epochs` and `seed`.
            Without an `arm`, the run is named after the architecture and a digest of the others.

    Raises:
        DarkroomError: for an unknown or wrong parameter, before anything is computed.
    """
    notebook = notebooks.of_schema("3_train")
    values = notebook.complete({**parameters, "data": pictures.name, "study": study}, where="train")
    if values["data"] != pictures.name:  # the sample that a tiny run takes
        pictures = clean.load(values["data"])
    if not values["arm"]:
        values["arm"] = _arm(values)
    folder = paths.run(study, notebook.stage, runs.unit(values))
    wanted = runs.key(notebook, values, data=pictures)
    if callbacks or not runs.finished(folder, wanted):
        run = runs.open_run(notebook, values, data=pictures)
        try:
            session = Session(pictures, run)
            session.fit(callbacks)
            session.score()
            session.finish()
        finally:
            run.close()
    return TrainedRun(folder)


def _arm(values: dict[str, Any]) -> str:
    others = {name: value for name, value in values.items() if name not in ("arm", "seed", "study")}
    digest = hashing.digest(json.dumps(others, sort_keys=True))[:6]
    return f"{values['architecture']}-{digest}"
