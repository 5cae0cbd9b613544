"""Ways to search: each proposes trials and learns from what came of them. All are asked and told alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.errors import DarkroomError, suggest
from lib.tuning.methods.base import Method, Proposal
from lib.tuning.space import Space

METHODS = ("hyperband", "tpe", "genetic", "cmaes", "random", "grid", "refined", "halving")
"""`hyperband` is KerasTuner's; `tpe`, `genetic` (NSGA-II), `cmaes` and `random` are Optuna's; the others need no library."""
PRUNERS = ("none", "median", "hyperband")
SAMPLED = ("tpe", "genetic", "cmaes", "random")
"""Methods that end after a number of trials, and beside which hopeless trials may be pruned."""

__all__ = ["METHODS", "PRUNERS", "SAMPLED", "Method", "Proposal", "make"]


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
        goals: the numbers to be sought, each `max` or `min`; several for `tpe`, `genetic` and `random` alone.
        epochs: what a trial may cost at most; whoever has no epochs leaves it at 1.
        num_trials: different trials in all, for those of `SAMPLED`.
        seed: random proposals follow from it.
        options: `factor` and `iterations` (hyperband, halving), `population` (genetic), `points` and `rounds` (grid, refined),
            `pruner` (those of `SAMPLED`), `first_trials` (halving).

    Raises:
        DarkroomError: for an unknown method or option, or a space that the method cannot search.
    """
    if name not in METHODS:
        raise DarkroomError(f"`method` must be one of {', '.join(METHODS)}. Received: {name!r}.{suggest(name, METHODS)}")
    if any(goal not in ("max", "min") for goal in goals.values()) or not goals:
        raise DarkroomError(f"`goals` must map numbers to max or min. Received: {dict(goals)!r}.")
    options = dict(options or {})
    known = _OPTIONS[name]
    for option in options:
        if option not in known:
            raise DarkroomError(f"{name} has the options {', '.join(known)}. Received: {option!r}.{suggest(option, known)}")
    if len(goals) > 1 and name not in ("tpe", "genetic", "random"):
        raise DarkroomError(f"{name} seeks one goal. Received: {', '.join(goals)}. Use genetic, tpe or random for several.")
    if epochs < 1:
        raise DarkroomError(f"`epochs` must be at least 1. Received: {epochs}.")
    return _MAKERS[name](space, goals=goals, epochs=epochs, num_trials=num_trials, seed=seed, **options)


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


def _refined(space: Space, *, goals: Mapping[str, str], num_trials: int, seed: int, **settings: Any) -> Method:
    from lib.tuning.methods.grids import Refined

    return Refined(space, goal=next(iter(goals.values())), **settings)


def _halving(space: Space, *, goals: Mapping[str, str], num_trials: int, **settings: Any) -> Method:
    from lib.tuning.methods.halving import Halving

    return Halving(space, goal=next(iter(goals.values())), **settings)


_MAKERS = {
    "hyperband": _hyperband, **{name: _sampled(name) for name in SAMPLED}, "grid": _grid, "refined": _refined,
    "halving": _halving,
}  # fmt: skip
_OPTIONS = {
    "hyperband": ("factor", "iterations"), "tpe": ("pruner",), "genetic": ("population", "pruner"), "cmaes": ("pruner",),
    "random": ("pruner",), "grid": ("points",), "refined": ("points", "rounds"), "halving": ("factor", "first_trials"),
}  # fmt: skip
