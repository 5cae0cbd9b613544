"""Ways to search: each proposes trials and learns from what came of them. All are asked and told
alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.errors import DarkroomError, suggest
from lib.tuning.methods.base import Method, Proposal
from lib.tuning.space import Space

METHODS = ("hyperband", "tpe", "genetic", "cmaes", "random", "grid", "refined", "halving")
"""`hyperband` is KerasTuner's; `tpe`, `genetic` (NSGA-II), `cmaes` and `random` are Optuna's; the
others need no library.
"""
PRUNERS = ("none", "median", "hyperband")
SAMPLED = ("tpe", "genetic", "cmaes", "random")
"""Methods that end after a number of trials, and beside which hopeless trials may be pruned."""

__all__ = ["METHODS", "PRUNERS", "SAMPLED", "Method", "Proposal", "make"]


def check(
    name: str,
    space: Space,
    *,
    goals: Mapping[str, str],
    epochs: int = 1,
    num_trials: int = 0,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Raises DarkroomError for what `make` would refuse; no library is loaded."""
    if name not in METHODS:
        raise DarkroomError(
            f"`method` must be one of {', '.join(METHODS)}. Received: "
            f"{name!r}.{suggest(name, METHODS)}"
        )
    if any(goal not in ("max", "min") for goal in goals.values()) or not goals:
        raise DarkroomError(f"`goals` must map numbers to max or min. Received: {dict(goals)!r}.")
    options, known = dict(options or {}), _OPTIONS[name]
    for option, value in options.items():
        if option not in known:
            raise DarkroomError(
                f"{name} has the options {', '.join(known)}. Received: "
                f"{option!r}.{suggest(option, known)}"
            )
        if option != "pruner" and (type(value) is not int or value < known[option]):
            least = f"a whole number of at least {known[option]}"
            raise DarkroomError(f"`{option}` of {name} must be {least}. Received: {value!r}.")
    if len(goals) > 1 and name not in ("tpe", "genetic", "random"):
        raise DarkroomError(
            f"{name} seeks one goal. Received: {', '.join(goals)}. Use genetic, tpe or random for "
            "several."
        )
    if epochs < 1:
        raise DarkroomError(f"`epochs` must be at least 1. Received: {epochs}.")
    _CHECKS[name](space, goals=goals, epochs=epochs, num_trials=num_trials, **options)


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
    """Returns a method that has proposed nothing yet.

    Args:
        name: one of `METHODS`.
        space: what may be searched.
        goals: the numbers to be sought, each `max` or `min`; several for `tpe`, `genetic` and
            `random` alone. epochs: what a trial may cost at most; whoever has no epochs leaves it
            at 1. num_trials: different trials in all, for those of `SAMPLED`. seed: random
            proposals follow from it. options: `factor` and `iterations` (hyperband), `factor` and
            `first_trials` (halving), `population` and `pruner` (genetic), `pruner` (the others of
            `SAMPLED`), `points` (grid), `points` and `rounds` (refined).

    Raises:
        DarkroomError: for an unknown method or option, or a space that the method cannot search.
    """
    check(name, space, goals=goals, epochs=epochs, num_trials=num_trials, options=options)
    return _MAKERS[name](
        space, goals=goals, epochs=epochs, num_trials=num_trials, seed=seed, **(options or {})
    )


def _hyperband(space: Space, *, num_trials: int, **settings: Any) -> Method:
    from lib.tuning.methods.hyperband import Hyperband

    return Hyperband(space, **settings)


def _sampled(sampler: str) -> Any:
    def build(space: Space, **settings: Any) -> Method:
        from lib.tuning.methods.sampled import Sampled

        return Sampled(space, sampler=sampler, **settings)

    return build


def _grid(space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any) -> Method:
    from lib.tuning.methods.grids import Grid

    return Grid(space, **settings)


def _refined(
    space: Space, *, goals: Mapping[str, str], num_trials: int, seed: int, **settings: Any
) -> Method:
    from lib.tuning.methods.grids import Refined

    return Refined(space, goal=next(iter(goals.values())), **settings)


def _halving(space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any) -> Method:
    from lib.tuning.methods.halving import Halving

    return Halving(space, goal=next(iter(goals.values())), **settings)


_MAKERS = {
    "hyperband": _hyperband,
    **{name: _sampled(name) for name in SAMPLED},
    "grid": _grid,
    "refined": _refined,
    "halving": _halving,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "hyperband": {"factor": 2, "iterations": 1},
    "tpe": {"pruner": None},
    "genetic": {"population": 2, "pruner": None},
    "cmaes": {"pruner": None},
    "random": {"pruner": None},
    "grid": {"points": 2},
    "refined": {"points": 3, "rounds": 1},
    "halving": {"factor": 2, "first_trials": 1},
}
"""The options of each method with the least that each may be."""


def _check_first_rounds(
    space: Space,
    *,
    goals: Mapping[str, str],
    epochs: int,
    num_trials: int,
    factor: int = 3,
    iterations: int = 1,
) -> None:
    from lib.tuning.methods.hyperband import rounds

    first = iterations * sum(each.trials for each in rounds(epochs, factor) if each.round == 0)
    if space.size() < first:
        raise DarkroomError(
            f"The space has {space.size():,.0f} combinations, and Hyperband with {epochs} epochs, "
            f"factor {factor} and "
            f"{iterations} iterations begins {first} different trials. Take fewer epochs, a wider "
            "space, or 'grid'."
        )


def _check_sampled(name: str) -> Any:
    def check(
        space: Space,
        *,
        goals: Mapping[str, str],
        epochs: int,
        num_trials: int,
        pruner: str = "none",
        **_: Any,
    ) -> None:
        if num_trials < 1:
            raise DarkroomError(
                f"`num_trials` must be at least 1 for {name}. Received: {num_trials}."
            )
        if pruner not in PRUNERS:
            raise DarkroomError(
                f"`pruner` must be one of {', '.join(PRUNERS)}. Received: "
                f"{pruner!r}.{suggest(str(pruner), PRUNERS)}"
            )
        if pruner != "none" and (len(goals) > 1 or epochs < 2):
            raise DarkroomError(
                f"The pruner {pruner!r} needs one goal and two epochs or more. Use pruner = 'none'."
            )
        plain = [
            key.name for key in space.keys if not key.when and (key.kind != "choice" or key.ordered)
        ]
        if name == "cmaes" and len(plain) < 2:
            raise DarkroomError(
                "cmaes moves along numbers and needs two or more keys of them without conditions. "
                "Received: "
                f"{', '.join(plain) or 'none'}. Use tpe or genetic."
            )

    return check


def _check_grid(space: Space, *, points: int | None = None, **_: Any) -> None:
    from lib.tuning.methods.grids import listed

    listed(space, points)


_CHECKS = {
    "hyperband": _check_first_rounds,
    **{name: _check_sampled(name) for name in SAMPLED},
    "grid": _check_grid,
    "refined": lambda space, points=4, **_: _check_grid(space, points=points),
    "halving": lambda space, **_: None,
}
