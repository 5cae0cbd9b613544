"""What may be searched: typed keys, each with its values and, where it acts only beside another's
choice, that condition.

A space is written as a table, in a study's TOML or in a notebook's parameters:

    optimizer = ["adam", "sgd"]                              # a choice
    dense_units = [[64], [128], [64, 64]]                    # of lists, too
    learning_rate = {low = 1e-4, high = 1e-1, log = true}    # a range; of whole numbers where both
    ends are whole momentum = {low = 0.5, high = 0.99, when = {optimizer = ["sgd"]}}

A key whose condition does not hold is not in a trial's values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib import hashing
from lib.errors import DarkroomError, suggest
from lib.tuning.hyperparameter import Key

_RANGE = ("low", "high", "step", "log", "when")
_CHOICE = ("choices", "when")


@dataclass(frozen=True)
class Space:
    """Keys in an order in which each comes after those that its condition names."""

    keys: tuple[Key, ...]

    def __getitem__(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name)

    def __contains__(self, name: str) -> bool:
        return any(key.name == name for key in self.keys)

    @property
    def names(self) -> list[str]:
        """The names of all keys."""
        return [key.name for key in self.keys]

    def spec(self) -> dict[str, Any]:
        """Returns the space as a table; `read` of it gives the same space."""
        return {key.name: key.spec() for key in self.keys}

    def digest(self) -> str:
        """Returns a digest of the space, in which the order of keys counts, since methods draw in
        it.
        """
        return hashing.digest(json.dumps(self.spec()))

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns those of the values whose keys act."""
        found: dict[str, Any] = {}
        for key in self.keys:
            if key.name in values and key.acts(found):
                found[key.name] = values[key.name]
        return found

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Returns the values of one trial at random."""
        found: dict[str, Any] = {}
        for key in self.keys:
            if key.acts(found):
                found[key.name] = key.sample(rng)
        return found

    def size(self) -> float:
        """Returns the number of different trials, infinite where a key is continuous."""
        if any(key.kind == "float" and key.step is None for key in self.keys):
            return math.inf
        plain = [key for key in self.keys if not self._decides(key)]
        total = 0
        for values in self._combinations([key for key in self.keys if self._decides(key)], None):
            acting = [key for key in plain if key.acts(values)]
            total += math.prod(_count(key) for key in acting)
        return total

    def grid(self, points: int | None = None) -> Iterator[dict[str, Any]]:
        """Yields every combination once; of ranges without a step `points` values each."""
        yield from self._combinations(self.keys, points)

    def at_edge(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Returns the keys whose value lies at an end of what was searched, with which end:
        `lowest` or `highest`.
        """
        found = {name: self[name].edge(value) for name, value in values.items() if name in self}
        return {name: end for name, end in found.items() if end}

    def _decides(self, key: Key) -> bool:
        return any(key.name in other.when for other in self.keys)

    def _combinations(self, keys: Sequence[Key], points: int | None) -> Iterator[dict[str, Any]]:
        def deeper(place: int, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if place == len(keys):
                yield dict(found)
                return
            key = keys[place]
            if not key.acts(found):
                yield from deeper(place + 1, found)
                return
            for value in key.points(points):
                yield from deeper(place + 1, {**found, key.name: value})

        yield from deeper(0, {})


def read(table: Mapping[str, Any], *, where: str = "the space") -> Space:
    """Returns the space that a table describes.

    Raises DarkroomError for a key that is no choice and no range, has one value alone, or a
    condition that cannot hold.
    """
    if not isinstance(table, Mapping) or not table:
        raise DarkroomError(
            f"{where} holds no key. Write one such as learning_rate = "
            f"{{low = 1e-4, high = 1e-2, log = true}}."
        )
    keys = {name: _key(name, written, where) for name, written in table.items()}
    for key in keys.values():
        _check_condition(key, keys, where)
    return Space(tuple(_sorted(keys, where)))


def _key(name: str, written: Any, where: str) -> Key:
    place = f"`{name}` of {where}"
    if isinstance(written, list | tuple):
        written = {"choices": list(written)}
    if not isinstance(written, Mapping) or ("choices" in written) == (
        "low" in written or "high" in written
    ):
        raise DarkroomError(
            f"{place} must be a list of choices, or a range {{low = …, high = …}} with `step`, "
            "`log` or `when`. "
            f"Received: {written!r}."
        )
    known = _CHOICE if "choices" in written else _RANGE
    for word in written:
        if word not in known:
            raise DarkroomError(
                f"{place} does not know `{word}`.{suggest(word, known)} It knows: "
                f"{', '.join(known)}."
            )
    when = {
        parent: _tuple(allowed)
        for parent, allowed in _table(written.get("when", {}), place).items()
    }
    if "choices" in written:
        return _choice(name, written["choices"], when, place)
    return _range(name, written, when, place)


def _choice(name: str, choices: Any, when: dict[str, tuple], place: str) -> Key:
    told = (
        [json.dumps(each, sort_keys=True) for each in choices]
        if isinstance(choices, list | tuple)
        else []
    )
    if len(told) < 2 or len(set(told)) != len(told):
        raise DarkroomError(
            f"{place} must offer two or more choices, each once. Received: {choices!r}."
        )
    return Key(name, "choice", choices=tuple(choices), when=when)


def _range(name: str, written: Mapping[str, Any], when: dict[str, tuple], place: str) -> Key:
    low, high, step = written.get("low"), written.get("high"), written.get("step")
    log = written.get("log", False)
    numbers = [
        each for each in (low, high) if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    if len(numbers) != 2 or not math.isfinite(low) or not math.isfinite(high) or not low < high:
        raise DarkroomError(
            f"{place} must go from `low` to a higher `high`. Received: {low!r} to {high!r}."
        )
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise DarkroomError(
            f"{place}: `log = true` needs a `low` above 0 and takes no `step`. Received: low "
            f"{low!r}, step {step!r}."
        )
    kind = (
        "int"
        if isinstance(low, int) and isinstance(high, int) and not isinstance(step, float)
        else "float"
    )
    if step is not None and (
        isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step <= high - low
    ):
        raise DarkroomError(
            f"`step` of {place} must be above 0 and fit into the range. Received: {step!r}."
        )
    return Key(name, kind, low=low, high=high, step=step, log=log, when=when)


def _table(when: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(when, Mapping):
        raise DarkroomError(
            f'`when` of {place} must be a table such as {{optimizer = ["sgd"]}}. Received: {when!r}.'
        )
    return when


def _tuple(allowed: Any) -> tuple[Any, ...]:
    return tuple(allowed) if isinstance(allowed, list | tuple) else (allowed,)


def _check_condition(key: Key, keys: Mapping[str, Key], where: str) -> None:
    for parent, allowed in key.when.items():
        if parent not in keys or keys[parent].kind != "choice":
            raise DarkroomError(
                f"`{key.name}` of {where} acts beside `{parent}`, which is no choice of the space."
                f"{suggest(parent, [name for name in keys if keys[name].kind == 'choice'])}"
            )
        if strange := [value for value in allowed if value not in keys[parent].choices]:
            raise DarkroomError(
                f"`{key.name}` of {where} acts beside {parent} = {strange[0]!r}, which is not "
                "among its choices "
                f"{list(keys[parent].choices)!r}."
            )


def _sorted(keys: Mapping[str, Key], where: str) -> list[Key]:
    """Parents first, else as written."""
    found: list[Key] = []
    waiting = list(keys.values())
    while waiting:
        ready = [
            key
            for key in waiting
            if all(parent in [each.name for each in found] for parent in key.when)
        ]
        if not ready:
            raise DarkroomError(
                f"The conditions of {', '.join(key.name for key in waiting)} in {where} go round "
                "in a circle."
            )
        found += ready
        waiting = [key for key in waiting if key not in ready]
    return found


def _count(key: Key) -> int:
    return (
        int(key.high - key.low) + 1 if key.kind == "int" and key.step is None else len(key.points())
    )
