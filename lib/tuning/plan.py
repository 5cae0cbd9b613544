"""What is to be searched and how, and what a search has found."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib import hashing
from lib.errors import DarkroomError
from lib.tuning import methods, trials
from lib.tuning.methods import Method
from lib.tuning.space import Space
from lib.tuning.trials import Trial

_LIBRARIES = {"hyperband": "keras-tuner", **dict.fromkeys(methods.SAMPLED, "optuna")}


@dataclass(frozen=True)
class Plan:
    """Everything that proposals and results depend on; see `methods.make` for what is not said
    here.

    `objective` is an importable function, `module:function`, see `lib.tuning.work`. `context` is
    handed to every trial and must be JSON; whoever reads data puts their digest there. Of the
    `goals` the first decides which trial is the best; `seconds` is measured.
    """

    space: Space
    method: str
    objective: str
    goals: Mapping[str, str]
    epochs: int = 1
    num_trials: int = 0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)

    def key(self) -> dict[str, Any]:
        """Returns what the journal is known by: the plan, the code of the objective and the version
        of the method's library.
        """
        told = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        library = _LIBRARIES.get(self.method)
        version = f"{library} {importlib.metadata.version(library)}" if library else ""
        code = hashing.module(self.objective.partition(":")[0])
        return {
            **told,
            "goals": list(self.goals.items()),
            "space": self.space.spec(),
            "library": version,
            "code": code,
        }

    def make(self) -> Method:
        """Returns the plan's method, which has proposed nothing yet."""
        return methods.make(
            self.method,
            self.space,
            goals=self.goals,
            epochs=self.epochs,
            num_trials=self.num_trials,
            seed=self.seed,
            options=self.options,
        )


@dataclass
class Found:
    """What a search has found. `complete` is false where the budget ended it; `seconds` counts all
    its sessions.
    """

    plan: Plan
    trials: list[Trial]
    complete: bool
    seconds: float
    method: Method

    @property
    def ranked(self) -> list[Trial]:
        """The best trial of each set of values by the first goal, the best first."""
        goal, direction = next(iter(self.plan.goals.items()))
        return trials.ranked(self.trials, goal, direction)

    @property
    def best(self) -> Trial:
        """The best trial. Raises DarkroomError where every one failed."""
        if not self.ranked:
            kinds = sorted({trial.failure["message"] for trial in self.trials if trial.failure})
            raise DarkroomError(
                f"None of the {len(self.trials)} trials has a score. {' '.join(kinds[:3])}".strip()
            )
        return self.ranked[0]
