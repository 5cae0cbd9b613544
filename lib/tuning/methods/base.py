"""What every search method is: it is asked for a trial, told how it goes, and told what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

WORST = {"max": float("-inf"), "min": float("inf")}
"""What a method is told of a trial that failed: it has happened, and nobody shall go there again.
"""


@dataclass(frozen=True)
class Proposal:
    """A trial to be done: `values` for the keys that act, to be trained up to `epochs` in all.

    `parent` is the trial that it goes on with, from where that one stopped. `about` says why it is
    proposed.
    """

    number: int
    values: dict[str, Any]
    epochs: int
    parent: int | None = None
    about: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A way to search. What it proposes follows from its seed and from what it was asked and told,
    in that order, alone; so a search that was killed is brought back by asking and telling a fresh
    method the same.
    """

    def ask(self) -> Proposal | None:
        """Returns the next trial, numbered 0, 1, 2, …; None when there is none, or none before more
        is told.
        """

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Takes notice of a trial's scores after an epoch; returns whether it is hopeless and shall
        be stopped.
        """

    def tell(
        self,
        number: int,
        scores: Sequence[float] | None,
        rows: Sequence[Mapping[str, float]],
        *,
        spent: bool,
    ) -> None:
        """Takes notice that a trial has ended.

        `scores` are one number a goal, None where it failed or was pruned; `rows` are its epochs;
        `spent` is false where nothing was computed, because the same trial had been done before.
        """

    def may_promote(self, number: int) -> bool:
        """Returns whether a trial that has ended may still be gone on with, so that its checkpoints
        are needed.
        """


class Book:
    """Numbers the proposals of a method and knows which are open; a base for methods of our own."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.scores: dict[int, float] = {}

    def propose(
        self, values: Mapping[str, Any], epochs: int, parent: int | None = None, **about: Any
    ) -> Proposal:
        """Returns the next proposal and notes it."""
        self.proposals.append(Proposal(len(self.proposals), dict(values), epochs, parent, about))
        return self.proposals[-1]

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Never stops a trial."""
        return False

    def may_promote(self, number: int) -> bool:
        """Promotes no trial."""
        return False

    def note(self, number: int, scores: Sequence[float] | None, goal: str) -> None:
        """Notes the score of a trial that has ended, the worst of all where it failed."""
        self.scores[number] = WORST[goal] if scores is None else scores[0]

    def best(self, numbers: Sequence[int], goal: str) -> list[int]:
        """Returns the trials sorted by score, the best first; of equals the earlier."""
        return sorted(
            numbers, key=lambda number: ((-1 if goal == "max" else 1) * self.scores[number], number)
        )
