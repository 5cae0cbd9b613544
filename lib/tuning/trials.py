"""The trials of a search, as records and as tables."""

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
"""`open` trials have not ended; `copied` ones have the scores of an equal trial before them."""


@dataclass
class Trial:
    """One trial; `rows` is its history, without the epochs of its `parent`.

    `scores` holds the goals, `metrics` the other numbers that the objective returned.
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

    @property
    def has_scores(self) -> bool:
        """Whether the trial finished, or was copied from one that did."""
        return self.state in ("finished", "copied")


def root(trials: Sequence[Trial], number: int) -> int:
    """Returns the first ancestor of a trial; descendants share its checkpoints."""
    while (parent := trials[number].parent) is not None:
        number = parent
    return number


def ranked(trials: Sequence[Trial], goal: str, direction: str) -> list[Trial]:
    """Returns the best trial of each combination of values, best first.

    Of equal scores the longer training comes first, then the earlier trial.
    """
    sign = -1 if direction == "max" else 1
    scored = [trial for trial in trials if trial.has_scores and math.isfinite(trial.scores[goal])]
    scored.sort(key=lambda trial: (sign * trial.scores[goal], -trial.epochs, trial.number))
    best: list[Trial] = []
    for trial in scored:
        if all(trial.values != other.values for other in best):
            best.append(trial)
    return best


def pareto_front(trials: Sequence[Trial], goals: Mapping[str, str]) -> list[Trial]:
    """Returns the trials that no other one dominates, best by the first goal first."""
    signs = [-1 if direction == "max" else 1 for direction in goals.values()]
    finished = [trial for trial in trials if trial.state == "finished"]

    def costs(trial: Trial) -> tuple[float, ...]:
        return tuple(sign * trial.scores[goal] for sign, goal in zip(signs, goals, strict=True))

    def is_dominated(trial: Trial) -> bool:
        own = costs(trial)
        return any(
            costs(other) != own and all(a <= b for a, b in zip(costs(other), own, strict=True))
            for other in finished
        )

    return sorted((trial for trial in finished if not is_dominated(trial)), key=costs)


def table(trials: Sequence[Trial]) -> pandas.DataFrame:
    """Returns one row a trial: values, epochs, state, scores, seconds and class of failure."""
    import pandas

    # Hyperparameters that only some trials have get a column too.
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    rows = []
    for trial in trials:
        values = {name: _plain(trial.values.get(name)) for name in names}
        row = {"trial": trial.number, **values, **trial.about}
        row |= {"epochs": trial.epochs, "parent": trial.parent, "state": trial.state}
        failure = (trial.failure or {}).get("kind", "")
        rows.append({**row, **trial.scores, "seconds": trial.seconds, "failure": failure})
    return pandas.DataFrame(rows).convert_dtypes() if rows else pandas.DataFrame()


def display_table(trials: Sequence[Trial]) -> pandas.DataFrame:
    """Returns `table` for reading: four digits, blanks for missing values, no empty columns."""
    frame = table(trials)
    if frame.empty:
        return frame
    is_empty = frame.isna() | (frame == "")
    frame = frame.loc[:, ~is_empty.all()].set_index("trial")
    rounded = frame.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    return rounded.astype(object).where(frame.notna(), "")


def space_table(space: Space) -> pandas.DataFrame:
    """Returns one row a hyperparameter: its values, and when it is active."""
    import pandas

    rows = []
    for item in space.hyperparameters:
        scale = ", log scale" if item.log else f", step {item.step:g}" if item.step else ""
        is_choice = item.kind == "choice"
        values = (
            ", ".join(map(str, item.choices)) if is_choice else f"{item.low:g} to {item.high:g}"
        )
        conditions = [f"{name} is {' or '.join(map(str, at))}" for name, at in item.when.items()]
        rows.append(
            {
                "hyperparameter": item.name,
                "values": values + ("" if is_choice else scale),
                "active when": " and ".join(conditions) or "always",
            }
        )
    return pandas.DataFrame(rows).set_index("hyperparameter")


def epoch_table(trials: Sequence[Trial]) -> pandas.DataFrame:
    """Returns one row a trial and epoch: the trial's row of `table`, and `epoch_*` numbers.

    A trial without reported epochs has one row with an empty `epoch`.
    """
    import pandas

    whole = table(trials)
    if whole.empty:
        return whole
    rows = [{"trial": trial.number, **row} for trial in trials for row in trial.rows or [{}]]
    named = {
        name: f"epoch_{name}" for row in rows for name in row if name not in ("trial", "epoch")
    }
    epochs = pandas.DataFrame(rows).rename(columns=named).convert_dtypes()
    return whole.merge(epochs, on="trial", how="left")


def format_value(value: Any) -> str:
    """Returns a value as text: three digits of a float, JSON of anything but a string."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
