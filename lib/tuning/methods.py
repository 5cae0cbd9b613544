"""The table of search methods, their checks, and Optuna's samplers and pruners.

An Optuna study lives in memory and is rebuilt from the event log. Optuna's storages do not keep a
sampler's random state: a study resumed from one repeats its first draws (Optuna 5.0).
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lib.errors import DarkroomError, check_choice, suggest
from lib.tuning.hyperband import Hyperband
from lib.tuning.search_method import Ended, Grid, Halving, Plan, Refined, SearchMethod
from lib.tuning.space import Hyperparameter
from lib.tuning.trials import Trial

if TYPE_CHECKING:
    import optuna

PRUNERS = ("none", "median", "hyperband")

_MAX_PROPOSALS = 5  # times `num_trials`, copies of earlier trials included


def check(plan: Plan) -> None:
    """Raises DarkroomError for whatever `make` would refuse, without loading a library."""
    name, goals = plan.method, plan.goals
    check_choice("method", name, METHODS)
    if any(goal not in ("max", "min") for goal in goals.values()) or not goals:
        raise DarkroomError(f"`goals` must map numbers to max or min. Received: {dict(goals)!r}.")
    if len(goals) > 1 and name not in ("tpe", "genetic", "random"):
        raise DarkroomError(
            f"{name} optimises one goal. Received: {', '.join(goals)}. "
            "Use genetic, tpe or random for several."
        )
    if plan.epochs < 1:
        raise DarkroomError(f"`epochs` must be at least 1. Received: {plan.epochs}.")
    known = METHODS[name].options
    for option, value in plan.options.items():
        if option not in known:
            raise DarkroomError(
                f"{name} has the options {', '.join(known)}. "
                f"Received: {option!r}.{suggest(option, known)}"
            )
        least = known[option][1]
        if option != "pruner" and (type(value) is not int or value < least):
            raise DarkroomError(
                f"`{option}` of {name} must be a whole number of at least {least}. "
                f"Received: {value!r}."
            )
    METHODS[name].check(plan)


def make(plan: Plan) -> SearchMethod:
    """Returns the plan's method in its initial state.

    Raises DarkroomError for an unknown method or option, or a space that it cannot search.
    """
    check(plan)
    return METHODS[plan.method](plan)


class OptunaMethod(SearchMethod):
    """One of Optuna's samplers: `tpe`, `cmaes` or `random`; `genetic` (NSGA-II) is below.

    It proposes `num_trials` trials; proposals that equal an earlier trial are free. The pruner is
    `none`, `median` (worse than half of the trials at the same epoch) or `hyperband`.
    """

    options: ClassVar = {"pruner": ("none", 0)}

    def __init__(self, plan: Plan) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        options = self.options_of(plan)
        directions = {"max": "maximize", "min": "minimize"}
        with _without_warnings():
            self._study = optuna.create_study(
                study_name="darkroom",  # the Hyperband pruner assigns brackets by it
                sampler=_sampler(plan, options.get("population", 0)),
                pruner=_pruner(options["pruner"], plan.epochs),
                directions=[directions[goal] for goal in plan.goals.values()],
            )
        self._plan, self._prunes = plan, options["pruner"] != "none"
        self._trials: list[optuna.Trial] = []
        self._open: set[int] = set()
        self._num_computed = 0

    @classmethod
    def check(cls, plan: Plan) -> None:
        """Raises DarkroomError for no trials, a pruner without epochs, or no numbers for cmaes."""
        if plan.num_trials < 1:
            raise DarkroomError(
                f"`num_trials` must be at least 1 for {plan.method}. Received: {plan.num_trials}."
            )
        pruner = cls.options_of(plan)["pruner"]
        check_choice("pruner", pruner, PRUNERS)
        if pruner != "none" and (len(plan.goals) > 1 or plan.epochs < 2):
            raise DarkroomError(
                f"The pruner {pruner!r} needs one goal and at least two epochs. Use pruner = "
                "'none'."
            )
        numeric = [
            item.name
            for item in plan.space.hyperparameters
            if not item.when and (item.kind != "choice" or item.is_ordered)
        ]
        if plan.method == "cmaes" and len(numeric) < 2:
            raise DarkroomError(
                "cmaes needs at least two numeric hyperparameters without conditions. "
                f"Received: {', '.join(numeric) or 'none'}. Use tpe or genetic."
            )

    def ask(self) -> Trial | None:
        """Returns the sampler's next trial."""
        num_trials = self._plan.num_trials
        enough = self._num_computed + len(self._open) >= num_trials
        if enough or len(self._trials) >= _MAX_PROPOSALS * num_trials:
            return None
        with _without_warnings():
            trial = self._study.ask()
            values: dict[str, Any] = {}
            for item in self._plan.space.hyperparameters:
                if item.is_active(values):
                    values[item.name] = _suggest(trial, item)
        self._open.add(len(self._trials))
        self._trials.append(trial)
        return Trial(len(self._trials) - 1, values, self._plan.epochs)

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


class Genetic(OptunaMethod):
    """Optuna's NSGA-II; a `population` of 0 is a fifth of the trials."""

    options: ClassVar = {"population": (0, 2), "pruner": ("none", 0)}


METHODS: dict[str, type[SearchMethod]] = {
    "hyperband": Hyperband,
    "tpe": OptunaMethod,
    "genetic": Genetic,
    "cmaes": OptunaMethod,
    "random": OptunaMethod,
    "grid": Grid,
    "refined": Refined,
    "halving": Halving,
}
"""`hyperband` is KerasTuner's, the next four are Optuna's, the last three need no library."""


def _sampler(plan: Plan, population: int) -> Any:
    from optuna import samplers

    seed = plan.seed
    if plan.method == "tpe":
        return samplers.TPESampler(seed=seed)
    if plan.method == "random":
        return samplers.RandomSampler(seed=seed)
    if plan.method == "genetic":
        population = population or min(50, max(6, plan.num_trials // 5))
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
