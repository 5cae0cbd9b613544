"""Successive halving: many trials for little each, the better part of them for more, until the best
have had all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lib.tuning.methods.base import Book, Proposal
from lib.tuning.methods.grids import listed
from lib.tuning.space import Space


def rungs(epochs: int, factor: int) -> list[int]:
    """Returns what a trial has cost after each rung: `epochs`, a `factor`-th of it and so on down
    to 1, the least first.
    """
    found = [epochs]
    while found[0] // factor >= 1:
        found.insert(0, found[0] // factor)
    return found


class Halving(Book):
    """`first_trials` trials at the lowest rung, of which each rung keeps the best `factor`-th, at
    least one.

    The first ones are the whole grid where that is no larger, else they are drawn. A rung begins
    when all of the one before have ended. `first_trials` 0 takes as many as leave one trial at the
    top.

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
        super().__init__()
        self._goal, self._factor = goal, factor
        self._rungs = rungs(epochs, factor)
        self._rung, self._members = 0, []
        first = _first(space, first_trials or factor ** (len(self._rungs) - 1), seed)
        self._waiting: list[tuple[dict[str, Any], int | None]] = [
            (values, None) for values in first
        ]

    def ask(self) -> Proposal | None:
        """Returns the next trial of this rung; those of the next follow when all of this one have
        ended.
        """
        if (
            not self._waiting
            and self._rung + 1 < len(self._rungs)
            and all(number in self.scores for number in self._members)
        ):
            kept = self.best(self._members, self._goal)[
                : max(1, len(self._members) // self._factor)
            ]
            self._waiting = [(self.proposals[number].values, number) for number in kept]
            self._rung, self._members = self._rung + 1, []
        if not self._waiting:
            return None
        values, parent = self._waiting.pop(0)
        self._members.append(len(self.proposals))
        return self.propose(values, self._rungs[self._rung], parent, rung=self._rung)

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        spent: bool,
    ) -> None:
        """Notes the score."""
        self.note(number, scores, self._goal)

    def may_promote(self, number: int) -> bool:
        """Returns whether the trial is of the rung at work, or chosen for the next one and not
        begun there.
        """
        return number in self._members or any(parent == number for _, parent in self._waiting)


def _first(space: Space, number: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    if space.size() <= number:
        return listed(space, None)
    found: list[dict[str, Any]] = []
    while len(found) < number:
        drawn = space.sample(rng)
        if drawn not in found:
            found.append(drawn)
    return found
