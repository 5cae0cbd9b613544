"""Where a search stands: its journal, and the method and the trials that follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.errors import DarkroomError
from lib.tuning import event_log as journals
from lib.tuning import trials
from lib.tuning.event_log import Journal
from lib.tuning.methods import Proposal
from lib.tuning.plan import Found, Plan
from lib.tuning.trials import Trial


class Record:
    """Every event is in the journal before anything follows from it, so `replay` brings a fresh
    record to the same place.

    `pruned` holds the numbers of the trials that the method has called hopeless.
    """

    def __init__(self, plan: Plan, folder: Path | None) -> None:
        self.plan, self.method, self.journal = plan, plan.make(), Journal(folder)
        self.trials: list[Trial] = []
        self.pruned: set[int] = set()
        self._folder = folder

    def found(self, *, complete: bool) -> Found:
        """Returns what has been found so far."""
        return Found(
            self.plan, self.trials, complete, round(self.journal.seconds(), 1), self.method
        )

    def replay(self) -> None:
        """Brings the method to where the journal ends. Raises DarkroomError when it proposes
        otherwise than it did.
        """
        for event in self.journal.events:
            if event["event"] == journals.ASKED:
                self._check_same(self.method.ask(), event)
            elif event["event"] == journals.REPORTED:
                trial = self.trials[event["trial"]]
                trial.rows.append(event["row"])
                self.method.report(
                    trial.number, int(event["row"]["epoch"]), self._scores(event["row"]) or []
                )
                self.pruned |= {trial.number} if event["stop"] else set()
            elif event["event"] == journals.TOLD:
                self._settle(self.trials[event["trial"]], event)

    def ask(self) -> Trial | None:
        """Returns the method's next trial, or None while it has none."""
        if (proposal := self.method.ask()) is None:
            return None
        told = {
            "values": proposal.values,
            "epochs": proposal.epochs,
            "parent": proposal.parent,
            "about": proposal.about,
        }
        self.journal.add(journals.ASKED, trial=proposal.number, **told)
        return self._note(proposal)

    def hear(self, number: int, row: dict[str, float]) -> None:
        """Notes a trial's epoch; one that was heard before, because it was computed twice, is not
        noted again.
        """
        trial = self.trials[number]
        epoch = int(row["epoch"])
        inherited = trial.parent is not None and epoch <= self.trials[trial.parent].epochs
        if inherited or any(int(known["epoch"]) == epoch for known in trial.rows):
            return
        scores = self._scores(row)
        stop = bool(scores) and epoch < trial.epochs and self.method.report(number, epoch, scores)
        trial.rows.append(
            self.journal.add(journals.REPORTED, trial=number, row=row, stop=stop)["row"]
        )
        self.pruned |= {number} if stop else set()

    def tell(self, trial: Trial, state: str, **about: Any) -> None:
        """Notes what came of a trial, and tells the method."""
        self._settle(
            trial, self.journal.add(journals.TOLD, trial=trial.number, state=state, **about)
        )

    def done_before(self, trial: Trial) -> Trial | None:
        """Returns a trial with the same values and epochs whose scores are known."""
        for other in self.trials:
            if other.done and other.epochs == trial.epochs and other.values == trial.values:
                return other
        return None

    def over_with(self) -> set[int]:
        """Returns the roots of chains that nothing will go on with: all their trials have ended,
        and none can be promoted.
        """
        roots = {trial.number: trials.root(self.trials, trial.number) for trial in self.trials}
        needed = {
            roots[trial.number]
            for trial in self.trials
            if trial.state == "open"
            or (trial.epochs < self.plan.epochs and self.method.may_promote(trial.number))
        }
        return set(roots.values()) - needed

    def _settle(self, trial: Trial, event: Mapping[str, Any]) -> None:
        trial.state, trial.failure = event["state"], event.get("failure")
        trial.scores, trial.metrics = event.get("scores") or {}, event.get("metrics") or {}
        trial.seconds, trial.about = (
            event.get("seconds", 0.0),
            {**trial.about, **event.get("about", {})},
        )
        scores = [trial.scores[goal] for goal in self.plan.goals] if trial.done else None
        self.method.tell(trial.number, scores, trial.rows, spent=trial.state != "copied")

    def _note(self, proposal: Proposal) -> Trial:
        trial = Trial(
            proposal.number, proposal.values, proposal.epochs, proposal.parent, dict(proposal.about)
        )
        self.trials.append(trial)
        return trial

    def _check_same(self, proposal: Proposal | None, event: Mapping[str, Any]) -> None:
        wanted = json.dumps([event["trial"], event["values"], event["epochs"], event["parent"]])
        if (
            proposal is None
            or json.dumps([proposal.number, proposal.values, proposal.epochs, proposal.parent])
            != wanted
        ):
            raise DarkroomError(
                f"{self.plan.method} proposes otherwise than its journal says for trial "
                f"{event['trial']}, so {self._folder} "
                "cannot go on. Give the search another study or arm, or delete that folder."
            )
        self._note(proposal)

    def _scores(self, row: Mapping[str, float]) -> list[float] | None:
        return (
            [row[goal] for goal in self.plan.goals]
            if all(goal in row for goal in self.plan.goals)
            else None
        )
