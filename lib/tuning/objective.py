"""The objective of a network's search: a trial is `3_train`'s training with some parameters
changed, on train and validation.

A trial halts after its epochs with all that going on needs, optimiser included, so that a promoted
one continues exactly. The test split is not read here.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import hashing, schema
from lib.runs import Run
from lib.tuning import config
from lib.tuning.work import Work

if TYPE_CHECKING:
    from lib.data.dataset import Dataset
    from lib.data.splits import Split
    from lib.training.strategies import Material, Trained


@dataclass
class Trial(Run):
    """A trial as a training sees it: a run that keeps no live progress, since the search tells of
    it.
    """

    def progress(self, **fields: Any) -> None:
        """Writes nothing."""


def objective(values: dict[str, Any], work: Work) -> dict[str, Any]:
    """Trains with `values` in place of those of `context["base"]` and returns the numbers of the
    kept epoch.

    `context`: `base`, the parameters of a training; `epochs`, how long the schedule is laid out
    for; `seed`; `monitor`.
    """
    context = work.context
    parameters = {
        **config.filled(context["base"], values),
        "epochs": context["epochs"],
        "monitor": context["monitor"],
    }

    def halt(row: Mapping[str, float]) -> bool:
        numbers = {name: value for name, value in row.items() if name != "epoch"}
        stop = work.report(int(row["epoch"]), **numbers)
        return stop or row["epoch"] >= work.epochs

    trained = train(
        parameters,
        seed=context["seed"],
        folder=work.folder,
        checkpoint_folder=work.checkpoint_folder,
        halt=halt,
    )
    kept = trained.fitted.history.iloc[trained.fitted.kept_epoch - 1]
    numbers = {name: float(kept[name]) for name in ("val_accuracy", "val_loss", "accuracy", "loss")}
    found = {
        **numbers,
        "kept_epoch": trained.fitted.kept_epoch,
        "num_parameters": trained.model.count_params(),
    }
    found["diverged"] = int(trained.fitted.diverged)
    if values:  # the untuned training that the forecast measures is no trial
        _board(work, values, {**found, "epochs": work.epochs})
    return {**found, "made": _made(trained, parameters)}


def train(
    parameters: Mapping[str, Any],
    *,
    seed: int,
    folder: Path,
    checkpoint_folder: Path,
    halt: Any = None,
) -> Trained:
    """Trains one network as `3_train` does with these parameters and returns it with its best
    weights.
    """
    from lib.training import model_reuse, network, setup, strategies
    from lib.training.settings import Settings

    material = material_of(parameters)
    run = Trial(
        folder, checkpoint_folder, dict(parameters), {}, "tune", parameters["data"], False, None
    )
    setup.begin(
        seed=seed,
        dtype_policy=parameters["dtype_policy"],
        run=run,
        image_side=parameters["image_side"],
    )
    settings = Settings.of({**parameters, "seed": seed})
    model = network.build(parameters, material)
    with model_reuse.reusing():
        return strategies.train(
            parameters["strategy"],
            model,
            material,
            settings=settings,
            run=run,
            fraction=parameters["fine_tune_fraction"],
            halt=halt,
        )


def material_of(parameters: Mapping[str, Any]) -> Material:
    """Returns the decoded images and their split; both are kept for the next trial of this process."""
    told = (
        parameters["split_method"],
        tuple(parameters["fractions"]),
        parameters["split_seed"],
        parameters["target"],
    )
    return _material(
        parameters["data"],
        *told,
        parameters["limit_per_class"],
        parameters["image_side"],
        parameters["resize"],
    )


@functools.lru_cache(maxsize=4)
def _material(
    data: str,
    method: str,
    fractions: tuple[float, float, float],
    seed: int,
    target: str,
    limit: int,
    side: int,
    resize: str,
) -> Material:
    from lib.data import dataset, pixel_cache, splits
    from lib.training.strategies import Material

    found = dataset.load(data)
    split = splits.ensure(
        found, method=method, fractions=fractions, seed=seed, target=target, limit_per_class=limit
    )
    return Material(
        pixel_cache.cache(found, side=side, fit=resize), split, found.folder / "features"
    )


def split_of(parameters: Mapping[str, Any], dataset: Dataset) -> Split:
    """Returns the split that all trials share; it is made here where it is new."""
    from lib.data import splits

    return splits.ensure(
        dataset,
        method=parameters["split_method"],
        fractions=tuple(parameters["fractions"]),
        seed=parameters["split_seed"],
        target=parameters["target"],
        limit_per_class=parameters["limit_per_class"],
    )


def _made(trained: Trained, parameters: Mapping[str, Any]) -> str:
    """A digest of what the parameters have made: the network, where it comes from, and what acts on
    its training.
    """
    beside = (
        "resize",
        "dtype_policy",
        "fine_tune_fraction",
        *(() if parameters["architecture"] == "custom" else ("weights",)),
    )
    told = {**dataclasses.asdict(trained.settings), **{name: parameters[name] for name in beside}}
    acting = schema.active(told, parameters)
    return hashing.digest(
        json.dumps(
            [trained.model.get_config(), trained.recipe, acting], sort_keys=True, default=str
        )
    )


def _board(work: Work, values: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
    """Adds the trial to TensorBoard's HParams, which shows the first five columns by name: the
    goals come before the rest.
    """
    from lib.reporting.tensorboard import Board

    rooms = {name: "goal" if name in work.goals else "trial" for name in numbers}
    Board(work.folder).hparams(
        values, {f"{rooms[name]}/{name}": float(value) for name, value in numbers.items()}
    )
