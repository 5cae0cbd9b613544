"""Optuna's samplers and pruners behind the interface of `search_method`, by `ask` and `tell`.

The study lives in memory and is rebuilt from the event log. Optuna's storages do not keep a
sampler's random state: a study resumed from one repeats its first draws (Optuna 5.0).
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lib.tuning.search_method import SearchMethod
from lib.tuning.space import Hyperparameter, Space
from lib.tuning.trials import Trial

if TYPE_CHECKING:
    import optuna

_MAX_PROPOSALS = 5  # times `num_trials`, copies of earlier trials included


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

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        computed: bool,
    ) -> None:
        """Tells Optuna the scores; without scores the trial counts as pruned, or as failed."""
        from optuna.trial import TrialState

        self._open.discard(number)
        self._num_computed += computed
        trial = self._trials[number]
        with _without_warnings():
            if scores is not None:
                self._study.tell(trial, [float(score) for score in scores])
                return
            reported = self._study.get_trials(deepcopy=False)[number].intermediate_values
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
