"""The search loop: asks the method for trials, runs them, and records them in the event log.

    line = space.read({"x": {"low": 0.0, "high": 1.0}})
    plan = Plan(line, "tpe", "module:function", {"score": "max"}, num_trials=30)
    result = search.run(plan, folder)
    result.best.values

Killed at any moment and run again with the same plan, it continues: finished trials are not
repeated, open ones continue from their checkpoints. Another plan in the same folder is refused.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.batch.dask_executor import Executor
from lib.errors import DarkroomError
from lib.tuning import event_log, methods, trials, worker
from lib.tuning.event_log import EventLog
from lib.tuning.executors import InProcess, Pool
from lib.tuning.search_method import Ended, Plan, SearchMethod
from lib.tuning.trials import Trial
from lib.tuning.worker import Job

OnTrialEnd = Callable[[list[Trial], Trial], None]
"""Called with all trials and the one that has just ended."""

_IDENTITY = ("values", "epochs", "parent")
_POLL_S = 0.1
_GRACE_S = 60.0


@dataclass
class SearchResult:
    """The trials of a search. `complete` is false if the budget ended it.

    `seconds` counts all sessions.
    """

    plan: Plan
    trials: list[Trial]
    complete: bool
    seconds: float
    method: SearchMethod

    @property
    def ranked(self) -> list[Trial]:
        """The best trial of each combination of values by the first goal, best first."""
        return trials.ranked(self.trials, self.plan.goal, self.plan.direction)

    @property
    def best(self) -> Trial:
        """The best trial. Raises DarkroomError if all failed."""
        if not self.ranked:
            messages = sorted({trial.failure["message"] for trial in self.trials if trial.failure})
            raise DarkroomError(
                " ".join([f"None of the {len(self.trials)} trials has a score.", *messages[:3]])
            )
        return self.ranked[0]


def run(
    plan: Plan,
    folder: Path | None = None,
    *,
    checkpoint_folder: Path | None = None,
    keep_checkpoints: bool = False,
    executor: Executor | None = None,
    memory_gb: float | None = None,
    budget_minutes: float | None = None,
    on_trial_end: OnTrialEnd | None = None,
) -> SearchResult:
    """Searches until the method proposes no more trials or the budget is used up.

    Args:
        plan: what is searched, and how.
        folder: for the event log and the trials' folders; None keeps everything in memory.
        checkpoint_folder: where trials keep what resume and promotion need; `folder`/checkpoints
            if None.
        keep_checkpoints: whether to keep what no trial needs any more; otherwise a trial's
            checkpoints are deleted as soon as it cannot be promoted.
        executor: whose workers compute the trials, isolated and in parallel; None computes them
            in this process.
        memory_gb: a trial that grows beyond it is stopped; 90 % of the machine if None.
        budget_minutes: of all sessions together. A trial that runs when they are over stops after
            its epoch and stays open.
        on_trial_end: called after each trial.

    Raises:
        DarkroomError: for an impossible plan, or a folder that holds another search.
    """
    if executor is not None and folder is None:
        raise DarkroomError(
            "Trials in worker processes need a `folder` for their outcomes. Received: None."
        )
    if budget_minutes is not None and budget_minutes <= 0:
        raise DarkroomError(f"`budget_minutes` must be above 0. Received: {budget_minutes}.")
    worker.import_objective(plan.objective)
    with event_log.lock(folder):
        search = _Search(
            plan, folder, checkpoint_folder, on_trial_end, keep_checkpoints=keep_checkpoints
        )
        if executor is None:
            return search.run(InProcess(search.on_epoch), budget_minutes)
        return search.run(Pool(executor, search.on_epoch, memory_gb=memory_gb), budget_minutes)


def _identity(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in _IDENTITY}


class _Record:
    """The state of a search: its event log, and the method and trials that follow from it.

    `pruned` holds the numbers of the trials that the method has pruned.
    """

    def __init__(self, plan: Plan, folder: Path | None) -> None:
        self.plan, self.method, self.log = plan, methods.make(plan), EventLog(folder)
        self.trials: list[Trial] = []
        self.pruned: set[int] = set()
        self._folder = folder

    def result(self, *, complete: bool) -> SearchResult:
        """Returns the trials so far."""
        seconds = round(self.log.seconds(), 1)
        return SearchResult(self.plan, self.trials, complete, seconds, self.method)

    def replay(self) -> None:
        """Brings the method to the end of the log.

        Raises DarkroomError if it proposes other trials than the log holds.
        """
        for event in self.log.events:
            if event["event"] == event_log.SESSION:
                self.method.slots = event.get("slots", 0)
            elif event["event"] == event_log.ASKED:
                self._restore(self.method.ask(), event)
            elif event["event"] == event_log.REPORTED:
                trial, row = self.trials[event["trial"]], event["row"]
                trial.rows.append(row)
                self.method.report(trial.number, int(row["epoch"]), self._scores(row) or [])
                self.pruned |= {trial.number} if event["stop"] else set()
            elif event["event"] == event_log.TOLD:
                self._settle(self.trials[event["trial"]], event)

    def ask(self) -> Trial | None:
        """Returns the method's next trial, or None if it has none for now."""
        trial = self.method.ask()
        if trial is not None:
            self.log.add(event_log.ASKED, trial=trial.number, **_identity(trial), about=trial.about)
            self.trials.append(trial)
        return trial

    def add_epoch(self, number: int, row: dict[str, float]) -> None:
        """Records a trial's epoch, unless it is known from an earlier computation."""
        trial, epoch = self.trials[number], int(row["epoch"])
        inherited = trial.parent is not None and epoch <= self.trials[trial.parent].epochs
        if inherited or any(int(known["epoch"]) == epoch for known in trial.rows):
            return
        scores = self._scores(row)
        stop = bool(scores) and epoch < trial.epochs and self.method.report(number, epoch, scores)
        event = self.log.add(event_log.REPORTED, trial=number, row=row, stop=stop)
        trial.rows.append(event["row"])
        self.pruned |= {number} if stop else set()

    def tell(self, trial: Trial, state: str, **about: Any) -> None:
        """Records the outcome of a trial and tells the method."""
        event = self.log.add(event_log.TOLD, trial=trial.number, state=state, **about)
        self._settle(trial, event)

    def find_equal(self, trial: Trial) -> Trial | None:
        """Returns a trial with the same values and epochs that has scores."""
        for other in self.trials:
            if other.has_scores and (other.epochs, other.values) == (trial.epochs, trial.values):
                return other
        return None

    def is_repeated(self, trial: Trial) -> bool:
        """Returns whether an open trial before this one has the same values and epochs."""
        return any(
            other.state == "open" and (other.epochs, other.values) == (trial.epochs, trial.values)
            for other in self.trials[: trial.number]
        )

    def finished_roots(self) -> set[int]:
        """Returns the first trials of chains that have ended and that no trial can continue."""
        roots = {trial.number: trials.root(self.trials, trial.number) for trial in self.trials}
        needed = set()
        for trial in self.trials:
            unfinished = trial.epochs < self.plan.epochs and self.method.may_promote(trial.number)
            if trial.state == "open" or unfinished:
                needed.add(roots[trial.number])
        return set(roots.values()) - needed

    def _settle(self, trial: Trial, event: Mapping[str, Any]) -> None:
        trial.state, trial.failure = event["state"], event.get("failure")
        trial.scores, trial.metrics = event.get("scores") or {}, event.get("metrics") or {}
        trial.seconds = event.get("seconds", 0.0)
        trial.about = {**trial.about, **event.get("about", {})}
        scores = [trial.scores[goal] for goal in self.plan.goals] if trial.has_scores else None
        self.method.tell(Ended(trial.number, scores, trial.rows, trial.state != "copied"))

    def _restore(self, trial: Trial | None, event: Mapping[str, Any]) -> None:
        """Adds a trial that the log has too. Raises DarkroomError for any other."""
        received = trial and {"trial": trial.number, **_identity(trial)}
        expected = {"trial": event["trial"]} | {name: event[name] for name in _IDENTITY}
        if json.dumps(received) != json.dumps(expected):
            raise DarkroomError(
                f"{self.plan.method} proposes another trial {event['trial']} than the event log "
                f"holds, so the search in {self._folder} cannot continue. Use another study or "
                "arm, or delete that folder."
            )
        self.trials.append(trial)

    def _scores(self, row: Mapping[str, float]) -> list[float] | None:
        if all(goal in row for goal in self.plan.goals):
            return [row[goal] for goal in self.plan.goals]
        return None


class _Search:
    """Has the trials of a record computed, and deletes the checkpoints they no longer need."""

    def __init__(
        self,
        plan: Plan,
        folder: Path | None,
        checkpoint_folder: Path | None,
        on_trial_end: OnTrialEnd | None,
        *,
        keep_checkpoints: bool,
    ) -> None:
        self._plan, self._record = plan, _Record(plan, folder)
        self._folder, self._on_trial_end = folder, on_trial_end
        self._checkpoints = checkpoint_folder or (folder and folder / "checkpoints")
        self._keeps_checkpoints = keep_checkpoints or self._checkpoints is None
        self._cleared: set[int] = set()
        self._deadline = math.inf
        self._is_over = False

    def run(self, executor: InProcess | Pool, budget_minutes: float | None) -> SearchResult:
        record = self._record
        record.log.begin(self._plan.key(), slots=executor.slots)
        record.replay()
        if budget_minutes is not None:
            self._deadline = time.monotonic() + 60 * budget_minutes - record.log.seconds()
        # Trials that were open when the search was killed come first. A repeated trial waits for
        # the one it repeats, so the number of trials does not depend on which ends first.
        waiting = [trial for trial in record.trials if trial.state == "open"]
        running: set[int] = set()
        try:
            while True:
                while not self._check_deadline() and len(running) < executor.slots:
                    trial = next((t for t in waiting if not record.is_repeated(t)), None)
                    if trial is not None:
                        waiting.remove(trial)
                    elif (trial := record.ask()) is None:
                        break
                    if record.is_repeated(trial):
                        waiting.append(trial)
                    elif self._start(trial, executor):
                        running.add(trial.number)
                self._clear_checkpoints()
                if not running:
                    break
                if self._is_over:
                    self._stop_all(running, executor)
                for number, outcome in executor.poll(_POLL_S):
                    running.discard(number)
                    self._end(record.trials[number], outcome)
        except BaseException:
            for number in running:  # an interrupted notebook keeps its executor
                executor.cancel(number)
            raise
        complete = all(trial.state != "open" for trial in record.trials) and not self._is_over
        if complete and not self._keeps_checkpoints:
            shutil.rmtree(self._checkpoints, ignore_errors=True)
        record.log.add(event_log.ENDED, complete=complete)
        return record.result(complete=complete)

    def on_epoch(self, number: int, row: dict[str, float]) -> bool:
        """Records a trial's epoch; returns whether the trial should stop."""
        self._record.add_epoch(number, row)
        return number in self._record.pruned or self._check_deadline()

    def _start(self, trial: Trial, executor: InProcess | Pool) -> bool:
        """Submits a trial; returns False if it needs no computation."""
        parent = None if trial.parent is None else self._record.trials[trial.parent]
        if trial.number in self._record.pruned:
            self._tell(trial, "pruned")
        elif parent is not None and parent.state == "failed":
            self._tell(trial, "failed", failure=parent.failure)
        elif (equal := self._record.find_equal(trial)) is not None:
            self._tell(trial, "copied", scores=equal.scores, about={"copy_of": equal.number})
        else:
            executor.submit(self._job(trial))
            return True
        return False

    def _end(self, trial: Trial, outcome: Mapping[str, Any]) -> None:
        numbers = {**outcome["numbers"], "seconds": outcome["seconds"]}
        state = outcome["state"]
        if (outcome["failure"] or {}).get("kind") == "disk":  # not a property of the trial
            raise DarkroomError(
                f"Trial {trial.number} stopped: {outcome['failure']['message']}. Make room on the "
                "disk, or its folder writable, and run the same command again to continue."
            )
        if state == "stopped" and trial.rows and int(trial.rows[-1]["epoch"]) >= trial.epochs:
            state = "finished"  # the request came after the last epoch
        if state == "stopped" and trial.number in self._record.pruned:
            state = "pruned"
        if state in ("stopped", "cancelled"):
            if not self._is_over:
                raise DarkroomError(
                    f"Trial {trial.number} was cancelled from outside. Run the same command again "
                    "to continue."
                )
            return  # the budget is used up; the trial stays open
        scores = {goal: numbers[goal] for goal in self._plan.goals} if state == "finished" else {}
        metrics = {name: numbers[name] for name in numbers if name not in (*scores, "seconds")}
        about = {"failure": outcome["failure"], "seconds": outcome["seconds"]}
        self._tell(trial, state, scores=scores, metrics=metrics, **about)

    def _tell(self, trial: Trial, state: str, **about: Any) -> None:
        self._record.tell(trial, state, **about)
        if self._on_trial_end is not None:
            self._on_trial_end(self._record.trials, trial)

    def _clear_checkpoints(self) -> None:
        if self._keeps_checkpoints:
            return
        for root in self._record.finished_roots() - self._cleared:
            shutil.rmtree(self._checkpoints / f"{root:04d}", ignore_errors=True)
            self._cleared.add(root)

    def _job(self, trial: Trial) -> Job:
        known = self._record.trials
        initial_epoch = 0 if trial.parent is None else known[trial.parent].epochs
        # A promoted trial shares the checkpoints of the chain that it continues.
        root = f"{trials.root(known, trial.number):04d}"
        return Job(
            self._plan.objective,
            trial.number,
            trial.values,
            trial.epochs,
            initial_epoch,
            list(self._plan.goals),
            folder=str(self._folder / "trials" / f"{trial.number:04d}") if self._folder else "",
            checkpoint_folder=str(self._checkpoints / root) if self._checkpoints else "",
            settings=dict(self._plan.settings),
        )

    def _check_deadline(self) -> bool:
        self._is_over = time.monotonic() > self._deadline
        return self._is_over

    def _stop_all(self, running: set[int], executor: InProcess | Pool) -> None:
        for number in running:
            executor.stop(number)
            if time.monotonic() > self._deadline + _GRACE_S:
                executor.cancel(number)
