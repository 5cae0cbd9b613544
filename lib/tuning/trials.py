"""What a search has found: its trials, as records and as tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from lib.tuning.space import Space

STATES = ("open", "finished", "pruned", "failed", "copied")
"""`open`: proposed, and not ended yet; `copied`: the same had been done before, and its scores
hold.
"""


@dataclass
class Trial:
    """One trial. `rows` has one mapping an epoch, of this trial alone where it goes on with its
    `parent`.
    """

    number: int
    values: dict[str, Any]
    epochs: int
    parent: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    state: str = "open"
    scores: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    failure: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    """Whatever else the objective told of it."""

    @property
    def done(self) -> bool:
        """Whether it has scores."""
        return self.state in ("finished", "copied")


def root(trials: Sequence[Trial], number: int) -> int:
    """Returns the first trial of the chain that trial `number` goes on with; all of a chain share
    checkpoints.
    """
    while (parent := trials[number].parent) is not None:
        number = parent
    return number


def ranked(trials: Sequence[Trial], goal: str, direction: str) -> list[Trial]:
    """Returns the best trial of each set of values, the best first; of equals the one trained
    longer, then the earlier.
    """
    sign = -1 if direction == "max" else 1
    done = [trial for trial in trials if trial.done and math.isfinite(trial.scores[goal])]
    done.sort(key=lambda trial: (sign * trial.scores[goal], -trial.epochs, trial.number))
    found: list[Trial] = []
    for trial in done:
        if all(trial.values != other.values for other in found):
            found.append(trial)
    return found


def front(trials: Sequence[Trial], goals: Mapping[str, str]) -> list[Trial]:
    """Returns the trials that no other one beats in every goal at once, by the first goal, the best
    first.
    """
    signs = [-1 if direction == "max" else 1 for direction in goals.values()]

    def cost(trial: Trial) -> tuple[float, ...]:
        return tuple(sign * trial.scores[goal] for sign, goal in zip(signs, goals, strict=True))

    done = [trial for trial in trials if trial.state == "finished"]
    found = [
        trial
        for trial in done
        if not any(
            cost(other) != cost(trial)
            and all(a <= b for a, b in zip(cost(other), cost(trial), strict=True))
            for other in done
        )
    ]
    return sorted(found, key=cost)


def table(trials: Sequence[Trial]) -> pandas.DataFrame:
    """Returns one row a trial: what was proposed, its state, its scores, its seconds and why it
    failed.
    """
    import pandas

    rows = []
    names = dict.fromkeys(
        name for trial in trials for name in trial.values
    )  # those that only some have, beside the others
    for trial in trials:
        told = {name: _shown(trial.values.get(name)) for name in names}
        row = {
            "trial": trial.number,
            **told,
            **trial.about,
            "epochs": trial.epochs,
            "parent": trial.parent,
        }
        failure = (trial.failure or {}).get("kind", "")
        rows.append(
            {
                **row,
                "state": trial.state,
                **trial.scores,
                "seconds": trial.seconds,
                "failure": failure,
            }
        )
    return pandas.DataFrame(rows).convert_dtypes() if rows else pandas.DataFrame()


def shown(trials: Sequence[Trial]) -> pandas.DataFrame:
    """Returns `table` for people: four digits, nothing in the place of what is not, and no column
    without a value.
    """
    found = table(trials)
    if found.empty:
        return found
    empty = [name for name in found.columns if (found[name].isna() | (found[name] == "")).all()]
    told = found.drop(columns=empty).set_index("trial")
    return (
        told.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
        .astype(object)
        .where(told.notna(), "")
    )


def keys(space: Space) -> pandas.DataFrame:
    """Returns one row a key of the space: its values, and the condition under which it acts."""
    import pandas

    rows = []
    for key in space.keys:
        scale = ", by its logarithm" if key.log else f", by {key.step:g}" if key.step else ""
        values = (
            ", ".join(map(str, key.choices))
            if key.kind == "choice"
            else f"{key.low:g} to {key.high:g}{scale}"
        )
        when = " and ".join(
            f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in key.when.items()
        )
        rows.append({"key": key.name, "values": values, "acts when": when or "always"})
    return pandas.DataFrame(rows).set_index("key")


def by_epoch(trials: Sequence[Trial]) -> pandas.DataFrame:
    """Returns one row a trial and epoch, `trials.csv`: the trial's row of `table`, and what was
    measured after the epoch.

    A trial that has reported no epoch, because it failed or has none, has one row with an empty
    `epoch`.
    """
    import pandas

    whole = table(trials)
    if whole.empty:
        return whole
    rows = [
        {
            "trial": trial.number,
            **{name if name == "epoch" else f"epoch_{name}": value for name, value in row.items()},
        }
        for trial in trials
        for row in (trial.rows or [{}])
    ]
    return whole.merge(pandas.DataFrame(rows).convert_dtypes(), on="trial", how="left")


def told(value: Any) -> str:
    """Returns a value as text, a number with three digits, all else but words as JSON."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
