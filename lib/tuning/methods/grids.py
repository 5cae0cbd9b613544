"""Grids: every combination once; and finer grids around the best, where a range has one maximum."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lib.errors import DarkroomError
from lib.tuning.hyperparameter import Key
from lib.tuning.methods.base import Book, Proposal
from lib.tuning.space import Space

_MOST = 100_000


class Grid(Book):
    """Every combination of the space once, in an order drawn from the seed, so that a search cut
    short has looked everywhere.

    Of a range without a step `points` values are taken, evenly spread by its scale.
    """

    def __init__(self, space: Space, *, epochs: int, seed: int, points: int | None = None) -> None:
        super().__init__()
        cells = listed(space, points)
        self._epochs = epochs
        self._waiting = [
            cells[place] for place in np.random.default_rng(seed).permutation(len(cells))
        ]

    def ask(self) -> Proposal | None:
        """Returns the next combination."""
        place = len(self.proposals)
        return (
            self.propose(self._waiting[place], self._epochs) if place < len(self._waiting) else None
        )

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        spent: bool,
    ) -> None:
        """Needs to know nothing."""


class Refined(Book):
    """A grid, then `rounds` - 1 finer ones around the best so far, at least twice as fine each,
    with the best choices kept.

    It finds a maximum that stands alone; of two it may take the lower one.
    """

    def __init__(
        self, space: Space, *, goal: str, epochs: int, points: int = 4, rounds: int = 3
    ) -> None:
        super().__init__()
        self._goal, self._epochs, self._points, self._rounds = goal, epochs, points, rounds
        self._space, self._round = space, 1
        self._seen: set[str] = set()
        self._waiting = self._fresh(space)

    def ask(self) -> Proposal | None:
        """Returns the next combination of this round; the next round begins when all of this one
        have ended.
        """
        if (
            not self._waiting
            and len(self.scores) == len(self.proposals)
            and self._round < self._rounds
        ):
            self._round += 1
            self._space = self._around(
                self.proposals[self.best(list(self.scores), self._goal)[0]].values
            )
            self._waiting = self._fresh(self._space)
        return (
            self.propose(self._waiting.pop(0), self._epochs, round=self._round)
            if self._waiting
            else None
        )

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

    def _fresh(self, space: Space) -> list[dict[str, Any]]:
        told = {
            json.dumps(values, sort_keys=True): values for values in listed(space, self._points)
        }
        fresh = {text: values for text, values in told.items() if text not in self._seen}
        self._seen |= set(fresh)
        return list(fresh.values())

    def _around(self, best: Mapping[str, Any]) -> Space:
        keys = []
        for key in self._space.keys:
            if key.name not in best:
                continue
            kept = replace(key, when={})
            keys.append(
                _fixed(kept, best[key.name])
                if key.kind == "choice"
                else _nearer(kept, best[key.name], self._points)
            )
        return Space(tuple(keys))


def listed(space: Space, points: int | None) -> list[dict[str, Any]]:
    """Returns every combination of the space. Raises DarkroomError for a continuous one without
    `points`, or too many.
    """
    found = []
    for values in space.grid(points):
        found.append(values)
        if len(found) > _MOST:
            raise DarkroomError(
                f"The grid has over {_MOST:,} combinations. Leave keys out, take fewer `points`, "
                "or sample."
            )
    return found


def _fixed(key: Key, value: Any) -> Key:
    return replace(key, kind="choice", choices=(value,))


def _nearer(key: Key, value: Any, points: int) -> Key:
    """The range around a value in which `points` lie at most half as far apart as they do now, and
    no farther than the next.
    """
    there, back = (math.log, math.exp) if key.log else (float, float)
    values = key.points(points)
    place = int(np.argmin([abs(each - value) for each in values]))
    near = [
        abs(there(values[other]) - there(value))
        for other in (place - 1, place + 1)
        if 0 <= other < len(values)
    ]
    width = max(near) * min(1.0, (points - 1) / 4)
    low, high = (back(there(value) + way * width) for way in (-1, 1))
    if key.kind == "float":
        return replace(key, low=max(low, key.low), high=min(high, key.high), step=None)
    low, high = (
        max(math.ceil(low - 1e-9), int(key.low)),
        min(math.floor(high + 1e-9), int(key.high)),
    )
    if high - low < 1:
        return _fixed(key, value)
    return replace(
        key, low=low, high=high, step=None if key.log else max(1, (high - low) // (points - 1))
    )
