"""One key of a space: its values, how they are drawn, and where their ends are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.errors import DarkroomError


@dataclass(frozen=True)
class Key:
    """One key: a `choice` among `choices`, or a range of `int` or `float` from `low` to `high`,
    both included.
    """

    name: str
    kind: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Choices of other keys beside which this one acts; every one must hold."""

    @property
    def ordered(self) -> bool:
        """Whether its choices are numbers that rise, so that a neighbour is near."""
        numbers = [
            each
            for each in self.choices
            if isinstance(each, int | float) and not isinstance(each, bool)
        ]
        return len(numbers) == len(self.choices) > 1 and all(
            a < b for a, b in itertools.pairwise(numbers)
        )

    def acts(self, values: Mapping[str, Any]) -> bool:
        """Whether the key acts beside these values."""
        return all(
            name in values and values[name] in allowed for name, allowed in self.when.items()
        )

    def points(self, number: int | None = None) -> list[Any]:
        """Returns every value, from low to high; of a range without a step `number` values, evenly
        spread by its scale.
        """
        if self.kind == "choice":
            return list(self.choices)
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            return [self._typed(self.low + place * self.step) for place in range(count)]
        if (
            self.kind == "int"
            and (number is None or number > self.high - self.low)
            and not self.log
        ):
            return list(range(int(self.low), int(self.high) + 1))
        if number is None:
            raise DarkroomError(
                f"`{self.name}` is a range without a `step`, so it has no list of values. Give it "
                "a step."
            )
        spread = np.geomspace if self.log else np.linspace
        return list(
            dict.fromkeys(self._typed(each) for each in spread(self.low, self.high, number))
        )

    def sample(self, rng: np.random.Generator) -> Any:
        """Returns one value at random, evenly over the choices or over the range by its scale."""
        if self.kind == "choice":
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.step is not None:
            found = self.points()
            return found[int(rng.integers(len(found)))]
        if self.log:
            return self._typed(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        if self.kind == "int":
            return int(rng.integers(int(self.low), int(self.high) + 1))
        return self._typed(rng.uniform(self.low, self.high))

    def edge(self, value: Any) -> str:
        """Returns `lowest` or `highest` where the value lies at an end of the range or of rising
        choices, else "".

        Of a range the outer twentieth of its scale is the end.
        """
        if self.kind == "choice":
            if not self.ordered or len(self.choices) < 3:
                return ""
            place, last = self.choices.index(value), len(self.choices) - 1
            return {0: "lowest", last: "highest"}.get(place, "")
        scale = math.log if self.log else float
        low, high, at = (scale(each) for each in (self.low, self.high, value))
        margin = 0.05 * (high - low)
        return "lowest" if at <= low + margin else "highest" if at >= high - margin else ""

    def spec(self) -> Any:
        """Returns the key as it is written in a table."""
        when = (
            {"when": {name: list(allowed) for name, allowed in self.when.items()}}
            if self.when
            else {}
        )
        if self.kind == "choice":
            return {"choices": list(self.choices), **when} if when else list(self.choices)
        step = {"step": self.step} if self.step is not None else {}
        return {
            "low": self.low,
            "high": self.high,
            **step,
            **({"log": True} if self.log else {}),
            **when,
        }

    def _typed(self, value: float) -> float | int:
        value = min(max(value, self.low), self.high)
        return round(value) if self.kind == "int" else float(value)
