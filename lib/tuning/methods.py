"""Search methods: each proposes trials and learns from their scores, through one interface."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from lib.errors import DarkroomError, suggest
from lib.tuning.space import Hyperparameter, Space

WORST = {"max": float("-inf"), "min": float("inf")}
"""The score of a failed trial."""
OPTUNA = ("tpe", "genetic", "cmaes", "random")
"""Optuna's samplers: they end after `num_trials` trials and can prune."""
METHODS = ("hyperband", "tpe", "genetic", "cmaes", "random", "grid", "refined", "halving")
"""`hyperband` is KerasTuner's; `genetic` is NSGA-II; the last three need no library."""
PRUNERS = ("none", "median", "hyperband")

_MAX_COMBINATIONS = 100_000


@dataclass(frozen=True)
class Proposal:
    """A trial to run: `values` of the active hyperparameters, to be trained up to `epochs` in all.

    `parent` is the trial whose training it continues. `about` says where in the search it belongs.
    """

    number: int
    values: dict[str, Any]
    epochs: int
    parent: int | None = None
    about: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A search method.

    Its proposals depend only on its seed and on the sequence of calls, so an interrupted search is
    restored by repeating the calls on a new method.
    """

    def ask(self) -> Proposal | None:
        """Returns the next trial, numbered 0, 1, 2, …; None if there is none for now."""

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Records a trial's scores after an epoch; returns whether to prune the trial."""

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        computed: bool,
    ) -> None:
        """Records that a trial has ended.

        Args:
            number: the trial.
            scores: one number a goal; None if the trial failed or was pruned.
            rows: the history of the trial, one row an epoch.
            computed: false for the copy of an equal trial that was computed before.
        """

    def may_promote(self, number: int) -> bool:
        """Returns whether a later trial may continue this one, so that its checkpoints stay."""


class _OwnMethod:
    """Numbers the proposals of a method and keeps the scores; a base of the methods below."""

    def __init__(self, goal: str = "max") -> None:
        self.proposals: list[Proposal] = []
        self.scores: dict[int, float] = {}
        self._goal = goal

    def propose(
        self, values: Mapping[str, Any], epochs: int, parent: int | None = None, **about: Any
    ) -> Proposal:
        """Returns the next proposal and records it."""
        self.proposals.append(Proposal(len(self.proposals), dict(values), epochs, parent, about))
        return self.proposals[-1]

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Never prunes."""
        return False

    def may_promote(self, number: int) -> bool:
        """Never promotes."""
        return False

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        computed: bool,
    ) -> None:
        """Records the first score, or the worst possible one if there is none."""
        self.scores[number] = WORST[self._goal] if scores is None else scores[0]

    def best(self, numbers: Sequence[int]) -> list[int]:
        """Returns the trials by score, best first; of equals the earlier one."""
        sign = -1 if self._goal == "max" else 1
        return sorted(numbers, key=lambda number: (sign * self.scores[number], number))


class Grid(_OwnMethod):
    """Every combination once, in an order drawn from the seed.

    The random order lets a search that ends early have seen all regions. A range without a step
    contributes `points` values, evenly spaced on its scale.
    """

    def __init__(self, space: Space, *, epochs: int, seed: int, points: int | None = None) -> None:
        super().__init__()
        combinations = list_grid(space, points)
        order = np.random.default_rng(seed).permutation(len(combinations))
        self._epochs, self._waiting = epochs, [combinations[index] for index in order]

    def ask(self) -> Proposal | None:
        """Returns the next combination."""
        if len(self.proposals) == len(self._waiting):
            return None
        return self.propose(self._waiting[len(self.proposals)], self._epochs)


class Refined(_OwnMethod):
    """A grid, then `rounds` - 1 grids around the best trial so far, each at least twice as fine.

    Choices keep their best value. The method finds a single maximum; of two it may take the lower.
    """

    def __init__(
        self, space: Space, *, goal: str, epochs: int, points: int = 4, rounds: int = 3
    ) -> None:
        super().__init__(goal)
        self._epochs, self._points, self._rounds = epochs, points, rounds
        self._space, self._round = space, 1
        self._seen: set[str] = set()
        self._waiting = self._unseen(space)

    def ask(self) -> Proposal | None:
        """Returns the next combination; a round begins when the previous one has ended."""
        ended = len(self.scores) == len(self.proposals)
        if not self._waiting and ended and self._round < self._rounds:
            self._round += 1
            best = self.best(list(self.scores))[0]
            self._space = self._around(self.proposals[best].values)
            self._waiting = self._unseen(self._space)
        if not self._waiting:
            return None
        return self.propose(self._waiting.pop(0), self._epochs, round=self._round)

    def _unseen(self, space: Space) -> list[dict[str, Any]]:
        combinations = list_grid(space, self._points)
        by_text = {json.dumps(values, sort_keys=True): values for values in combinations}
        unseen = {text: values for text, values in by_text.items() if text not in self._seen}
        self._seen |= set(unseen)
        return list(unseen.values())

    def _around(self, best: Mapping[str, Any]) -> Space:
        items = []
        for item in self._space.hyperparameters:
            if item.name not in best:
                continue
            value, item = best[item.name], replace(item, when={})
            fixed = item.kind == "choice"
            items.append(_fixed(item, value) if fixed else _zoomed(item, value, self._points))
        return Space(tuple(items))


class Halving(_OwnMethod):
    """Successive halving: `first_trials` trials, of which each rung keeps the best `factor`-th.

    The first trials are the whole grid if that is not larger, otherwise random. A rung begins when
    the previous one has ended. 0 `first_trials` means as many as leave one trial at the top.

    Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016.
    """

    def __init__(
        self,
        space: Space,
        *,
        goal: str,
        epochs: int,
        seed: int,
        factor: int = 3,
        first_trials: int = 0,
    ) -> None:
        super().__init__(goal)
        self._factor, self._rungs = factor, rungs(epochs, factor)
        self._rung, self._members = 0, []
        number = first_trials or factor ** (len(self._rungs) - 1)
        self._waiting: list[tuple[dict[str, Any], int | None]] = [
            (values, None) for values in _first_trials(space, number, seed)
        ]

    def ask(self) -> Proposal | None:
        """Returns the next trial of this rung; the next rung begins when this one has ended."""
        ended = all(number in self.scores for number in self._members)
        if not self._waiting and ended and self._rung + 1 < len(self._rungs):
            kept = self.best(self._members)[: max(1, len(self._members) // self._factor)]
            self._waiting = [(self.proposals[number].values, number) for number in kept]
            self._rung, self._members = self._rung + 1, []
        if not self._waiting:
            return None
        values, parent = self._waiting.pop(0)
        self._members.append(len(self.proposals))
        return self.propose(values, self._rungs[self._rung], parent, rung=self._rung)

    def may_promote(self, number: int) -> bool:
        """Returns whether the trial is in the current rung, or chosen for the next one."""
        return number in self._members or any(parent == number for _, parent in self._waiting)


def rungs(epochs: int, factor: int) -> list[int]:
    """Returns the epochs of a trial after each rung: `epochs` and its `factor`-ths down to 1."""
    steps = [epochs]
    while steps[0] // factor >= 1:
        steps.insert(0, steps[0] // factor)
    return steps


def list_grid(space: Space, points: int | None) -> list[dict[str, Any]]:
    """Returns every combination of the space.

    Raises DarkroomError for a continuous range without `points`, or too many combinations.
    """
    combinations = []
    for values in space.grid(points):
        combinations.append(values)
        if len(combinations) > _MAX_COMBINATIONS:
            raise DarkroomError(
                f"The grid has over {_MAX_COMBINATIONS:,} combinations. Remove hyperparameters, "
                "take fewer `points`, or use a method that samples."
            )
    return combinations


def check(
    name: str,
    space: Space,
    *,
    goals: Mapping[str, str],
    epochs: int = 1,
    num_trials: int = 0,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Raises DarkroomError for whatever `make` would refuse, without loading a library."""
    if name not in METHODS:
        raise DarkroomError(
            f"`method` must be one of {', '.join(METHODS)}. "
            f"Received: {name!r}.{suggest(name, METHODS)}"
        )
    if any(goal not in ("max", "min") for goal in goals.values()) or not goals:
        raise DarkroomError(f"`goals` must map numbers to max or min. Received: {dict(goals)!r}.")
    if len(goals) > 1 and name not in ("tpe", "genetic", "random"):
        raise DarkroomError(
            f"{name} optimises one goal. Received: {', '.join(goals)}. "
            "Use genetic, tpe or random for several."
        )
    if epochs < 1:
        raise DarkroomError(f"`epochs` must be at least 1. Received: {epochs}.")
    _check_options(name, options or {})
    _TABLE[name].check(
        space, goals=goals, epochs=epochs, num_trials=num_trials, **dict(options or {})
    )


def make(
    name: str,
    space: Space,
    *,
    goals: Mapping[str, str],
    epochs: int = 1,
    num_trials: int = 0,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """Returns a new method.

    Args:
        name: one of `METHODS`.
        space: what is searched.
        goals: the numbers to optimise, each `max` or `min`; `tpe`, `genetic` and `random` take
            several.
        epochs: the most epochs of a trial; 1 for objectives without epochs.
        num_trials: the number of different trials, for the methods in `OPTUNA`.
        seed: determines random proposals.
        options: `factor` and `iterations` (hyperband), `factor` and `first_trials` (halving),
            `population` and `pruner` (genetic), `pruner` (the others in `OPTUNA`), `points`
            (grid), `points` and `rounds` (refined).

    Raises:
        DarkroomError: for an unknown method or option, or a space that the method cannot search.
    """
    check(name, space, goals=goals, epochs=epochs, num_trials=num_trials, options=options)
    return _TABLE[name].build(
        space, goals=goals, epochs=epochs, num_trials=num_trials, seed=seed, **(options or {})
    )


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    known = _TABLE[name].options
    for option, value in options.items():
        if option not in known:
            raise DarkroomError(
                f"{name} has the options {', '.join(known)}. "
                f"Received: {option!r}.{suggest(option, known)}"
            )
        if option != "pruner" and (type(value) is not int or value < known[option]):
            raise DarkroomError(
                f"`{option}` of {name} must be a whole number of at least {known[option]}. "
                f"Received: {value!r}."
            )


def _fixed(item: Hyperparameter, value: Any) -> Hyperparameter:
    return replace(item, kind="choice", choices=(value,))


def _zoomed(item: Hyperparameter, value: Any, points: int) -> Hyperparameter:
    """The range around a value up to its neighbours, in which `points` lie half as far apart."""
    forward, back = (math.log, math.exp) if item.log else (float, float)
    values = item.points(points)
    index = int(np.argmin([abs(other - value) for other in values]))
    neighbours = [values[other] for other in (index - 1, index + 1) if 0 <= other < len(values)]
    distance = max(abs(forward(neighbour) - forward(value)) for neighbour in neighbours)
    width = distance * min(1.0, (points - 1) / 4)
    low, high = (back(forward(value) + sign * width) for sign in (-1, 1))
    if item.kind == "float":
        return replace(item, low=max(low, item.low), high=min(high, item.high), step=None)
    low = max(math.ceil(low - 1e-9), int(item.low))
    high = min(math.floor(high + 1e-9), int(item.high))
    if high - low < 1:
        return _fixed(item, value)
    step = None if item.log else max(1, (high - low) // (points - 1))
    return replace(item, low=low, high=high, step=step)


def _first_trials(space: Space, number: int, seed: int) -> list[dict[str, Any]]:
    if space.size() <= number:
        return list_grid(space, None)
    rng = np.random.default_rng(seed)
    trials: list[dict[str, Any]] = []
    while len(trials) < number:
        values = space.sample(rng)
        if values not in trials:
            trials.append(values)
    return trials


def _build_hyperband(space: Space, *, num_trials: int, **settings: Any) -> Method:
    from lib.tuning.hyperband import Hyperband

    return Hyperband(space, **settings)


def _build_optuna(sampler: str, space: Space, **settings: Any) -> Method:
    from lib.tuning.optuna_methods import OptunaMethod

    return OptunaMethod(space, sampler=sampler, **settings)


def _build_grid(
    space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any
) -> Method:
    return Grid(space, **settings)


def _build_refined(
    space: Space, *, goals: Mapping[str, str], num_trials: int, seed: int, **settings: Any
) -> Method:
    return Refined(space, goal=next(iter(goals.values())), **settings)


def _build_halving(
    space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any
) -> Method:
    return Halving(space, goal=next(iter(goals.values())), **settings)


def _check_hyperband(
    space: Space, *, epochs: int, factor: int = 3, iterations: int = 1, **_: Any
) -> None:
    from lib.tuning.hyperband import rounds

    first = iterations * sum(row.trials for row in rounds(epochs, factor) if row.round == 0)
    if space.size() < first:
        raise DarkroomError(
            f"The space has {space.size():,.0f} combinations, and Hyperband with {epochs} epochs, "
            f"factor {factor} and {iterations} iterations starts {first} different trials. Use "
            "fewer epochs, a wider space, or 'grid'."
        )


def _check_optuna(
    name: str,
    space: Space,
    *,
    goals: Mapping[str, str],
    epochs: int,
    num_trials: int,
    pruner: str = "none",
    **_: Any,
) -> None:
    if num_trials < 1:
        raise DarkroomError(f"`num_trials` must be at least 1 for {name}. Received: {num_trials}.")
    if pruner not in PRUNERS:
        raise DarkroomError(
            f"`pruner` must be one of {', '.join(PRUNERS)}. "
            f"Received: {pruner!r}.{suggest(str(pruner), PRUNERS)}"
        )
    if pruner != "none" and (len(goals) > 1 or epochs < 2):
        raise DarkroomError(
            f"The pruner {pruner!r} needs one goal and at least two epochs. Use pruner = 'none'."
        )
    numeric = [
        item.name
        for item in space.hyperparameters
        if not item.when and (item.kind != "choice" or item.is_ordered)
    ]
    if name == "cmaes" and len(numeric) < 2:
        raise DarkroomError(
            "cmaes needs at least two numeric hyperparameters without conditions. "
            f"Received: {', '.join(numeric) or 'none'}. Use tpe or genetic."
        )


def _check_grid(space: Space, *, points: int | None = None, **_: Any) -> None:
    list_grid(space, points)


def _check_refined(space: Space, *, points: int = 4, **_: Any) -> None:
    list_grid(space, points)


@dataclass(frozen=True)
class _Row:
    """One method: its builder, its check, and its options with the least value of each."""

    build: Callable[..., Method]
    check: Callable[..., None]
    options: dict[str, Any]


def _optuna_row(name: str, **options: Any) -> _Row:
    return _Row(
        functools.partial(_build_optuna, name),
        functools.partial(_check_optuna, name),
        {**options, "pruner": None},
    )


_TABLE = {
    "hyperband": _Row(_build_hyperband, _check_hyperband, {"factor": 2, "iterations": 1}),
    "tpe": _optuna_row("tpe"),
    "genetic": _optuna_row("genetic", population=2),
    "cmaes": _optuna_row("cmaes"),
    "random": _optuna_row("random"),
    "grid": _Row(_build_grid, _check_grid, {"points": 2}),
    "refined": _Row(_build_refined, _check_refined, {"points": 3, "rounds": 1}),
    "halving": _Row(_build_halving, lambda space, **_: None, {"factor": 2, "first_trials": 1}),
}
