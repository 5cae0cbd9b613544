"""Optuna's samplers: each trial is drawn with regard to those before; its pruners stop what is
hopeless.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lib.tuning.hyperparameter import Key
from lib.tuning.methods.base import Proposal
from lib.tuning.space import Space

if TYPE_CHECKING:
    import optuna

_LOOKS = 5  # times `num_trials` that a sampler may propose, those done before included


class Sampled:
    """One of Optuna's samplers: `tpe`, `genetic` (NSGA-II), `cmaes` or `random`.

    It ends when `num_trials` trials have been computed; proposals of what has been done before are
    free. `population` is of the genetic search, 0 for a fifth of the trials. `pruner` stops trials
    whose reports are worse than those of others: `median` than half of them at the same epoch,
    `hyperband` by brackets.
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
        with _calm():
            self._study = optuna.create_study(
                study_name="darkroom",  # the hyperband pruner draws its brackets from it
                sampler=_sampler(optuna, sampler, space, seed, population),
                pruner=_pruner(optuna, pruner, epochs),
                directions=["maximize" if goal == "max" else "minimize" for goal in goals.values()],
            )
        self._space, self._epochs, self._num_trials = space, epochs, num_trials
        self._trials: list[optuna.Trial] = []
        self._open: set[int] = set()
        self._num_spent = 0

    def ask(self) -> Proposal | None:
        """Returns the next draw."""
        if (
            self._num_spent + len(self._open) >= self._num_trials
            or len(self._trials) >= _LOOKS * self._num_trials
        ):
            return None
        with _calm():
            trial = self._study.ask()
            values: dict[str, Any] = {}
            for key in self._space.keys:
                if key.acts(values):
                    values[key.name] = _suggest(trial, key)
        self._trials.append(trial)
        self._open.add(len(self._trials) - 1)
        return Proposal(len(self._trials) - 1, values, self._epochs)

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Gives Optuna the epoch's score; returns what its pruner says."""
        if len(scores) != 1 or isinstance(self._study.pruner, _nop()):
            return False
        self._trials[number].report(float(scores[0]), epoch)
        return self._trials[number].should_prune()

    def may_promote(self, number: int) -> bool:
        """Promotes no trial."""
        return False

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        spent: bool,
    ) -> None:
        """Gives Optuna the scores; a trial without is pruned where it has reports, else failed."""
        from optuna.trial import TrialState

        self._open.discard(number)
        self._num_spent += spent
        trial = self._trials[number]
        with _calm():
            if scores is None:
                reported = self._study.get_trials(deepcopy=False)[number].intermediate_values
                self._study.tell(trial, state=TrialState.PRUNED if reported else TrialState.FAIL)
            else:
                self._study.tell(trial, [float(score) for score in scores])


def _sampler(optuna: Any, name: str, space: Space, seed: int, population: int) -> Any:
    samplers = optuna.samplers
    if name == "tpe":
        return samplers.TPESampler(seed=seed)
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "genetic":
        return samplers.NSGAIISampler(seed=seed, population_size=population)
    with _calm():
        return samplers.CmaEsSampler(
            seed=seed,
            warn_independent_sampling=False,
            independent_sampler=samplers.RandomSampler(seed=seed),
        )


def _pruner(optuna: Any, name: str, epochs: int) -> Any:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 5))
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=1, max_resource=epochs, reduction_factor=3
        )
    return optuna.pruners.NopPruner()


def _nop() -> type:
    from optuna.pruners import NopPruner

    return NopPruner


def _suggest(trial: Any, key: Key) -> Any:
    if key.kind == "int":
        return trial.suggest_int(
            key.name, int(key.low), int(key.high), step=int(key.step or 1), log=key.log
        )
    if key.kind == "float":
        return trial.suggest_float(
            key.name, float(key.low), float(key.high), step=key.step, log=key.log
        )
    if key.ordered:  # by its place, so that the sampler knows which choices are neighbours
        return key.choices[trial.suggest_int(key.name, 0, len(key.choices) - 1)]
    tokens = [
        value if isinstance(value, str | int | float | bool) else json.dumps(value)
        for value in key.choices
    ]
    return key.choices[tokens.index(trial.suggest_categorical(key.name, tokens))]


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Optuna marks its samplers' finer options as experimental, and tells of ranges that a step
    does not divide.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
