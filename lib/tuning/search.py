"""A search: asks its method for trials, has them computed, and notes everything in its journal
before anything follows from it.

    found = search.run(Plan(space=space.read({"x": {"low": 0.0, "high": 1.0}}), method="tpe",
                            objective="module:function", goals={"score": "max"}, num_trials=30),
                            folder=folder) found.best.values

Killed at any moment and called again with the same plan it goes on: finished trials are not
repeated, open ones go on from their checkpoints. Another plan in the same folder is refused.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.batch.executor import Executor
from lib.errors import DarkroomError
from lib.tuning import event_log as journals
from lib.tuning import trials, work
from lib.tuning.executors import Hands, Needs, Own, Workers
from lib.tuning.plan import Found, Plan
from lib.tuning.record import Record
from lib.tuning.trials import Trial
from lib.tuning.worker import Job

Watch = Callable[[list[Trial], Trial], None]
_POLL_S = 0.1
_GRACE_S = 60.0


def run(
    plan: Plan,
    folder: Path | None = None,
    *,
    checkpoint_folder: Path | None = None,
    keep_checkpoints: bool = False,
    executor: Executor | None = None,
    at_once: int | None = None,
    needs: Needs | None = None,
    budget_minutes: float | None = None,
    watch: Watch | None = None,
) -> Found:
    """Searches until the method proposes no more or the budget is used up, and returns what was
    found.

    Args:
        plan: what is searched, and how.
        folder: where the journal and the folders of the trials lie; None keeps the journal in
            memory and writes nothing. checkpoint_folder: where trials keep what resume and
            promotion need; `folder`/checkpoints where None. keep_checkpoints: leave there what no
            trial needs any more; else a loser's go as soon as it cannot be promoted. executor: whose
            workers compute the trials, isolated and several at once; None computes them in this
            process. at_once: how many trials at the same time; as many as the executor has slots
            where None. needs: what a trial takes of its machine. budget_minutes: of all sessions
            together. A trial at work when they are over stops after its epoch and stays open.
            watch: called with all trials and the one that has just ended.

    Raises:
        DarkroomError: for a plan that cannot be, or a folder that holds another search.
    """
    if executor is not None and folder is None:
        raise DarkroomError(
            "Trials in processes of their own need a `folder`, in which they lay down what came of "
            "them."
        )
    if budget_minutes is not None and budget_minutes <= 0:
        raise DarkroomError(f"`budget_minutes` must be above 0. Received: {budget_minutes}.")
    work.find(plan.objective)
    with journals.holding(folder):
        search = _Search(plan, folder, checkpoint_folder, watch, keep_checkpoints=keep_checkpoints)
        hands = (
            Own(search.hear)
            if executor is None
            else Workers(executor, search.hear, at_once=at_once, needs=needs)
        )
        return search.run(hands, budget_minutes)


def read(plan: Plan, folder: Path) -> Found:
    """Returns what a search has found so far; nothing is computed or written."""
    record = Record(plan, folder)
    record.replay()
    return record.found(complete=False)


class _Search:
    """Has the trials of a record computed, and clears away what they leave."""

    def __init__(
        self,
        plan: Plan,
        folder: Path | None,
        checkpoint_folder: Path | None,
        watch: Watch | None,
        *,
        keep_checkpoints: bool,
    ) -> None:
        self._plan, self._record = plan, Record(plan, folder)
        self._folder, self._watch = folder, watch
        self._checkpoints = checkpoint_folder or (folder and folder / "checkpoints")
        self._keeps = keep_checkpoints or self._checkpoints is None
        self._cleared: set[int] = set()
        self._deadline = math.inf
        self._over = False

    def run(self, hands: Hands, budget_minutes: float | None) -> Found:
        record = self._record
        record.journal.begin(self._plan.key())
        record.replay()
        if budget_minutes is not None:
            self._deadline = time.monotonic() + 60 * budget_minutes - record.journal.seconds()
        waiting = [trial for trial in record.trials if trial.state == "open"]
        at_work: set[int] = set()
        try:
            while True:
                while (
                    not self._is_over()
                    and len(at_work) < hands.slots
                    and (trial := self._next(waiting)) is not None
                ):
                    if self._begin(trial, hands):
                        at_work.add(trial.number)
                self._clear()
                if not at_work:
                    break
                if self._over:
                    self._call_off(at_work, hands)
                for number, outcome in hands.poll(_POLL_S):
                    at_work.discard(number)
                    self._end(record.trials[number], outcome)
        except BaseException:
            for number in at_work:  # a notebook that is interrupted keeps its executor
                hands.cancel(number)
            raise
        complete = all(trial.state != "open" for trial in record.trials) and not self._over
        if complete and not self._keeps:
            shutil.rmtree(self._checkpoints, ignore_errors=True)
        record.journal.add(journals.ENDED, complete=complete)
        return record.found(complete=complete)

    def hear(self, number: int, row: dict[str, float]) -> bool:
        """Takes notice of a trial's epoch; returns whether the trial shall stop."""
        self._record.hear(number, row)
        return number in self._record.pruned or self._is_over()

    def _next(self, waiting: list[Trial]) -> Trial | None:
        """The next trial to begin: first those that were open when the search was killed, then what
        the method proposes.
        """
        return waiting.pop(0) if waiting else self._record.ask()

    def _begin(self, trial: Trial, hands: Hands) -> bool:
        """Has a trial computed; returns False where that is not needed."""
        parent = None if trial.parent is None else self._record.trials[trial.parent]
        if trial.number in self._record.pruned:
            self._tell(trial, "pruned")
        elif parent is not None and parent.state == "failed":
            self._tell(trial, "failed", failure=parent.failure)
        elif (same := self._record.done_before(trial)) is not None:
            self._tell(trial, "copied", scores=same.scores, about={"copy_of": same.number})
        else:
            hands.submit(self._job(trial))
            return True
        return False

    def _end(self, trial: Trial, outcome: Mapping[str, Any]) -> None:
        numbers = {**outcome["numbers"], "seconds": outcome["seconds"]}
        state = outcome["state"]
        if state == "stopped" and trial.rows and int(trial.rows[-1]["epoch"]) >= trial.epochs:
            state = "finished"  # the wish came too late
        if state == "stopped" and trial.number in self._record.pruned:
            state = "pruned"
        if state in ("stopped", "cancelled"):
            if not self._over:
                raise DarkroomError(
                    f"Trial {trial.number} was called off from outside. The same command goes on."
                )
            return  # the budget is used up; the trial stays open
        scores = {goal: numbers[goal] for goal in self._plan.goals} if state == "finished" else {}
        rest = {
            name: value
            for name, value in numbers.items()
            if name not in scores and name != "seconds"
        }
        self._tell(
            trial,
            state,
            scores=scores,
            metrics=rest,
            failure=outcome["failure"],
            seconds=outcome["seconds"],
        )

    def _tell(self, trial: Trial, state: str, **about: Any) -> None:
        self._record.tell(trial, state, **about)
        if self._watch is not None:
            self._watch(self._record.trials, trial)

    def _clear(self) -> None:
        """Deletes the checkpoints of trials that have ended and that no other one will go on with."""
        if self._keeps:
            return
        for root in self._record.over_with() - self._cleared:
            shutil.rmtree(self._checkpoints / f"{root:04d}", ignore_errors=True)
            self._cleared.add(root)

    def _job(self, trial: Trial) -> Job:
        all_trials = self._record.trials
        start = 0 if trial.parent is None else all_trials[trial.parent].epochs
        # A trial keeps its checkpoints where all that go on with each other do.
        chain = (
            self._checkpoints / f"{trials.root(all_trials, trial.number):04d}"
            if self._checkpoints
            else ""
        )
        return Job(
            self._plan.objective,
            trial.number,
            trial.values,
            trial.epochs,
            start,
            list(self._plan.goals),
            folder=str(self._folder / "trials" / f"{trial.number:04d}") if self._folder else "",
            checkpoint_folder=str(chain),
            context=dict(self._plan.context),
        )

    def _is_over(self) -> bool:
        self._over = time.monotonic() > self._deadline
        return self._over

    def _call_off(self, at_work: set[int], hands: Hands) -> None:
        for number in at_work:
            hands.stop(number)
            if time.monotonic() > self._deadline + _GRACE_S:
                hands.cancel(number)
