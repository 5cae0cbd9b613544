"""The plan of a search, the interface of search methods, and grid and halving methods."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lib.errors import DarkroomError
from lib.runs import code_digest
from lib.tuning.space import Hyperparameter, Space
from lib.tuning.trials import Trial

OPTUNA = ("tpe", "genetic", "cmaes", "random")
"""Optuna's samplers: they end after `num_trials` trials and can prune."""
WORST = {"max": float("-inf"), "min": float("inf")}
"""The score of a failed trial."""

_MAX_COMBINATIONS = 100_000


@dataclass(frozen=True)
class Plan:
    """Everything that the proposals and scores of a search depend on.

    Args:
        space: what is searched.
        method: one of `methods.METHODS`.
        objective: a function as `module:function`, see `worker`.
        goals: the numbers to optimise, each `max` or `min`; the first decides which trial is best.
            `tpe`, `genetic` and `random` take several. `seconds` is measured.
        epochs: the most epochs of a trial; 1 for objectives without epochs.
        num_trials: the number of different trials, for the methods in `OPTUNA`.
        seed: determines random proposals.
        options: of the method, see its `options`.
        settings: JSON for every trial; a digest of the data belongs there.
    """

    space: Space
    method: str
    objective: str
    goals: Mapping[str, str]
    epochs: int = 1
    num_trials: int = 0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goal(self) -> str:
        """The first goal."""
        return next(iter(self.goals))

    @property
    def direction(self) -> str:
        """The direction of the first goal, `max` or `min`."""
        return self.goals[self.goal]

    def key(self) -> dict[str, Any]:
        """Returns what identifies the search: the plan, the objective's code, the library."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        library = {"hyperband": "keras-tuner", **dict.fromkeys(OPTUNA, "optuna")}.get(self.method)
        module = importlib.util.find_spec(self.objective.partition(":")[0])
        source = Path(module.origin).read_text("utf-8")
        return {
            **values,
            "goals": list(self.goals.items()),
            "space": self.space.spec(),
            "library": f"{library} {importlib.metadata.version(library)}" if library else "",
            "code": code_digest.digest("", [source], {}),
        }


@dataclass(frozen=True)
class Ended:
    """A trial that has ended: one of `scores` a goal, None if it failed or was pruned; its history,
    one of `rows` an epoch. `computed` is false for the copy of an equal trial before it.
    """

    number: int
    scores: Sequence[float] | None
    rows: Sequence[Mapping[str, float]] = ()
    computed: bool = True


class SearchMethod:
    """Proposes trials and learns from their scores.

    Its proposals depend only on its seed and on the sequence of calls, so an interrupted search is
    restored by repeating the calls on a new method.
    """

    options: ClassVar[Mapping[str, tuple[Any, int]]] = {}
    """The default and the least value of each option."""

    slots: int = 0
    """The number of trials that run at once; 0 if that is not known."""

    @classmethod
    def options_of(cls, plan: Plan) -> dict[str, Any]:
        """Returns the plan's options and the defaults of the others."""
        return {name: default for name, (default, _) in cls.options.items()} | {**plan.options}

    @classmethod
    def check(cls, plan: Plan) -> None:
        """Raises DarkroomError for a plan that the method cannot search."""

    @classmethod
    def rounds(cls, plan: Plan) -> list[dict[str, Any]]:
        """Returns the rounds of a search: the number of trials, their first and last epoch."""
        return [{"trials": plan.num_trials, "from epoch": 0, "to epoch": plan.epochs}]

    def ask(self) -> Trial | None:
        """Returns the next trial, numbered 0, 1, 2, …; None if there is none for now."""
        raise NotImplementedError

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Records a trial's scores after an epoch; returns whether to prune the trial."""
        return False

    def tell(self, ended: Ended) -> None:
        """Records that a trial has ended."""
        raise NotImplementedError

    def may_promote(self, number: int) -> bool:
        """Returns whether a later trial may continue this one, so that its checkpoints stay."""
        return False


class _Recorded(SearchMethod):
    """Numbers the trials of a method and keeps their scores; a base of the methods below."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self._options = plan, self.options_of(plan)
        self.trials: list[Trial] = []
        self.scores: dict[int, float] = {}

    def propose(
        self, values: Mapping[str, Any], epochs: int, parent: int | None = None, **about: Any
    ) -> Trial:
        """Returns the next trial and records it."""
        self.trials.append(Trial(len(self.trials), dict(values), epochs, parent, about))
        return self.trials[-1]

    def tell(self, ended: Ended) -> None:
        failed = ended.scores is None
        self.scores[ended.number] = WORST[self.plan.direction] if failed else ended.scores[0]

    def best(self, numbers: Sequence[int]) -> list[int]:
        """Returns the trials by score, best first; of equals the earlier one."""
        sign = -1 if self.plan.direction == "max" else 1
        return sorted(numbers, key=lambda number: (sign * self.scores[number], number))


class Grid(_Recorded):
    """Every combination once, in an order drawn from the seed.

    The random order lets a search that ends early have seen all regions. A range without a step
    contributes `points` values, evenly spaced on its scale.
    """

    options: ClassVar = {"points": (None, 2)}

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        combinations = list_grid(plan.space, self._options["points"])
        order = np.random.default_rng(plan.seed).permutation(len(combinations))
        self._waiting = [combinations[index] for index in order]

    @classmethod
    def check(cls, plan: Plan) -> None:
        """Raises DarkroomError for a range that has no points, or too many combinations."""
        cls.rounds(plan)

    @classmethod
    def rounds(cls, plan: Plan) -> list[dict[str, Any]]:
        """Returns one round of all combinations."""
        num = len(list_grid(plan.space, cls.options_of(plan)["points"]))
        return [{"trials": num, "from epoch": 0, "to epoch": plan.epochs}]

    def ask(self) -> Trial | None:
        """Returns the next combination."""
        if len(self.trials) == len(self._waiting):
            return None
        return self.propose(self._waiting[len(self.trials)], self.plan.epochs)


class Refined(_Recorded):
    """A grid, then `rounds` - 1 grids around the best trial so far, each at least twice as fine.

    Choices keep their best value. The method finds a single maximum; of two it may take the lower.
    """

    options: ClassVar = {"points": (4, 3), "rounds": (3, 1)}

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._points = self._options["points"]
        self._space, self._round = plan.space, 1
        self._seen: set[str] = set()
        self._waiting = self._unseen(plan.space)

    @classmethod
    def check(cls, plan: Plan) -> None:
        """Raises DarkroomError for too many combinations."""
        cls.rounds(plan)

    @classmethod
    def rounds(cls, plan: Plan) -> list[dict[str, Any]]:
        """Returns the grid, and the most trials of the finer grids."""
        points, rounds = (cls.options_of(plan)[name] for name in ("points", "rounds"))
        ranges = [item for item in plan.space.hyperparameters if item.kind != "choice"]
        num = len(list_grid(plan.space, points)) + points ** len(ranges) * (rounds - 1)
        return [{"trials": num, "from epoch": 0, "to epoch": plan.epochs}]

    def ask(self) -> Trial | None:
        """Returns the next combination; a round begins when the previous one has ended."""
        ended = len(self.scores) == len(self.trials)
        if not self._waiting and ended and self._round < self._options["rounds"]:
            self._round += 1
            best = self.best(list(self.scores))[0]
            self._space = self._around(self.trials[best].values)
            self._waiting = self._unseen(self._space)
        if not self._waiting:
            return None
        return self.propose(self._waiting.pop(0), self.plan.epochs, round=self._round)

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


class Halving(_Recorded):
    """Successive halving: `first_trials` trials, of which each rung keeps the best `factor`-th.

    The first trials are the whole grid if that is not larger, otherwise random. A rung begins when
    the previous one has ended. 0 `first_trials` means as many as leave one trial at the top.

    Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016.
    """

    options: ClassVar = {"factor": (3, 2), "first_trials": (0, 1)}

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._rounds = self.rounds(plan)
        self._rung, self._members = 0, []
        values = _first_trials(plan.space, self._rounds[0]["trials"], plan.seed)
        self._waiting: list[tuple[dict[str, Any], int | None]] = [(start, None) for start in values]

    @classmethod
    def rounds(cls, plan: Plan) -> list[dict[str, Any]]:
        """Returns the rungs: a trial ends after `epochs` and its `factor`-ths down to 1."""
        factor, first = (cls.options_of(plan)[name] for name in ("factor", "first_trials"))
        ends = [plan.epochs]
        while ends[0] // factor >= 1:
            ends.insert(0, ends[0] // factor)
        num, start, table = min(first or factor ** (len(ends) - 1), plan.space.size()), 0, []
        for rung, end in enumerate(ends):
            table.append({"rung": rung, "trials": int(num), "from epoch": start, "to epoch": end})
            num, start = max(1, num // factor), end
        return table

    def ask(self) -> Trial | None:
        """Returns the next trial of this rung; the next rung begins when this one has ended."""
        ended = all(number in self.scores for number in self._members)
        if not self._waiting and ended and self._rung + 1 < len(self._rounds):
            kept = self.best(self._members)[: self._rounds[self._rung + 1]["trials"]]
            self._waiting = [(self.trials[number].values, number) for number in kept]
            self._rung, self._members = self._rung + 1, []
        if not self._waiting:
            return None
        values, parent = self._waiting.pop(0)
        self._members.append(len(self.trials))
        end = self._rounds[self._rung]["to epoch"]
        return self.propose(values, end, parent, rung=self._rung)

    def may_promote(self, number: int) -> bool:
        """Returns whether the trial is in the current rung, or chosen for the next one."""
        return number in self._members or any(parent == number for _, parent in self._waiting)


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
