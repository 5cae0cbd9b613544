"""The table of search methods, their options and checks, and Optuna's samplers and pruners.

An Optuna study lives in memory and is rebuilt from the event log. Optuna's storages do not keep a
sampler's random state: a study resumed from one repeats its first draws (Optuna 5.0).
"""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.errors import DarkroomError, check_choice, suggest
from lib.tuning.search_method import Ended, Grid, Halving, Refined, SearchMethod, list_grid
from lib.tuning.space import Hyperparameter, Space
from lib.tuning.trials import Trial

if TYPE_CHECKING:
    import optuna

OPTUNA = ("tpe", "genetic", "cmaes", "random")
"""Optuna's samplers: they end after `num_trials` trials and can prune."""
METHODS = ("hyperband", "tpe", "genetic", "cmaes", "random", "grid", "refined", "halving")
"""`hyperband` is KerasTuner's; `genetic` is NSGA-II; the last three need no library."""
PRUNERS = ("none", "median", "hyperband")

_MAX_PROPOSALS = 5  # times `num_trials`, copies of earlier trials included


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


class OptunaMethod(SearchMethod):
    """One of Optuna's samplers: `tpe`, `genetic` (NSGA-II), `cmaes` or `random`.

    Args:
        space: what is searched.
        sampler: the sampler's name.
        goals: the numbers to optimise, each `max` or `min`.
        epochs: of every trial.
        num_trials: trials to compute; proposals that equal an earlier trial are free.
        seed: of the sampler.
        population: of the genetic search, 0 for a fifth of the trials.
        pruner: `none`, `median` (worse than half of the trials at the same epoch) or `hyperband`.
    """

    def __init__(
        self,
        space: Space,
        *,
        sampler: str,
        goals: Mapping[str, str],
        epochs: int,
        num_trials: int,
        seed: int,
        population: int = 0,
        pruner: str = "none",
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        population = population or min(50, max(6, num_trials // 5))
        with _without_warnings():
            self._study = optuna.create_study(
                study_name="darkroom",  # the Hyperband pruner assigns brackets by it
                sampler=_sampler(sampler, seed, population),
                pruner=_pruner(pruner, epochs),
                directions=["maximize" if goal == "max" else "minimize" for goal in goals.values()],
            )
        self._space, self._epochs, self._num_trials = space, epochs, num_trials
        self._prunes = pruner != "none"
        self._trials: list[optuna.Trial] = []
        self._open: set[int] = set()
        self._num_computed = 0

    def ask(self) -> Trial | None:
        """Returns the sampler's next trial."""
        enough = self._num_computed + len(self._open) >= self._num_trials
        if enough or len(self._trials) >= _MAX_PROPOSALS * self._num_trials:
            return None
        with _without_warnings():
            trial = self._study.ask()
            values: dict[str, Any] = {}
            for item in self._space.hyperparameters:
                if item.is_active(values):
                    values[item.name] = _suggest(trial, item)
        self._open.add(len(self._trials))
        self._trials.append(trial)
        return Trial(len(self._trials) - 1, values, self._epochs)

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Reports the score to Optuna; returns whether its pruner stops the trial."""
        if not self._prunes:
            return False
        self._trials[number].report(float(scores[0]), epoch)
        return self._trials[number].should_prune()

    def tell(self, ended: Ended) -> None:
        """Tells Optuna the scores; without scores the trial counts as pruned, or as failed."""
        from optuna.trial import TrialState

        self._open.discard(ended.number)
        self._num_computed += ended.computed
        trial = self._trials[ended.number]
        with _without_warnings():
            if ended.scores is not None:
                self._study.tell(trial, [float(score) for score in ended.scores])
                return
            reported = self._study.get_trials(deepcopy=False)[ended.number].intermediate_values
            self._study.tell(trial, state=TrialState.PRUNED if reported else TrialState.FAIL)


def _sampler(name: str, seed: int, population: int) -> Any:
    from optuna import samplers

    if name == "tpe":
        return samplers.TPESampler(seed=seed)
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "genetic":
        return samplers.NSGAIISampler(seed=seed, population_size=population)
    independent = samplers.RandomSampler(seed=seed)
    return samplers.CmaEsSampler(
        seed=seed, warn_independent_sampling=False, independent_sampler=independent
    )


def _pruner(name: str, epochs: int) -> Any:
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 5))
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    return pruners.NopPruner()


def _suggest(trial: Any, item: Hyperparameter) -> Any:
    name, low, high = item.name, item.low, item.high
    if item.kind == "int":
        step = int(item.step or 1)
        return trial.suggest_int(name, int(low), int(high), step=step, log=item.log)
    if item.kind == "float":
        return trial.suggest_float(name, float(low), float(high), step=item.step, log=item.log)
    if item.is_ordered:  # by index, so that the sampler knows which choices are neighbours
        return item.choices[trial.suggest_int(name, 0, len(item.choices) - 1)]
    tokens = [
        value if isinstance(value, str | int | float | bool) else json.dumps(value)
        for value in item.choices
    ]
    return item.choices[tokens.index(trial.suggest_categorical(name, tokens))]


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Optuna warns of experimental options and of ranges that their step does not divide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
