"""The guards themselves: each looks at the facts and returns None when it held, else one sentence
that says what is wrong.

Their letters are those of the list of classic mistakes; `lib.evaluation.audit` says what a finding
of each does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation import analytic, metrics
from lib.evaluation import confusion as matrices
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import Predictions
from lib.evaluation.statistics import Estimate

AGREEMENT = 1e-6
"""How far two ways to the same number may be apart."""


@dataclass(frozen=True)
class RunFacts:
    """What the guards of a run look at; whatever is None is not judged.

    `reported` are numbers told elsewhere (Keras' evaluate) by their name here, by default those
    noted in the table; `settings` what the training was asked for (`monitor`, `class_weights`),
    `class_weights` those that acted.
    """

    predictions: Predictions
    history: pd.DataFrame | None = None
    kept_epoch: int | None = None
    reported: Mapping[str, float] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    class_weights: Mapping[str, float] | None = None
    test_openings: int | None = None


@dataclass(frozen=True)
class ComparisonFacts:
    """What the guards of a comparison look at: arms by name, best first, and their pairs."""

    estimates: Mapping[str, Estimate]
    pairs: Sequence[Pair]


def one_table(facts: RunFacts) -> str | None:
    """A: kappa by two ways, and whatever Keras' evaluate said, agree with the prediction table."""
    from sklearn.metrics import cohen_kappa_score

    part = _test(facts)
    if part.kind == "multilabel":
        return None
    counted = metrics.confusion(part)
    ours = {name: float(function(counted)) for name, function in matrices.HEADLINES.items()}
    if len(np.union1d(part.truth, part.predicted)) > 1:
        theirs = float(cohen_kappa_score(part.truth, part.predicted))
        if abs(theirs - ours["kappa"]) > AGREEMENT:
            return f"Kappa from the margins is {ours['kappa']:.6f}, from the rows {theirs:.6f}."
    reported = part.evaluated if facts.reported is None else facts.reported
    for name, value in reported.items():
        if name in ours and abs(value - ours[name]) > AGREEMENT + _on_the_fence(part):
            told = f"{name} was reported as {value:.6f}, but the prediction table gives {ours[name]:.6f}"
            return f"{told}: two sets under one result."
    return None


def validation_moved(facts: RunFacts) -> str | None:
    """D: validation accuracy after training is that of the kept epoch."""
    if facts.history is None or facts.kept_epoch is None or "val" not in facts.predictions.splits:
        return None
    row = facts.history[facts.history["epoch"] == facts.kept_epoch]
    val = facts.predictions.split("val")
    if row.empty or val.kind == "multilabel":
        return None
    during, after = (
        float(row["val_accuracy"].iloc[-1]),
        float(matrices.accuracy(metrics.confusion(val))),
    )
    if abs(during - after) <= 0.002 + 1.5 / len(val):  # an image on the fence may fall either way
        return None
    return (
        f"Validation accuracy was {during:.3f} at the kept epoch {facts.kept_epoch} and "
        f"{after:.3f} when scored after "
        "training: validation images or weights were not the same."
    )


def kept_epoch(facts: RunFacts) -> str | None:
    """E: the epoch said to be kept is in the history, and the best there by what was monitored."""
    if facts.history is None or facts.kept_epoch is None:
        return None
    history = facts.history
    row = history[history["epoch"] == facts.kept_epoch]
    if row.empty:
        return f"The history has no epoch {facts.kept_epoch}, which is said to be kept."
    monitor = facts.settings.get("monitor")
    if monitor not in history.columns:
        return None
    if "phase" in history.columns:
        history = history[history["phase"] == row["phase"].iloc[-1]]
    best = history[monitor].min() if monitor.endswith("loss") else history[monitor].max()
    value = float(row[monitor].iloc[-1])
    if value == best:
        return None
    return f"Epoch {facts.kept_epoch} is said to be kept with {monitor} {value:.4f}, but the best was {best:.4f}."


def groups_across_splits(facts: RunFacts) -> str | None:
    """J: near-duplicates lie in one split."""
    frame = facts.predictions.frame
    spread = frame.groupby("group")["split"].nunique()
    torn = spread.index[spread > 1]
    if not len(torn):
        return None
    touched = int((frame["group"].isin(torn) & (frame["split"] == "test")).sum())
    return (
        f"{len(torn)} groups of near-duplicates lie in more than one split, {touched} test images "
        "among them: "
        "the score is too good. Split by group, or report both."
    )


def test_opened(facts: RunFacts) -> str | None:
    """M: the opening of the test split was recorded."""
    if "test" in facts.predictions.splits and facts.test_openings == 0:
        return "Test images were scored without an entry in the ledger of openings."
    return None


def weights_acted(facts: RunFacts) -> str | None:
    """P: class weights acted where they were asked for, and only there."""
    asked = facts.settings.get("class_weights")
    if asked is None or (asked == "none") == (facts.class_weights is None):
        return None
    if asked == "none":
        return "Class weights acted although none were asked for."
    return f"Class weights were asked for ({asked}) and never reached the loss."


def one_class(facts: RunFacts) -> str | None:
    """Q: more than one class is predicted."""
    part = _test(facts)
    if part.kind == "multilabel":
        return None
    said = np.unique(part.predicted)
    if len(said) > 1 or len(np.unique(part.truth)) == 1:
        return None
    return f"All {len(part)} images were given one class, {part.class_names[said[0]]}."


def beats_chance(facts: RunFacts) -> str | None:
    """Y: better than chance, than the largest class, and something was learnt in training."""
    part = _test(facts)
    if part.kind == "multilabel":
        return None
    counted = metrics.confusion(part)
    majority = float(counted.sum(axis=1).max() / counted.sum())
    if len(np.unique(part.truth)) > 1 and analytic.kappa_interval(counted)[0] <= 0:
        return f"Not shown to beat chance: the 95 % interval of kappa ({float(matrices.kappa(counted)):.2f}) reaches 0."
    if analytic.wilson(int(np.trace(counted)), int(counted.sum()))[1] < majority:
        return f"Worse than always saying the largest class, which is right {100 * majority:.1f} % of the time."
    if "train" in facts.predictions.splits:
        trained = metrics.confusion(facts.predictions.split("train"))
        reached, most = (
            float(matrices.accuracy(trained)),
            float(trained.sum(axis=1).max() / trained.sum()),
        )
        if (
            len(np.flatnonzero(trained.sum(axis=1))) > 1
            and float(matrices.kappa(trained)) <= 0.02
            and reached <= most + 0.01
        ):
            return f"Training accuracy ({reached:.3f}) is not above the largest class's share ({most:.3f}): nothing was learnt."
    return None


def few_seeds(facts: ComparisonFacts) -> str | None:
    """K: every mean has the seeds that a deviation takes."""
    few = [
        f"{name} ({estimate.num_seeds})"
        for name, estimate in facts.estimates.items()
        if estimate.num_seeds < 3
    ]
    if not few:
        return None
    return f"Fewer than three seeds: {', '.join(few)}; how much a new training would move these numbers is hardly known."


def lead_within_noise(facts: ComparisonFacts) -> str | None:
    """W: the best arm leads by more than the noise."""
    names = list(facts.estimates)
    if len(names) < 2:
        return None
    leads = [pair for pair in facts.pairs if {pair.first, pair.second} == set(names[:2])]
    if not leads:
        return f"The lead of {names[0]} over {names[1]} is not tested: no seed in common, or both stand against a third."
    return (
        None
        if leads[0].is_significant
        else f"The lead of {names[0]} over {names[1]} is within the noise: neither is the winner."
    )


def _test(facts: RunFacts) -> Predictions:
    predictions = facts.predictions
    return predictions.split("test" if "test" in predictions.splits else predictions.splits[-1])


def _on_the_fence(part: Predictions, *, margin: float = 1e-3) -> float:
    """The share of images whose two highest probabilities are so near that another order of summing
    may swap them.
    """
    if part.probabilities.shape[1] < 2:
        return 0.0
    highest = np.partition(part.probabilities, -2, axis=1)[:, -2:]  # (n, 2), the highest last
    return float((highest[:, 1] - highest[:, 0] < margin).mean())
