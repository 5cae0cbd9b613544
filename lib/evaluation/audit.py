"""The audit at the end of a run and of a comparison: every guard against a classic mistake says
whether it held.

The tables name each guard by its letter and say what a finding does: "stops" (the result may not be
used) or "flagged" (shown wherever the result is). Mistakes that have no guard here cannot be made,
or are refused where they would be made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.errors import DarkroomError
from lib.evaluation import checks, published_tables
from lib.evaluation.checks import ComparisonFacts, RunFacts
from lib.evaluation.paired_tests import Pair
from lib.evaluation.run_records import Unit
from lib.evaluation.separation import Separation
from lib.evaluation.statistics import Estimate

RUN_GUARDS: dict[str, tuple[str, Callable[[RunFacts], str | None], str]] = {
    "A": ("stops", checks.one_table, "all numbers come from one prediction table"),
    "D": (
        "flagged",
        checks.validation_moved,
        "validation scored after training agrees with training",
    ),
    "E": ("flagged", checks.kept_epoch, "the kept epoch is the best of the history"),
    "J": ("flagged", checks.groups_across_splits, "no near-duplicates across splits"),
    "M": ("flagged", checks.test_opened, "the opening of the test split is in the ledger"),
    "P": ("flagged", checks.weights_acted, "class weights acted as they were asked for"),
    "Q": ("flagged", checks.one_class, "more than one class is predicted"),
    "Y": ("flagged", checks.beats_chance, "better than chance and than the largest class"),
}
COMPARISON_GUARDS: dict[str, tuple[str, Callable[[ComparisonFacts], str | None], str]] = {
    "K": ("flagged", checks.few_seeds, "every mean has seeds, deviation and interval"),
    "W": ("flagged", checks.lead_within_noise, "the best arm leads by more than the noise"),
}


def run(facts: RunFacts) -> list[dict[str, str]]:
    """What every guard of a run says, for `result.json`: {guard, outcome ("held", "flagged",
    "stops"), message}.
    """
    return _judged(RUN_GUARDS, facts)


def comparison(estimates: Mapping[str, Estimate], pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """What every guard of a comparison says; `estimates` are the arms, best first."""
    return _judged(COMPARISON_GUARDS, ComparisonFacts(estimates, pairs))


def trainings(arms: Mapping[str, Sequence[Unit]], opened: Sequence[str]) -> list[dict[str, str]]:
    """Whether the comparison holds every training of its arms that has read the test images."""
    here = {unit.folder.name for units in arms.values() for unit in units}
    stages = {"/".join(unit.folder.parts[-3:-1]) for units in arms.values() for unit in units}
    missing = [
        name
        for name in opened
        if name.rpartition("/")[0] in stages
        and (run := name.rpartition("/")[2]) not in here
        and run.rpartition("-s")[0] in {other.rpartition("-s")[0] for other in here}
    ]
    if not opened:
        message = None
    elif missing:
        names = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        message = f"{len(missing)} trainings read the test images and are left out here: {names}."
    else:
        message = None
    return [_finding("K", "flagged", message, "no training of these arms is left out")]


def figures_of_others(
    *, accuracy: float, kappa: float, support: Sequence[int], digits: int = 4
) -> dict[str, str]:
    """Whether an accuracy and a kappa printed with `digits` decimals can come from one confusion
    matrix (guard A).
    """
    message = published_tables.kappa_contradiction(
        accuracy=accuracy, kappa=kappa, support=support, digits=digits
    )
    return _finding("A", "stops", message, "accuracy and kappa can come from one table")


def trials(found: Sequence[tuple[Mapping[str, Any], str]]) -> list[dict[str, str]]:
    """Whether a search searches what it names (guard O): `found` holds each trial's values and a
    digest of what they made.

    Two trials that differ in a value and made the same model mean that nobody reads that value.
    """
    made: dict[str, Mapping[str, Any]] = {}
    for values, digest in found:
        first = made.setdefault(digest, values)
        idle = [name for name in {**first, **values} if first.get(name) != values.get(name)]
        if idle:
            message = f"Two trials differ in {', '.join(sorted(idle))} and made the same model: the value is never read."
            return [_finding("O", "stops", message, "")]
    return [_finding("O", "stops", None, "trials that differ made different models")]


def separated(found: Separation) -> list[dict[str, str]]:
    """Whether a map of features may be read as classes that lie apart (guard Z)."""
    return [
        _finding("Z", "flagged", None if found.is_significant else found.sentence, found.sentence)
    ]


def require(findings: Sequence[Mapping[str, str]]) -> None:
    """Raises DarkroomError when a finding stops the result from being used."""
    stopping = [finding["message"] for finding in findings if finding["outcome"] == "stops"]
    if stopping:
        raise DarkroomError(" ".join(stopping))


def _judged(
    of: Mapping[str, tuple[str, Callable[[Any], str | None], str]], facts: Any
) -> list[dict[str, str]]:
    return [
        _finding(letter, outcome, guard(facts), holds)
        for letter, (outcome, guard, holds) in of.items()
    ]


def _finding(letter: str, outcome: str, message: str | None, holds: str) -> dict[str, str]:
    if message is None:
        return {"guard": letter, "outcome": "held", "message": holds}
    return {"guard": letter, "outcome": outcome, "message": message}
