"""Guards against the classic mistakes, run at the end of a run and of a comparison.

A guard is a small function from the facts to what it found: None when it held, else one sentence. The tables at the end
name each by its letter and say what a finding does: "stops" (the result may not be used) or "flagged" (shown wherever
the result is).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import atomic
from lib.errors import DarkroomError
from lib.evaluation import confusion as matrices
from lib.evaluation import metrics, statistics
from lib.evaluation.pairs import Pair
from lib.evaluation.predictions import Predictions
from lib.evaluation.statistics import Estimate

LEDGER = "test_openings.jsonl"
AGREEMENT = 1e-6
"""How far two ways to the same number may be apart."""


@dataclass(frozen=True)
class RunFacts:
    """What the guards of a run look at. `reported` are numbers told elsewhere (Keras' evaluate), by their name here."""

    predictions: Predictions
    history: pd.DataFrame | None = None
    kept_epoch: int | None = None
    reported: Mapping[str, float] = field(default_factory=dict)
    test_openings: int | None = None


@dataclass(frozen=True)
class ComparisonFacts:
    """What the guards of a comparison look at: arms by name, best first, and their pairs."""

    estimates: Mapping[str, Estimate]
    pairs: Sequence[Pair]


def run(
    predictions: Predictions,
    *,
    history: pd.DataFrame | None = None,
    kept_epoch: int | None = None,
    reported: Mapping[str, float] | None = None,
    test_openings: int | None = None,
) -> list[dict[str, str]]:
    """What every guard of a run says, for `result.json`: {guard, outcome ("held", "flagged", "stops"), message}."""
    facts = RunFacts(predictions, history, kept_epoch, reported or {}, test_openings)
    return _judged(RUN_GUARDS, facts)


def comparison(estimates: Mapping[str, Estimate], pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """What every guard of a comparison says; `estimates` are the arms, best first."""
    return _judged(COMPARISON_GUARDS, ComparisonFacts(estimates, pairs))


def require(findings: Sequence[Mapping[str, str]]) -> None:
    """Raises DarkroomError when a finding stops the result from being used."""
    stopping = [finding["message"] for finding in findings if finding["outcome"] == "stops"]
    if stopping:
        raise DarkroomError(" ".join(stopping))


def open_test(dataset_folder: Path, split_id: str, run: str) -> int:
    """Notes that `run` reads the test images of a split; returns how often that split was read, this time included."""
    entry = {"split": split_id, "run": run, "opened": round(time.time(), 3)}
    atomic.append_line(Path(dataset_folder) / LEDGER, json.dumps(entry, ensure_ascii=False))
    return openings(dataset_folder, split_id)


def openings(dataset_folder: Path, split_id: str) -> int:
    """How often the test images of a split were read, over all studies; a torn line counts, for it was an opening."""
    path = Path(dataset_folder) / LEDGER
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(_split_of(line) in (split_id, None) for line in lines if line.strip())


def kappa_range(accuracy: float, support: Sequence[int]) -> tuple[float, float]:
    """The kappas that an accuracy allows where the true classes have these numbers of images, whatever was predicted.

    Expected agreement is a mean of the true shares weighted by the predicted ones, so it lies between the smallest and
    the largest share; with equal classes kappa is fixed by accuracy.
    """
    shares = np.asarray(support, dtype=np.float64) / np.sum(support)
    low, high = ((accuracy - expected) / (1 - expected) for expected in (shares.max(), shares.min()))
    return float(low), float(high)


def printed(*, accuracy: float, kappa: float, support: Sequence[int], digits: int = 4) -> dict[str, str]:
    """Whether an accuracy and a kappa printed with `digits` decimals can come from one confusion matrix (guard A)."""
    rounding = 0.5 * 10.0**-digits
    low = kappa_range(accuracy - rounding, support)[0] - rounding
    high = kappa_range(accuracy + rounding, support)[1] + rounding
    message = None
    if not low <= kappa <= high:
        message = (
            f"An accuracy of {accuracy:.4f} on these classes goes with a kappa of {low:.3f} to {high:.3f}, "
            f"not with {kappa:.4f}: the two numbers come from different predictions."
        )
    return _finding("A", "stops", message, "accuracy and kappa can come from one table")


def _one_table(facts: RunFacts) -> str | None:
    from sklearn.metrics import cohen_kappa_score

    part = _test(facts)
    counted = metrics.confusion(part)
    ours = {name: float(function(counted)) for name, function in matrices.HEADLINES.items()}
    if len(np.union1d(part.truth, part.predicted)) > 1:
        theirs = float(cohen_kappa_score(part.truth, part.predicted))
        if abs(theirs - ours["kappa"]) > AGREEMENT:
            return f"Kappa from the margins is {ours['kappa']:.6f}, from the rows {theirs:.6f}."
    for name, value in facts.reported.items():
        if name in ours and abs(value - ours[name]) > AGREEMENT:
            told = f"{name} was reported as {value:.6f}, but the prediction table gives {ours[name]:.6f}"
            return f"{told}: two sets under one result."
    return None


def _validation_moved(facts: RunFacts) -> str | None:
    if facts.history is None or facts.kept_epoch is None or "val" not in facts.predictions.splits:
        return None
    row = facts.history[facts.history["epoch"] == facts.kept_epoch]
    if row.empty:
        return f"The history has no epoch {facts.kept_epoch}, which is said to be kept."
    val = facts.predictions.split("val")
    during, after = float(row["val_accuracy"].iloc[-1]), float(matrices.accuracy(metrics.confusion(val)))
    if abs(during - after) <= 0.002 + 1.5 / len(val):  # an image on the fence may fall either way
        return None
    return (
        f"Validation accuracy was {during:.3f} at the kept epoch {facts.kept_epoch} and {after:.3f} when scored after "
        "training: validation images or weights were not the same."
    )


def _groups_across_splits(facts: RunFacts) -> str | None:
    frame = facts.predictions.frame
    spread = frame.groupby("group")["split"].nunique()
    torn = spread.index[spread > 1]
    if not len(torn):
        return None
    touched = int((frame["group"].isin(torn) & (frame["split"] == "test")).sum())
    return (
        f"{len(torn)} groups of near-duplicates lie in more than one split, {touched} test images among them: "
        "the score is too good. Split by group, or report both."
    )


def _test_opened(facts: RunFacts) -> str | None:
    if "test" in facts.predictions.splits and facts.test_openings == 0:
        return "Test images were scored without an entry in the ledger of openings."
    return None


def _one_class(facts: RunFacts) -> str | None:
    part = _test(facts)
    said = np.unique(part.predicted)
    if len(said) > 1 or len(np.unique(part.truth)) == 1:
        return None
    return f"All {len(part)} images were given one class, {part.class_names[said[0]]}."


def _beats_chance(facts: RunFacts) -> str | None:
    part = _test(facts)
    counted = metrics.confusion(part)
    majority = float(counted.sum(axis=1).max() / counted.sum())
    if len(np.unique(part.truth)) > 1 and statistics.kappa_interval(counted)[0] <= 0:
        return f"Not shown to beat chance: the 95 % interval of kappa ({float(matrices.kappa(counted)):.2f}) reaches 0."
    if statistics.wilson(int(np.trace(counted)), int(counted.sum()))[1] < majority:
        return f"Worse than always saying the largest class, which is right {100 * majority:.1f} % of the time."
    if "train" in facts.predictions.splits:
        trained = metrics.confusion(facts.predictions.split("train"))
        reached, most = float(matrices.accuracy(trained)), float(trained.sum(axis=1).max() / trained.sum())
        if len(np.flatnonzero(trained.sum(axis=1))) > 1 and float(matrices.kappa(trained)) <= 0.02 and reached <= most + 0.01:
            return f"Training accuracy ({reached:.3f}) is not above the largest class's share ({most:.3f}): nothing was learnt."
    return None


def _mean_without_deviation(facts: ComparisonFacts) -> str | None:
    few = [f"{name} ({estimate.num_seeds})" for name, estimate in facts.estimates.items() if estimate.num_seeds < 3]
    if not few:
        return None
    return f"Fewer than three seeds: {', '.join(few)}; how much a new training would move these numbers is hardly known."


def _lead_within_noise(facts: ComparisonFacts) -> str | None:
    names = list(facts.estimates)
    if len(names) < 2:
        return None
    leads = [pair for pair in facts.pairs if {pair.first, pair.second} == set(names[:2])]
    if not leads:
        return f"{names[0]} and {names[1]} have no seed in common, so the lead of the first is not tested."
    return None if leads[0].is_shown else f"The lead of {names[0]} over {names[1]} is within the noise: neither is the winner."


RUN_GUARDS: dict[str, tuple[str, Callable[[RunFacts], str | None], str]] = {
    "A": ("stops", _one_table, "all numbers come from one prediction table"),
    "D": ("flagged", _validation_moved, "validation scored after training agrees with training"),
    "J": ("flagged", _groups_across_splits, "no near-duplicates across splits"),
    "M": ("flagged", _test_opened, "the opening of the test split is in the ledger"),
    "Q": ("flagged", _one_class, "more than one class is predicted"),
    "Y": ("flagged", _beats_chance, "better than chance and than the largest class"),
}
COMPARISON_GUARDS: dict[str, tuple[str, Callable[[ComparisonFacts], str | None], str]] = {
    "K": ("flagged", _mean_without_deviation, "every mean has seeds, deviation and interval"),
    "W": ("flagged", _lead_within_noise, "the best arm leads by more than the noise"),
}


def _judged(guards: Mapping[str, tuple[str, Callable[[Any], str | None], str]], facts: Any) -> list[dict[str, str]]:
    return [_finding(letter, outcome, guard(facts), holds) for letter, (outcome, guard, holds) in guards.items()]


def _finding(letter: str, outcome: str, message: str | None, holds: str) -> dict[str, str]:
    if message is None:
        return {"guard": letter, "outcome": "held", "message": holds}
    return {"guard": letter, "outcome": outcome, "message": message}


def _test(facts: RunFacts) -> Predictions:
    predictions = facts.predictions
    return predictions.split("test" if "test" in predictions.splits else predictions.splits[-1])


def _split_of(line: str) -> str | None:
    try:
        return str(json.loads(line)["split"])
    except (ValueError, KeyError, TypeError):
        return None
