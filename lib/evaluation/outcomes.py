"""Outcomes of checks, as `result.json` holds them.

`held`: the check ran and found nothing; `flagged`: the result is kept, with a warning; `note`:
worth knowing, not a fault; `not_judged`: the check could not run; `stops`: the numbers contradict
each other, and the run leaves no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.errors import DarkroomError

_OLD_NAMES = {
    "A": "one_prediction_table",
    "D": "validation_unchanged",
    "E": "kept_epoch_is_best",
    "J": "duplicate_leakage",
    "K": "enough_trainings",
    "M": "test_access_recorded",
    "O": "hyperparameters_used",
    "P": "class_weights_applied",
    "Q": "several_classes_predicted",
    "W": "lead_is_significant",
    "Y": "beats_chance",
    "Z": "classes_separated",
}
"""Checks by the letters under which runs of earlier versions hold them."""

Outcome = tuple[str, str]


def held(message: str) -> Outcome:
    """The check looked and found nothing."""
    return "held", message


def flagged(message: str) -> Outcome:
    """The check found something that bears on the result."""
    return "flagged", message


def note(message: str) -> Outcome:
    """Worth knowing, and no fault."""
    return "note", message


def not_judged(why: str) -> Outcome:
    """The check could not look, and why."""
    return "not_judged", why


def finding(name: str, outcome: Outcome) -> dict[str, str]:
    """Returns an outcome as `result.json` holds it."""
    return {"check": name, "outcome": outcome[0], "message": outcome[1]}


def require(findings: Sequence[Mapping[str, str]]) -> None:
    """Raises DarkroomError when a finding stops the result from being used."""
    stopping = [finding["message"] for finding in findings if finding["outcome"] == "stops"]
    if stopping:
        raise DarkroomError(" ".join(stopping))


def read(findings: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Findings of a finished run under today's names; runs of earlier versions have letters."""
    return [
        {
            "check": finding.get("check") or _OLD_NAMES.get(finding["guard"], finding["guard"]),
            "outcome": finding["outcome"],
            "message": finding["message"],
        }
        for finding in findings
    ]


def remarks(findings: Sequence[Mapping[str, str]]) -> list[str]:
    """One line for everything that is flagged or noted, "check: message"."""
    return [
        f"{finding['check']}: {finding['message']}"
        for finding in read(findings)
        if finding["outcome"] not in ("held", "not_judged")
    ]


def unjudged(findings: Sequence[Mapping[str, str]]) -> list[str]:
    """One line for every check that could not look, "check: not judged, why"."""
    return [
        f"{finding['check']}: not judged, {finding['message']}"
        for finding in read(findings)
        if finding["outcome"] == "not_judged"
    ]
