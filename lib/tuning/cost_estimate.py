"""Estimated cost of a search: rounds, trials, epochs, and minutes by measurement."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lib.batch import progress_view
from lib.errors import DarkroomError
from lib.tuning.executors import Pool
from lib.tuning.methods import METHODS
from lib.tuning.search_method import Plan
from lib.tuning.worker import Job

if TYPE_CHECKING:
    import pandas

    from lib.batch.dask_executor import Executor

_EPOCHS = 2
_SAMPLES = 200


class Cost(NamedTuple):
    """The most `trials` of a search, the `epochs` of all of them, and one row a round."""

    trials: int
    epochs: int
    table: pandas.DataFrame


class TrialTime(NamedTuple):
    """The measured seconds of a training: its start-up, and each epoch."""

    startup_s: float
    epoch_s: float


def cost(plan: Plan) -> Cost:
    """Returns the cost of a plan without running its method."""
    import pandas

    table = pandas.DataFrame(METHODS[plan.method].rounds(plan))
    epochs = table["trials"] * (table["to epoch"] - table["from epoch"])
    return Cost(int(table["trials"].sum()), int(epochs.sum()), table)


def measure(plan: Plan, folder: Path, executor: Executor) -> TrialTime:
    """Trains the untuned parameters for two epochs, twice, and returns the time of the second.

    The first training starts the worker process, as no later trial does.
    """
    for number in range(2):
        rows: list[dict[str, float]] = []
        pool = Pool(executor, lambda _, row, rows=rows: bool(rows.append(row)))
        place, checkpoints = str(folder / f"{number}"), str(folder / f"{number}" / "checkpoints")
        goals, settings = list(plan.goals), dict(plan.settings)
        pool.submit(
            Job(plan.objective, number, {}, _EPOCHS, 0, goals, place, checkpoints, settings)
        )
        while not (ended := pool.poll(0.5)):
            pass
    [(_, outcome)] = ended
    # TensorBoard would show these trainings as runs.
    for path in folder.glob("*/events.out.tfevents*"):
        with contextlib.suppress(OSError):  # Windows deletes no file that the worker has open
            path.unlink()
    if outcome["state"] != "finished":
        raise DarkroomError(
            f"The untuned training fails: {outcome['failure']['message']} Correct `base` before "
            "searching."
        )
    epoch_s = min((row["seconds"] for row in rows), default=outcome["seconds"])
    return TrialTime(max(0.0, outcome["seconds"] - len(rows) * epoch_s), epoch_s)


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
