"""The interface of search methods, and grid and halving methods without a library."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lib.errors import DarkroomError
from lib.tuning.space import Hyperparameter, Space
from lib.tuning.trials import Trial

WORST = {"max": float("-inf"), "min": float("inf")}
"""The score of a failed trial."""

_MAX_COMBINATIONS = 100_000


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

    def __init__(self, goal: str = "max") -> None:
        self.trials: list[Trial] = []
        self.scores: dict[int, float] = {}
        self._goal = goal

    def propose(
        self, values: Mapping[str, Any], epochs: int, parent: int | None = None, **about: Any
    ) -> Trial:
        """Returns the next trial and records it."""
        self.trials.append(Trial(len(self.trials), dict(values), epochs, parent, about))
        return self.trials[-1]

    def tell(self, ended: Ended) -> None:
        self.scores[ended.number] = WORST[self._goal] if ended.scores is None else ended.scores[0]

    def best(self, numbers: Sequence[int]) -> list[int]:
        """Returns the trials by score, best first; of equals the earlier one."""
        sign = -1 if self._goal == "max" else 1
        return sorted(numbers, key=lambda number: (sign * self.scores[number], number))


class Grid(_Recorded):
    """Every combination once, in an order drawn from the seed.

    The random order lets a search that ends early have seen all regions. A range without a step
    contributes `points` values, evenly spaced on its scale.
    """

    def __init__(self, space: Space, *, epochs: int, seed: int, points: int | None = None) -> None:
        super().__init__()
        combinations = list_grid(space, points)
        order = np.random.default_rng(seed).permutation(len(combinations))
        self._epochs, self._waiting = epochs, [combinations[index] for index in order]

    def ask(self) -> Trial | None:
        """Returns the next combination."""
        if len(self.trials) == len(self._waiting):
            return None
        return self.propose(self._waiting[len(self.trials)], self._epochs)


class Refined(_Recorded):
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

    def ask(self) -> Trial | None:
        """Returns the next combination; a round begins when the previous one has ended."""
        ended = len(self.scores) == len(self.trials)
        if not self._waiting and ended and self._round < self._rounds:
            self._round += 1
            best = self.best(list(self.scores))[0]
            self._space = self._around(self.trials[best].values)
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


class Halving(_Recorded):
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

    def ask(self) -> Trial | None:
        """Returns the next trial of this rung; the next rung begins when this one has ended."""
        ended = all(number in self.scores for number in self._members)
        if not self._waiting and ended and self._rung + 1 < len(self._rungs):
            kept = self.best(self._members)[: max(1, len(self._members) // self._factor)]
            self._waiting = [(self.trials[number].values, number) for number in kept]
            self._rung, self._members = self._rung + 1, []
        if not self._waiting:
            return None
        values, parent = self._waiting.pop(0)
        self._members.append(len(self.trials))
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
