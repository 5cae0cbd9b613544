"""Search spaces: named hyperparameters with their choices or ranges, and when each is active.

A space is written as a table, in a study's TOML or in a notebook's parameters:

    optimizer = ["adam", "sgd"]                              # a choice
    dense_units = [[64], [128], [64, 64]]                    # choices may be lists
    learning_rate = {low = 1e-4, high = 1e-1, log = true}    # a range; of integers if both ends are
    momentum = {low = 0.5, high = 0.99, when = {optimizer = ["sgd"]}}

An inactive hyperparameter (here `momentum` when the optimizer is Adam) has no value in the trial.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.errors import DarkroomError, check_choice, suggest

_RANGE = ("low", "high", "step", "log", "when")
_CHOICE = ("choices", "when")
_EDGE = 0.05  # share of a range's scale that counts as its end


@dataclass(frozen=True)
class Hyperparameter:
    """A `choice` among `choices`, or a range of `int` or `float` from `low` to `high` inclusive.

    `when` maps other hyperparameters to the choices with which this one is active; all must hold.
    """

    name: str
    kind: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def is_ordered(self) -> bool:
        """Whether the choices are increasing numbers, so that neighbours are similar."""
        numbers = [choice for choice in self.choices if _is_number(choice)]
        increasing = all(a < b for a, b in itertools.pairwise(numbers))
        return len(numbers) == len(self.choices) > 1 and increasing

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Whether the hyperparameter takes effect together with `values`."""
        return all(
            name in values and values[name] in allowed for name, allowed in self.when.items()
        )

    def points(self, number: int | None = None) -> list[Any]:
        """Returns all values in order; for a range without a step, `number` evenly spaced ones."""
        if self.kind == "choice":
            return list(self.choices)
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            return [self._cast(self.low + index * self.step) for index in range(count)]
        few = number is None or number > self.high - self.low
        if self.kind == "int" and few and not self.log:
            return list(range(int(self.low), int(self.high) + 1))
        if number is None:
            raise DarkroomError(
                f"`{self.name}` is a range without a `step`, so its values cannot be listed. "
                "Give it a step."
            )
        spacing = np.geomspace if self.log else np.linspace
        values = spacing(self.low, self.high, number)
        return list(dict.fromkeys(self._cast(value) for value in values))

    def sample(self, rng: np.random.Generator) -> Any:
        """Returns one value, uniform over the choices or over the range on its scale."""
        if self.kind == "choice":
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.step is not None:
            values = self.points()
            return values[int(rng.integers(len(values)))]
        if self.log:
            return self._cast(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        if self.kind == "int":
            return int(rng.integers(int(self.low), int(self.high) + 1))
        return self._cast(rng.uniform(self.low, self.high))

    def edge(self, value: Any) -> str:
        """Returns `lowest` or `highest` if the value lies at an end, else "".

        Unordered choices have no ends; the outer 5 % of a range's scale count as its end.
        """
        if self.kind == "choice":
            if not self.is_ordered or len(self.choices) < 3:
                return ""
            index, last = self.choices.index(value), len(self.choices) - 1
            return {0: "lowest", last: "highest"}.get(index, "")
        scale = math.log if self.log else float
        low, high, position = (scale(number) for number in (self.low, self.high, value))
        margin = _EDGE * (high - low)
        if position <= low + margin:
            return "lowest"
        return "highest" if position >= high - margin else ""

    def spec(self) -> Any:
        """Returns the hyperparameter as it is written in a table."""
        conditions = {name: list(allowed) for name, allowed in self.when.items()}
        when = {"when": conditions} if conditions else {}
        if self.kind == "choice":
            return {"choices": list(self.choices), **when} if when else list(self.choices)
        step = {"step": self.step} if self.step is not None else {}
        log = {"log": True} if self.log else {}
        return {"low": self.low, "high": self.high, **step, **log, **when}

    def _cast(self, value: float) -> float | int:
        value = min(max(value, self.low), self.high)
        return round(value) if self.kind == "int" else float(value)


@dataclass(frozen=True)
class Space:
    """Hyperparameters, sorted so that each follows those named in its condition."""

    hyperparameters: tuple[Hyperparameter, ...]

    def __getitem__(self, name: str) -> Hyperparameter:
        return next(item for item in self.hyperparameters if item.name == name)

    def __contains__(self, name: str) -> bool:
        return any(item.name == name for item in self.hyperparameters)

    @property
    def names(self) -> list[str]:
        """The names of all hyperparameters."""
        return [item.name for item in self.hyperparameters]

    def spec(self) -> dict[str, Any]:
        """Returns the space as a table; `read` of it returns an equal space."""
        return {item.name: item.spec() for item in self.hyperparameters}

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Returns random values for one trial."""
        values: dict[str, Any] = {}
        for item in self.hyperparameters:
            if item.is_active(values):
                values[item.name] = item.sample(rng)
        return values

    def size(self) -> float:
        """Returns the number of different trials; infinite if a range is continuous."""
        if any(item.kind == "float" and item.step is None for item in self.hyperparameters):
            return math.inf
        named = {name for item in self.hyperparameters for name in item.when}
        parents = [item for item in self.hyperparameters if item.name in named]
        others = [item for item in self.hyperparameters if item.name not in named]
        total = 0
        for values in self._combinations(parents, None):
            active = [item for item in others if item.is_active(values)]
            total += math.prod(_count(item) for item in active)
        return total

    def grid(self, points: int | None = None) -> Iterator[dict[str, Any]]:
        """Yields every combination once, with `points` values of each range without a step."""
        yield from self._combinations(self.hyperparameters, points)

    def at_edge(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Returns which values lie at an end of their range, and at which: lowest or highest."""
        ends = {name: self[name].edge(value) for name, value in values.items() if name in self}
        return {name: end for name, end in ends.items() if end}

    def _combinations(
        self, items: Sequence[Hyperparameter], points: int | None
    ) -> Iterator[dict[str, Any]]:
        if not items:
            yield {}
            return
        *first, last = items
        for values in self._combinations(first, points):
            if not last.is_active(values):
                yield values
                continue
            for value in last.points(points):
                yield {**values, last.name: value}


def read(table: Mapping[str, Any], *, where: str = "the space") -> Space:
    """Returns the space that a table describes.

    Raises DarkroomError for an entry that is neither choices nor a range, has only one value, or
    has a condition that can never hold.
    """
    if not isinstance(table, Mapping) or not table:
        raise DarkroomError(
            f"{where} is empty. Write an entry such as "
            "learning_rate = {low = 1e-4, high = 1e-2, log = true}."
        )
    items = {name: _hyperparameter(name, entry, where) for name, entry in table.items()}
    for item in items.values():
        _check_condition(item, items, where)
    return Space(tuple(_sorted(items, where)))


def _hyperparameter(name: str, entry: Any, where: str) -> Hyperparameter:
    label = f"`{name}` of {where}"
    if isinstance(entry, list | tuple):
        entry = {"choices": list(entry)}
    is_range = isinstance(entry, Mapping) and ("low" in entry or "high" in entry)
    if not isinstance(entry, Mapping) or ("choices" in entry) == is_range:
        raise DarkroomError(
            f"{label} must be a list of choices, or a range {{low = …, high = …}} with an optional "
            f"`step`, `log` or `when`. Received: {entry!r}."
        )
    known = _CHOICE if "choices" in entry else _RANGE
    for option in entry:
        check_choice("option", option, known, where=label)
    when = entry.get("when", {})
    if not isinstance(when, Mapping):
        raise DarkroomError(
            f'`when` of {label} must be a table such as {{optimizer = ["sgd"]}}. '
            f"Received: {when!r}."
        )
    when = {
        parent: tuple(allowed) if isinstance(allowed, list | tuple) else (allowed,)
        for parent, allowed in when.items()
    }
    if "choices" in entry:
        return _choice(name, entry["choices"], when, label)
    return _range(name, entry, when, label)


def _choice(name: str, choices: Any, when: dict[str, tuple], label: str) -> Hyperparameter:
    is_list = isinstance(choices, list | tuple)
    texts = [json.dumps(choice, sort_keys=True) for choice in choices] if is_list else []
    if len(texts) < 2 or len(set(texts)) != len(texts):
        raise DarkroomError(
            f"{label} must offer two or more different choices. Received: {choices!r}."
        )
    return Hyperparameter(name, "choice", choices=tuple(choices), when=when)


def _range(
    name: str, entry: Mapping[str, Any], when: dict[str, tuple], label: str
) -> Hyperparameter:
    low, high, step = entry.get("low"), entry.get("high"), entry.get("step")
    log = entry.get("log", False)
    finite = all(_is_number(end) and math.isfinite(end) for end in (low, high))
    if not finite or not low < high:
        raise DarkroomError(
            f"{label} must go from `low` to a higher `high`. Received: {low!r} to {high!r}."
        )
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise DarkroomError(
            f"{label}: `log = true` needs a `low` above 0 and no `step`. "
            f"Received: low {low!r}, step {step!r}."
        )
    if step is not None and (not _is_number(step) or not 0 < step <= high - low):
        raise DarkroomError(
            f"`step` of {label} must be above 0 and fit into the range. Received: {step!r}."
        )
    integers = isinstance(low, int) and isinstance(high, int) and not isinstance(step, float)
    kind = "int" if integers else "float"
    return Hyperparameter(name, kind, low=low, high=high, step=step, log=log, when=when)


def _check_condition(item: Hyperparameter, items: Mapping[str, Hyperparameter], where: str) -> None:
    for parent, allowed in item.when.items():
        if parent not in items or items[parent].kind != "choice":
            choices = [name for name in items if items[name].kind == "choice"]
            raise DarkroomError(
                f"`{item.name}` of {where} depends on `{parent}`, which is not a choice of the "
                f"space.{suggest(parent, choices)}"
            )
        if unknown := [value for value in allowed if value not in items[parent].choices]:
            raise DarkroomError(
                f"`{item.name}` of {where} depends on {parent} = {unknown[0]!r}, which is not "
                f"among its choices {list(items[parent].choices)!r}."
            )


def _sorted(items: Mapping[str, Hyperparameter], where: str) -> list[Hyperparameter]:
    """Parents first, otherwise in the order of the table."""
    placed: dict[str, Hyperparameter] = {}
    remaining = list(items.values())
    while remaining:
        ready = [item for item in remaining if set(item.when) <= set(placed)]
        if not ready:
            names = ", ".join(item.name for item in remaining)
            raise DarkroomError(f"The conditions of {names} in {where} form a circle.")
        placed |= {item.name: item for item in ready}
        remaining = [item for item in remaining if item.name not in placed]
    return list(placed.values())


def _count(item: Hyperparameter) -> int:
    if item.kind == "int" and item.step is None:
        return int(item.high - item.low) + 1
    return len(item.points())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
