"""Estimated cost of a search: rounds, trials, epochs, and minutes by measurement."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.batch import progress_view
from lib.errors import DarkroomError
from lib.tuning.executors import Pool
from lib.tuning.hyperband import rounds
from lib.tuning.search import Plan
from lib.tuning.search_method import list_grid, rungs
from lib.tuning.worker import Job

if TYPE_CHECKING:
    import pandas

    from lib.batch.executor import Executor

_EPOCHS = 2
_SAMPLES = 200


@dataclass(frozen=True)
class Cost:
    """The most `trials` of a search, the `epochs` of all of them, and one row a round."""

    trials: int
    epochs: int
    rounds: tuple[Mapping[str, Any], ...]

    @property
    def table(self) -> pandas.DataFrame:
        """One row a round: number of trials, first and last epoch."""
        import pandas

        columns = {"from": "from epoch", "to": "to epoch"}
        return pandas.DataFrame(list(self.rounds)).rename(columns=columns)


@dataclass(frozen=True)
class TrialTime:
    """The measured seconds of a training: its start-up, and each epoch."""

    startup_s: float
    epoch_s: float


def cost(plan: Plan) -> Cost:
    """Returns the cost of a plan without running its method."""
    options, epochs = plan.options, plan.epochs
    if plan.method == "hyperband":
        table = [
            {
                "bracket": row.bracket,
                "round": row.round,
                "trials": row.trials,
                "from": row.initial_epoch,
                "to": row.epochs,
            }
            for row in rounds(epochs, options.get("factor", 3))
        ] * options.get("iterations", 1)
    elif plan.method == "halving":
        table = _halving_rounds(plan)
    else:
        table = [{"trials": _num_trials(plan), "from": 0, "to": epochs}]
    total = sum(row["trials"] * (row["to"] - row["from"]) for row in table)
    return Cost(sum(row["trials"] for row in table), total, tuple(table))


def measure(plan: Plan, folder: Path, executor: Executor) -> TrialTime:
    """Trains the untuned parameters for two epochs, twice, and returns the time of the second.

    The first training starts the worker process, as no later trial does.
    """
    epochs: list[list[dict[str, float]]] = [[], []]
    pool = Pool(executor, lambda number, row: bool(epochs[number].append(row)), num_parallel=1)
    for number in range(2):
        place = folder / f"{number}"
        job = Job(
            plan.objective,
            number,
            {},
            _EPOCHS,
            0,
            list(plan.goals),
            str(place),
            str(place / "checkpoints"),
            dict(plan.settings),
        )
        outcome = _run(pool, job)
    # TensorBoard would show these trainings as runs.
    for path in folder.glob("*/events.out.tfevents*"):
        with contextlib.suppress(OSError):  # Windows deletes no file that the worker has open
            path.unlink()
    if outcome["state"] != "finished":
        raise DarkroomError(
            f"The untuned training fails: {outcome['failure']['message']} Correct `base` before "
            "searching."
        )
    epoch_s = min((row["seconds"] for row in epochs[1]), default=outcome["seconds"])
    return TrialTime(max(0.0, outcome["seconds"] - len(epochs[1]) * epoch_s), epoch_s)


def minutes(plan: Plan, time: TrialTime, *, slots: int) -> float:
    """Returns the estimated minutes of a search with `slots` trials in parallel.

    If image sides are searched, an epoch costs in proportion to the number of pixels.
    """
    whole, growth = cost(plan), 1.0
    base = plan.settings.get("base", {})
    if "image_side" in plan.space and "image_side" in base:
        rng, own = np.random.default_rng(0), base["image_side"]
        sides = [plan.space.sample(rng).get("image_side", own) for _ in range(_SAMPLES)]
        growth = float(np.mean([(side / own) ** 2 for side in sides]))
    seconds = whole.trials * time.startup_s + whole.epochs * growth * time.epoch_s
    return seconds / 60 / max(1, min(slots, whole.trials))


def sentence(plan: Plan, time: TrialTime, *, slots: int, budget_minutes: float = 0) -> str:
    """Returns the estimate in words, and whether the budget is enough."""
    whole, needed = cost(plan), minutes(plan, time, slots=slots)
    at_most = "" if plan.method in ("hyperband", "halving", "grid") else "at most "
    lines = [
        f"{plan.method} over {', '.join(plan.space.names)}: {at_most}{whole.trials} trials, "
        f"{at_most}{whole.epochs} epochs, {slots} in parallel.",
        f"One training took {time.startup_s:.1f} s to start and {time.epoch_s:.1f} s an epoch, so "
        f"the search takes about {progress_view.spoken(60 * needed)}.",
    ]
    if budget_minutes:
        budget = progress_view.spoken(60 * budget_minutes)
        if needed <= budget_minutes:
            lines.append(f"The budget of {budget} is enough.")
        else:
            share = 100 * budget_minutes / needed
            lines.append(
                f"The budget of {budget} is not enough: the search will stop after about "
                f"{share:.0f} % and can be continued."
            )
    return "\n".join(lines)


def _halving_rounds(plan: Plan) -> list[dict[str, Any]]:
    factor = plan.options.get("factor", 3)
    steps = rungs(plan.epochs, factor)
    first = plan.options.get("first_trials", 0) or factor ** (len(steps) - 1)
    number, initial_epoch, table = int(min(first, plan.space.size())), 0, []
    for rung, end in enumerate(steps):
        table.append({"rung": rung, "trials": number, "from": initial_epoch, "to": end})
        number, initial_epoch = max(1, number // factor), end
    return table


def _num_trials(plan: Plan) -> int:
    if plan.method == "grid":
        return len(list_grid(plan.space, plan.options.get("points")))
    if plan.method == "refined":
        points = plan.options.get("points", 4)
        ranges = [item for item in plan.space.hyperparameters if item.kind != "choice"]
        later = math.prod([points] * len(ranges)) * (plan.options.get("rounds", 3) - 1)
        return len(list_grid(plan.space, points)) + later
    return plan.num_trials


def _run(pool: Pool, job: Job) -> dict[str, Any]:
    pool.submit(job)
    while not (ended := pool.poll(0.5)):
        pass
    return ended[0][1]
