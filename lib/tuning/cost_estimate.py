"""What a search will cost, told before it starts: its rounds, trials and epochs, and the minutes by
a measured training.
"""

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
from lib.tuning import executors
from lib.tuning.methods.grids import listed
from lib.tuning.methods.halving import rungs
from lib.tuning.methods.hyperband import rounds
from lib.tuning.plan import Plan
from lib.tuning.worker import Job

if TYPE_CHECKING:
    import pandas

    from lib.batch.executor import Executor

_PROBE_EPOCHS = 2
_DRAWS = 200


@dataclass(frozen=True)
class Cost:
    """What a search comes to: `trials` at most, `epochs` of all of them together, and one row a
    round.
    """

    trials: int
    epochs: int
    rounds: tuple[Mapping[str, Any], ...]

    @property
    def table(self) -> pandas.DataFrame:
        """One row a round: how many trials, from which epoch to which."""
        import pandas

        return pandas.DataFrame(list(self.rounds)).rename(
            columns={"from": "from epoch", "to": "to epoch"}
        )


@dataclass(frozen=True)
class Measured:
    """The seconds of one training on this machine: what each trial costs before its first epoch,
    and each epoch.
    """

    begin_s: float
    epoch_s: float


def cost(plan: Plan) -> Cost:
    """Returns what a plan comes to, without asking its method."""
    options, epochs = plan.options, plan.epochs
    if plan.method == "hyperband":
        found = [
            {
                "bracket": each.bracket,
                "round": each.round,
                "trials": each.trials,
                "from": each.initial_epoch,
                "to": each.epochs,
            }
            for each in rounds(epochs, options.get("factor", 3))
        ] * options.get("iterations", 1)
    elif plan.method == "halving":
        found = _halving(plan)
    else:
        found = [{"trials": _number(plan), "from": 0, "to": epochs}]
    total = sum(each["trials"] * (each["to"] - each["from"]) for each in found)
    return Cost(sum(each["trials"] for each in found), total, tuple(found))


def measure(plan: Plan, folder: Path, executor: Executor) -> Measured:
    """Trains the untuned parameters for two epochs, as a trial would, and returns what that took;
    once a folder.
    """
    heard: list[list[dict[str, float]]] = [[], []]
    workers = executors.Workers(
        executor, lambda number, row: bool(heard[number].append(row)), at_once=1
    )
    for number in range(2):  # the first has to start a process; the second is as all that follow
        where = folder / f"{number}"
        outcome = _awaited(
            workers,
            Job(
                plan.objective,
                number,
                {},
                _PROBE_EPOCHS,
                0,
                list(plan.goals),
                str(where),
                str(where / "checkpoints"),
                dict(plan.context),
            ),
        )
    for curves in folder.glob(
        "*/events.out.tfevents*"
    ):  # TensorBoard would show them as runs, and they are nobody's result
        with contextlib.suppress(OSError):  # Windows deletes no file that the worker holds
            curves.unlink()
    if outcome["state"] != "finished":
        raise DarkroomError(
            f"The untuned training fails: {outcome['failure']['message']} Mend `base` before "
            "searching."
        )
    epoch_s = min((row["seconds"] for row in heard[1]), default=outcome["seconds"])
    return Measured(max(0.0, outcome["seconds"] - len(heard[1]) * epoch_s), epoch_s)


def minutes(plan: Plan, measured: Measured, *, slots: int) -> float:
    """Returns the minutes that a search will take with so many trials at once; larger image sides
    count by their pixels.
    """
    whole = cost(plan)
    shared = plan.context.get("base", {})
    growth = 1.0
    if "image_side" in plan.space and "image_side" in shared:
        rng = np.random.default_rng(0)
        sides = [
            plan.space.sample(rng).get("image_side", shared["image_side"]) for _ in range(_DRAWS)
        ]
        growth = float(np.mean([(side / shared["image_side"]) ** 2 for side in sides]))
    seconds = whole.trials * measured.begin_s + whole.epochs * growth * measured.epoch_s
    return seconds / 60 / max(1, min(slots, whole.trials))


def sentence(plan: Plan, measured: Measured, *, slots: int, budget_minutes: float = 0) -> str:
    """Returns the forecast in words, and whether the budget is enough."""
    whole, needed = cost(plan), minutes(plan, measured, slots=slots)
    most = "" if plan.method in ("hyperband", "halving", "grid") else "at most "
    told = [
        f"{plan.method} over {', '.join(plan.space.names)}: {most}{whole.trials} trials, "
        f"{most}{whole.epochs} epochs, "
        f"{slots} at once.",
        f"One training took {measured.begin_s:.1f} s to begin and {measured.epoch_s:.1f} s an "
        "epoch, so the search takes about "
        f"{progress_view.spoken(60 * needed)}.",
    ]
    if budget_minutes:
        enough = needed <= budget_minutes
        rest = (
            ""
            if enough
            else f" It will end after about {100 * budget_minutes / needed:.0f} % of that, and can go on later."
        )
        told.append(
            f"The budget is {progress_view.spoken(60 * budget_minutes)}: "
            f"{'enough' if enough else 'not enough'}.{rest}"
        )
    return "\n".join(told)


def _halving(plan: Plan) -> list[dict[str, Any]]:
    steps, factor = rungs(plan.epochs, plan.options.get("factor", 3)), plan.options.get("factor", 3)
    wanted = plan.options.get("first_trials", 0) or factor ** (len(steps) - 1)
    number, before, found = int(min(wanted, plan.space.size())), 0, []
    for place, until in enumerate(steps):
        found.append({"rung": place, "trials": number, "from": before, "to": until})
        number, before = max(1, number // factor), until
    return found


def _number(plan: Plan) -> int:
    if plan.method == "grid":
        return len(listed(plan.space, plan.options.get("points")))
    if plan.method == "refined":
        points = plan.options.get("points", 4)
        numbers = [key for key in plan.space.keys if key.kind != "choice"]
        later = math.prod([points] * len(numbers)) * (plan.options.get("rounds", 3) - 1)
        return len(listed(plan.space, points)) + later
    return plan.num_trials


def _awaited(workers: executors.Workers, job: Job) -> dict[str, Any]:
    workers.submit(job)
    while not (ended := workers.poll(0.5)):
        pass
    return ended[0][1]
