"""The table of search methods: construction, options and checks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.errors import DarkroomError, check_choice, suggest
from lib.tuning.search_method import Grid, Halving, Refined, SearchMethod, list_grid
from lib.tuning.space import Space

OPTUNA = ("tpe", "genetic", "cmaes", "random")
"""Optuna's samplers: they end after `num_trials` trials and can prune."""
METHODS = ("hyperband", "tpe", "genetic", "cmaes", "random", "grid", "refined", "halving")
"""`hyperband` is KerasTuner's; `genetic` is NSGA-II; the last three need no library."""
PRUNERS = ("none", "median", "hyperband")


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
    check_choice("method", name, METHODS)
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
) -> SearchMethod:
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


def _build_hyperband(space: Space, *, num_trials: int, **settings: Any) -> SearchMethod:
    from lib.tuning.hyperband import Hyperband

    return Hyperband(space, **settings)


def _build_optuna(sampler: str, space: Space, **settings: Any) -> SearchMethod:
    from lib.tuning.optuna_methods import OptunaMethod

    return OptunaMethod(space, sampler=sampler, **settings)


def _build_grid(
    space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any
) -> SearchMethod:
    return Grid(space, **settings)


def _build_refined(
    space: Space, *, goals: Mapping[str, str], num_trials: int, seed: int, **settings: Any
) -> SearchMethod:
    return Refined(space, goal=next(iter(goals.values())), **settings)


def _build_halving(
    space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any
) -> SearchMethod:
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
    check_choice("pruner", pruner, PRUNERS)
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

    build: Callable[..., SearchMethod]
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
