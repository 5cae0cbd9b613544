"""Hyperband: KerasTuner's oracle proposes, our journal is the truth.

Of KerasTuner's oracle only the proposals are used. Its files are not written while it searches (a
kill tears them), a seed of 0 is a seed, a failed trial counts as the worst instead of letting its
bracket stall, and a trial that continues another one names it, so that the training goes on with
its optimiser. `export` writes KerasTuner's files when the search has ended.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import quiet
from lib.errors import DarkroomError
from lib.tuning.hyperparameter import Key
from lib.tuning.methods.base import WORST, Proposal
from lib.tuning.space import Space

# draws of an old trial before the space is taken to be exhausted; KerasTuner gives up after 20
_COLLISIONS = 10_000


@dataclass(frozen=True)
class Round:
    """One round of a bracket: `trials` of them, each trained from `initial_epoch` to `epochs`."""

    bracket: int
    round: int
    trials: int
    initial_epoch: int
    epochs: int


def rounds(epochs: int, factor: int) -> list[Round]:
    """Returns all rounds of one iteration of Hyperband as KerasTuner counts them, the most halving
    bracket first.

    Source: Li et al., Hyperband, JMLR 18 (2018), algorithm 1, with KerasTuner's rounding.
    """
    number = 0
    while epochs / factor**number >= 1:
        number += 1
    width = math.ceil(1 + math.log(epochs, factor))
    found = []
    for bracket in reversed(range(number)):
        before = 0
        for place in range(bracket + 1):
            until = math.ceil(epochs / factor ** (bracket - place))
            trials = math.ceil(width / (bracket + 1) * factor ** (bracket - place))
            found.append(Round(bracket, place, trials, before, until))
            before = until
    return found


class Hyperband:
    """Hyperband over `epochs` epochs at most; `iterations` repeats the whole with fresh trials."""

    def __init__(
        self,
        space: Space,
        *,
        goals: Mapping[str, str],
        epochs: int,
        seed: int,
        factor: int = 3,
        iterations: int = 1,
    ) -> None:
        ((self._goal, self._direction),) = goals.items()
        self._space = space
        with _calm():
            self._oracle = _oracle(
                space, self._goal, self._direction, epochs, factor, iterations, seed
            )
        self._failed: set[int] = set()

    def ask(self) -> Proposal | None:
        """Returns the next trial of a bracket, or None while its round must end first."""
        number = len(self._oracle.trials)
        with _calm():
            trial = self._oracle.create_trial(f"trial{number}")
        if trial.status != "RUNNING":
            return None
        told = trial.hyperparameters.values
        values = {
            name: _value(self._space[name], told[name])
            for name in self._space.names
            if name in told
        }
        parent = int(told["tuner/trial_id"]) if "tuner/trial_id" in told else None
        bracket, place = self._place(trial.trial_id)
        return Proposal(
            number, values, told["tuner/epochs"], parent, {"bracket": bracket, "round": place}
        )

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Never stops a trial; halving does."""
        return False

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        spent: bool,
    ) -> None:
        """Gives the oracle the epochs and the score."""
        trial = self._oracle.trials[_id(number)]
        if scores is None:
            self._failed.add(number)
        seen = [] if scores is None else [row for row in rows if self._goal in row]
        score = WORST[self._direction] if scores is None else float(scores[0])
        self._oracle.told[trial.trial_id] = score
        with _calm():
            for row in seen:
                numbers = {name: value for name, value in row.items() if name != "epoch"}
                self._oracle.update_trial(trial.trial_id, numbers, step=int(row["epoch"]) - 1)
            if not seen:
                self._oracle.update_trial(trial.trial_id, {self._goal: score}, step=0)
            trial.status = "COMPLETED"
            self._oracle.end_trial(trial)

    def may_promote(self, number: int) -> bool:
        """Returns whether the next round of the trial's bracket has a place left."""
        for bracket in self._oracle._brackets:
            for place, members in enumerate(bracket["rounds"][:-1]):
                if any(member["id"] == _id(number) for member in members):
                    return len(bracket["rounds"][place + 1]) < self._oracle._get_size(
                        bracket["bracket_num"], place + 1
                    )
        return False

    def export(self, folder: Path) -> None:
        """Writes KerasTuner's own files into `folder`, from which `keras_tuner.Hyperband` with the
        same arguments goes on.
        """
        with _calm():
            self._oracle.write(folder, failed={_id(number) for number in self._failed})

    def _place(self, trial_id: str) -> tuple[int, int]:
        # KerasTuner's own note names the bracket that was begun last, which may be a later one.
        for bracket in self._oracle._brackets:
            for place, members in enumerate(bracket["rounds"]):
                if any(member["id"] == trial_id for member in members):
                    return bracket["bracket_num"], place
        raise DarkroomError(
            f"KerasTuner's oracle has lost the bracket of trial {trial_id}. Is its version the "
            "pinned one?"
        )


def _oracle(
    space: Space, goal: str, direction: str, epochs: int, factor: int, iterations: int, seed: int
) -> Any:
    with quiet.loading():
        import keras_tuner

    class Oracle(keras_tuner.oracles.HyperbandOracle):
        """KerasTuner's Hyperband, which keeps its files to itself until it is told to write them."""

        told: dict[str, float]

        def score_trial(self, trial: Any) -> None:
            """Takes the score as the search knows it."""
            trial.score = self.told[trial.trial_id]
            trial.best_step = trial.metrics.get_best_step(self.objective.name) or 0

        def save(self) -> None:
            """Writes nothing."""

        def _save_trial(self, trial: Any) -> None:
            """Writes nothing."""

        def write(self, folder: Path, *, failed: set[str]) -> None:
            """Writes KerasTuner's files."""
            self._set_project_dir(str(folder.parent), folder.name)
            for trial_id, trial in self.trials.items():
                if trial_id in failed:
                    trial.status, trial.score, trial.metrics = "FAILED", None, type(trial.metrics)()
                super()._save_trial(trial)
            super().save()
            (folder / "tuner0.json").write_text(json.dumps({}), encoding="utf-8")

    oracle = Oracle(
        objective=keras_tuner.Objective(goal, direction),
        max_epochs=epochs,
        factor=factor,
        hyperband_iterations=iterations,
        seed=seed + 1,  # KerasTuner takes 0 for "draw one"
        hyperparameters=hyperparameters(space),
        tune_new_entries=False,
        allow_new_entries=False,
    )
    oracle.told = {}
    oracle.verbose = 0
    oracle._max_collisions = _COLLISIONS
    return oracle


def hyperparameters(space: Space) -> Any:
    """Returns the space as KerasTuner's HyperParameters; choices of lists become their JSON text."""
    import keras_tuner

    found = keras_tuner.HyperParameters()
    for key in space.keys:
        with contextlib.ExitStack() as conditions:
            for parent, allowed in key.when.items():
                tokens = [_token(space[parent], value) for value in allowed]
                conditions.enter_context(found.conditional_scope(parent, tokens))
            _add(found, key)
    return found


def _add(found: Any, key: Key) -> None:
    scale = {"sampling": "log" if key.log else "linear"}
    if key.kind == "choice":
        found.Choice(key.name, [_token(key, value) for value in key.choices])
    elif key.kind == "int":
        found.Int(
            key.name,
            int(key.low),
            int(key.high),
            step=None if key.log else int(key.step or 1),
            **scale,
        )
    else:
        found.Float(key.name, float(key.low), float(key.high), step=key.step, **scale)


def _token(key: Key, value: Any) -> Any:
    """A choice as KerasTuner takes it: all of one plain type, else all as JSON."""
    plain = len({type(each) for each in key.choices}) == 1 and isinstance(value, str | int | float)
    return value if plain else json.dumps(value)


def _value(key: Key, token: Any) -> Any:
    if key.kind != "choice":
        return int(token) if key.kind == "int" else float(token)
    return next(value for value in key.choices if _token(key, value) == token)


def _id(number: int) -> str:
    return f"{number:04d}"  # as KerasTuner's oracle names its trials


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """KerasTuner calls what Python has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
