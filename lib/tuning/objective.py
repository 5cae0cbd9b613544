"""The objective of a network search: a trial is `3_train`'s training with other parameters.

Trials use train and validation images only. A trial halts after its epochs with its optimizer's
state on disk, so that a promoted trial continues exactly.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import hashing, parameter_table
from lib.runs import Run
from lib.tuning import config
from lib.tuning.worker import TrialContext

if TYPE_CHECKING:
    from lib.data.dataset import Dataset
    from lib.data.splits import Split
    from lib.training.strategies import Trained, TrainingData


_OF_DATA = (*config.DATA, "image_side", "resize")


@dataclass
class _TrialRun(Run):
    """A trial as the training sees it: a run without live progress, which the search shows."""

    def progress(self, **fields: Any) -> None:
        """Writes nothing."""


def objective(values: dict[str, Any], trial: TrialContext) -> dict[str, Any]:
    """Trains with `values` in place of those of the base; returns the numbers of the kept epoch.

    `trial.settings` holds `base`, the parameters of the untuned training; `epochs`, the length of
    the learning-rate schedule; `seed`; and `monitor`.
    """
    settings = trial.settings
    parameters = {
        **config.trial_parameters(settings["base"], values),
        "epochs": settings["epochs"],
        "monitor": settings["monitor"],
    }

    def halt(row: Mapping[str, float]) -> bool:
        numbers = {name: value for name, value in row.items() if name != "epoch"}
        stop = trial.report(int(row["epoch"]), **numbers)
        return stop or row["epoch"] >= trial.epochs

    trained = train(
        parameters,
        seed=settings["seed"],
        folder=trial.folder,
        checkpoint_folder=trial.checkpoint_folder,
        halt=halt,
    )
    fitted = trained.fitted
    kept = fitted.history.iloc[fitted.kept_epoch - 1]
    numbers = {name: float(kept[name]) for name in ("val_accuracy", "val_loss", "accuracy", "loss")}
    numbers |= {"kept_epoch": fitted.kept_epoch, "num_parameters": trained.model.count_params()}
    numbers["diverged"] = int(fitted.diverged)
    if values:  # the training that measures the costs is no trial
        _log_hparams(trial, values, {**numbers, "epochs": trial.epochs})
    return {**numbers, "made": _model_digest(trained, parameters)}


def train(
    parameters: Mapping[str, Any],
    *,
    seed: int,
    folder: Path,
    checkpoint_folder: Path,
    halt: Any = None,
) -> Trained:
    """Trains one network as `3_train` does; returns it with its best weights."""
    from lib.training import fit, model_reuse, network, strategies
    from lib.training.settings import Settings

    data = training_data(parameters)
    run = _TrialRun(
        folder, checkpoint_folder, dict(parameters), {}, "tune", parameters["data"], False, None
    )
    fit.begin(seed=seed, dtype_policy=parameters["dtype_policy"], run=run)
    settings = Settings.of({**parameters, "seed": seed})
    model = network.build(parameters, data)
    with model_reuse.reusing():
        return strategies.train(
            parameters["strategy"],
            model,
            data,
            settings=settings,
            run=run,
            fraction=parameters["fine_tune_fraction"],
            halt=halt,
        )


def training_data(parameters: Mapping[str, Any]) -> TrainingData:
    """Returns the decoded images and their split, cached for the next trial of this process."""
    return _training_data(json.dumps({name: parameters[name] for name in _OF_DATA}))


@functools.lru_cache(maxsize=4)
def _training_data(text: str) -> TrainingData:
    from lib.data import dataset as datasets
    from lib.data import pixel_cache, splits
    from lib.training.strategies import TrainingData

    parameters = json.loads(text)
    dataset = datasets.load(parameters["data"])
    split = splits.of_parameters(dataset, parameters)
    side, resize = parameters["image_side"], parameters["resize"]
    pixels = pixel_cache.cache(dataset, side=side, fit=resize)
    return TrainingData(pixels, split, dataset.folder / "features")


def make_split(parameters: Mapping[str, Any], dataset: Dataset, *, run: str) -> Split:
    """Returns the split that all trials share, making it if it is new; the log of test images notes
    that `run` (study/stage/run) chooses settings on it.
    """
    from lib.data import splits
    from lib.evaluation import test_set_log

    split = splits.of_parameters(dataset, parameters)
    test_set_log.record(dataset.folder, split.id, run, role="tuning")
    return split


def _model_digest(trained: Trained, parameters: Mapping[str, Any]) -> str:
    """A digest of the network, the origin of its weights, and all active training parameters.

    Two trials whose values differ must differ in it; otherwise a hyperparameter has no effect.
    """
    names = ["resize", "dtype_policy", "fine_tune_fraction"]
    names += [] if parameters["architecture"] == "custom" else ["weights"]
    settings = dataclasses.asdict(trained.settings) | {name: parameters[name] for name in names}
    active = parameter_table.active(settings, parameters)
    parts = [trained.model.get_config(), trained.strategy, active]
    return hashing.digest(json.dumps(parts, sort_keys=True, default=str))


def _log_hparams(
    trial: TrialContext, values: Mapping[str, Any], numbers: Mapping[str, float]
) -> None:
    """Adds the trial to TensorBoard's HParams, which shows the first five columns by name."""
    from lib.reporting.tensorboard import Board

    prefixes = {name: "goal" if name in trial.goals else "trial" for name in numbers}
    Board(trial.folder).hparams(
        values, {f"{prefixes[name]}/{name}": float(value) for name, value in numbers.items()}
    )
