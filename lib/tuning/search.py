"""A search: asks its method for trials, has them computed, and notes everything in its journal before anything follows from it.

    found = search.run(Plan(space=space.read({"x": {"low": 0.0, "high": 1.0}}), method="tpe", objective="module:function",
                            goals={"score": "max"}, num_trials=30), folder=folder)
    found.best.values

Killed at any moment and called again with the same plan it goes on: finished trials are not repeated, open ones go on from
their checkpoints. Another plan in the same folder is refused.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.batch.engine import Engine
from lib.errors import DarkroomError
from lib.tuning import journal as journals
from lib.tuning import trials, work
from lib.tuning.hands import Hands, Needs, Own, Workers
from lib.tuning.journal import Journal
from lib.tuning.methods import Proposal
from lib.tuning.plan import Found, Plan
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
    engine: Engine | None = None,
    at_once: int | None = None,
    needs: Needs | None = None,
    budget_minutes: float | None = None,
    watch: Watch | None = None,
) -> Found:
    """Searches until the method proposes no more or the budget is used up, and returns what was found.

    Args:
        plan: what is searched, and how.
        folder: where the journal and the folders of the trials lie; None keeps the journal in memory and writes nothing.
        checkpoint_folder: where trials keep what resume and promotion need; `folder`/checkpoints where None.
        keep_checkpoints: leave there what no trial needs any more.
        engine: whose workers compute the trials, isolated and several at once; None computes them in this process.
        at_once: how many trials at the same time; as many as the engine has slots where None.
        needs: what a trial takes of its machine.
        budget_minutes: of all sessions together. A trial at work when they are over stops after its epoch and stays open.
        watch: called with all trials and the one that has just ended.

    Raises:
        DarkroomError: for a plan that cannot be, or a folder that holds another search.
    """
    if engine is not None and folder is None:
        raise DarkroomError("Trials in processes of their own need a `folder`, in which they lay down what came of them.")
    if budget_minutes is not None and budget_minutes <= 0:
        raise DarkroomError(f"`budget_minutes` must be above 0. Received: {budget_minutes}.")
    work.find(plan.objective)
    with journals.holding(folder):
        search = _Search(plan, folder, checkpoint_folder, watch, keep_checkpoints=keep_checkpoints)
        hands = Own(search.hear) if engine is None else Workers(engine, search.hear, at_once=at_once, needs=needs)
        return search.run(hands, budget_minutes)


def read(plan: Plan, folder: Path) -> Found:
    """Returns what a search has found so far; nothing is computed or written."""
    search = _Search(plan, folder, None, None)
    search.replay()
    return search.found(complete=False)


class _Search:
    def __init__(
        self, plan: Plan, folder: Path | None, checkpoint_folder: Path | None, watch: Watch | None, *,
        keep_checkpoints: bool = True,
    ) -> None:  # fmt: skip
        self.plan, self.method, self.journal = plan, plan.make(), Journal(folder)
        self.trials: list[Trial] = []
        self._folder, self._watch = folder, watch
        self._checkpoints = checkpoint_folder or (folder and folder / "checkpoints")
        self._keeps = keep_checkpoints or self._checkpoints is None
        self._pruned: set[int] = set()
        self._deadline = math.inf
        self._over = False

    def run(self, hands: Hands, budget_minutes: float | None) -> Found:
        self.journal.begin(self.plan.key())
        self.replay()
        if budget_minutes is not None:
            self._deadline = time.monotonic() + 60 * budget_minutes - self.journal.seconds()
        waiting = [trial for trial in self.trials if trial.state == "open"]
        at_work: set[int] = set()
        try:
            while True:
                while not self._is_over() and len(at_work) < hands.slots and (trial := self._next(waiting)) is not None:
                    if self._begin(trial, hands):
                        at_work.add(trial.number)
                if not at_work:
                    break
                if self._over:
                    self._call_off(at_work, hands)
                for number, outcome in hands.poll(_POLL_S):
                    at_work.discard(number)
                    self._end(self.trials[number], outcome)
        except BaseException:
            for number in at_work:  # a notebook that is interrupted keeps its engine
                hands.cancel(number)
            raise
        complete = all(trial.state != "open" for trial in self.trials) and not self._over
        if complete and not self._keeps:
            shutil.rmtree(self._checkpoints, ignore_errors=True)
        self.journal.add(journals.ENDED, complete=complete)
        return self.found(complete=complete)

    def found(self, *, complete: bool) -> Found:
        return Found(self.plan, self.trials, complete, round(self.journal.seconds(), 1), self.method)

    def replay(self) -> None:
        """Brings the method to where the journal ends. Raises DarkroomError when it proposes otherwise than it did."""
        for event in self.journal.events:
            if event["event"] == journals.ASKED:
                self._check_same(self.method.ask(), event)
            elif event["event"] == journals.REPORTED:
                trial = self.trials[event["trial"]]
                trial.rows.append(event["row"])
                self.method.report(trial.number, int(event["row"]["epoch"]), self._scores(event["row"]) or [])
                self._pruned |= {trial.number} if event["stop"] else set()
            elif event["event"] == journals.TOLD:
                self._settle(self.trials[event["trial"]], event)

    def hear(self, number: int, row: dict[str, float]) -> bool:
        """Notes a trial's epoch; one that was heard before, because it was computed twice, is not noted again."""
        trial = self.trials[number]
        epoch = int(row["epoch"])
        if trial.parent is not None and epoch <= self.trials[trial.parent].epochs:
            return False
        if all(int(known["epoch"]) != epoch for known in trial.rows):
            scores = self._scores(row)
            stop = bool(scores) and epoch < trial.epochs and self.method.report(number, epoch, scores)
            trial.rows.append(self.journal.add(journals.REPORTED, trial=number, row=row, stop=stop)["row"])
            self._pruned |= {number} if stop else set()
        return number in self._pruned or self._is_over()

    def _next(self, waiting: list[Trial]) -> Trial | None:
        """The next trial to begin: first those that were open when the search was killed, then what the method proposes."""
        if waiting:
            return waiting.pop(0)
        if (proposal := self.method.ask()) is None:
            return None
        told = {"values": proposal.values, "epochs": proposal.epochs, "parent": proposal.parent, "about": proposal.about}
        self.journal.add(journals.ASKED, trial=proposal.number, **told)
        return self._note(proposal)

    def _begin(self, trial: Trial, hands: Hands) -> bool:
        """Has a trial computed; returns False where that is not needed."""
        if trial.number in self._pruned:
            self._tell(trial, "pruned")
        elif trial.parent is not None and self.trials[trial.parent].state == "failed":
            self._tell(trial, "failed", failure=self.trials[trial.parent].failure)
        elif (same := self._done_before(trial)) is not None:
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
        if state == "stopped" and trial.number in self._pruned:
            state = "pruned"
        if state in ("stopped", "cancelled"):
            if not self._over:
                raise DarkroomError(f"Trial {trial.number} was called off from outside. The same command goes on.")
            return  # the budget is used up; the trial stays open
        scores = {goal: numbers[goal] for goal in self.plan.goals} if state == "finished" else {}
        rest = {name: value for name, value in numbers.items() if name not in scores and name != "seconds"}
        self._tell(trial, state, scores=scores, metrics=rest, failure=outcome["failure"], seconds=outcome["seconds"])

    def _tell(self, trial: Trial, state: str, **about: Any) -> None:
        event = self.journal.add(journals.TOLD, trial=trial.number, state=state, **about)
        self._settle(trial, event)
        if not self._keeps and (not self.method.promotes or trial.epochs >= self.plan.epochs):
            shutil.rmtree(self._chain(trial), ignore_errors=True)
        if self._watch is not None:
            self._watch(self.trials, trial)

    def _settle(self, trial: Trial, event: Mapping[str, Any]) -> None:
        trial.state, trial.failure = event["state"], event.get("failure")
        trial.scores, trial.metrics = event.get("scores") or {}, event.get("metrics") or {}
        trial.seconds, trial.about = event.get("seconds", 0.0), {**trial.about, **event.get("about", {})}
        scores = [trial.scores[goal] for goal in self.plan.goals] if trial.done else None
        self.method.tell(trial.number, scores, trial.rows, spent=trial.state != "copied")

    def _done_before(self, trial: Trial) -> Trial | None:
        for other in self.trials:
            if other.done and other.epochs == trial.epochs and other.values == trial.values:
                return other
        return None

    def _job(self, trial: Trial) -> Job:
        start = 0 if trial.parent is None else self.trials[trial.parent].epochs
        return Job(
            self.plan.objective, trial.number, trial.values, trial.epochs, start, list(self.plan.goals),
            folder=str(self._folder / "trials" / f"{trial.number:04d}") if self._folder else "",
            checkpoint_folder=str(self._chain(trial)) if self._checkpoints else "",
            context=dict(self.plan.context),
        )  # fmt: skip

    def _chain(self, trial: Trial) -> Path:
        """Where a trial keeps its checkpoints: the same for all that go on with each other."""
        return self._checkpoints / f"{trials.root(self.trials, trial.number):04d}"

    def _is_over(self) -> bool:
        self._over = time.monotonic() > self._deadline
        return self._over

    def _call_off(self, at_work: set[int], hands: Hands) -> None:
        for number in at_work:
            hands.stop(number)
            if time.monotonic() > self._deadline + _GRACE_S:
                hands.cancel(number)

    def _note(self, proposal: Proposal) -> Trial:
        trial = Trial(proposal.number, proposal.values, proposal.epochs, proposal.parent, dict(proposal.about))
        self.trials.append(trial)
        return trial

    def _check_same(self, proposal: Proposal | None, event: Mapping[str, Any]) -> None:
        wanted = json.dumps([event["trial"], event["values"], event["epochs"], event["parent"]])
        if proposal is None or json.dumps([proposal.number, proposal.values, proposal.epochs, proposal.parent]) != wanted:
            raise DarkroomError(
                f"{self.plan.method} proposes otherwise than its journal says for trial {event['trial']}, so {self._folder} "
                "cannot go on. Give the search another study or arm, or delete that folder."
            )
        self._note(proposal)

    def _scores(self, row: Mapping[str, float]) -> list[float] | None:
        return [row[goal] for goal in self.plan.goals] if all(goal in row for goal in self.plan.goals) else None
