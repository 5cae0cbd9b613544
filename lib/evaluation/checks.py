"""Named checks of a run and of a comparison; docs/guards.md explains every check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lib.errors import few
from lib.evaluation import arm_model, metrics, multilabel, statistics
from lib.evaluation.outcomes import Outcome, finding, flagged, held, not_judged, note
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import THRESHOLD, Predictions
from lib.evaluation.run_records import RunRecord
from lib.evaluation.statistics import Estimate

AGREEMENT = 1e-6
"""Largest difference between two computations of one number."""
ENOUGH_IMAGES = 30
"""Fewer test images than this are pointed out, as are classes never predicted."""
_ENOUGH_OF_CLASS = 5
_DRAWS = 999


@dataclass(frozen=True)
class RunFacts:
    """Inputs of the checks of a run. A check whose facts are missing is not judged.

    `reported` are numbers from elsewhere (Keras' evaluate) by their name here, by default those in
    the table; `settings` what the training was asked for (`monitor`, `class_weights`),
    `class_weights` those that acted; `diverged` whether the loss became NaN or infinite.
    """

    predictions: Predictions
    history: pd.DataFrame | None = None
    kept_epoch: int | None = None
    reported: Mapping[str, float] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    class_weights: Mapping[str, float] | None = None
    test_openings: int | None = None
    diverged: bool | None = None


@dataclass(frozen=True)
class ComparisonFacts:
    """Inputs of the checks of a comparison: arms by name, the best on validation first.

    `opened` are the names of all runs that have read the test images, `runs` those compared.
    """

    estimates: Mapping[str, Estimate]
    pairs: Sequence[Pair]
    runs: Mapping[str, Sequence[RunRecord]] = field(default_factory=dict)
    opened: Sequence[str] = ()


def one_prediction_table(facts: RunFacts) -> Outcome:
    """Kappa by two ways, and the result of Keras' evaluate, agree with the prediction table."""
    from sklearn.metrics import cohen_kappa_score

    part = _test(facts)
    if part.kind == "multilabel":
        at_half = (part.probabilities >= THRESHOLD) == part.truths  # as Keras counts
        ours: dict[str, float] = multilabel.summary(part) | {"accuracy": float(at_half.mean())}
    else:
        counted = metrics.confusion(part)
        ours = {name: float(function(counted)) for name, function in metrics.HEADLINES.items()}
        if len(np.union1d(part.truth, part.predicted)) > 1:
            theirs = float(cohen_kappa_score(part.truth, part.predicted))
            if abs(theirs - ours["kappa"]) > AGREEMENT:
                return (
                    "stops",
                    f"Kappa from the margins is {ours['kappa']:.6f}, from the rows {theirs:.6f}.",
                )
    reported = part.evaluated if facts.reported is None else facts.reported
    known = {name: value for name, value in reported.items() if name in ours}
    for name, value in known.items():
        tolerance = AGREEMENT + _share_of_ties(part)
        if abs(value - ours[name]) > tolerance:
            return "stops", (
                f"{name} was reported as {value:.6f}, but the prediction table gives "
                f"{ours[name]:.6f}: two sets under one result."
            )
    if not known:
        return not_judged("no second evaluation of the test images to compare the table with")
    return held(f"{', '.join(known)} from another evaluation agree with the prediction table")


def validation_unchanged(facts: RunFacts) -> Outcome:
    """Validation accuracy after training is that of the kept epoch."""
    if facts.history is None or facts.kept_epoch is None:
        return not_judged("the run has no history or no kept epoch")
    if "val" not in facts.predictions.splits or "val_accuracy" not in facts.history:
        return not_judged("there are no validation results")
    val = facts.predictions.split("val")
    if val.kind == "multilabel":
        return not_judged("the history holds no accuracy of all labels")
    row = facts.history[facts.history["epoch"] == facts.kept_epoch]
    if row.empty:
        return not_judged(f"the history has no epoch {facts.kept_epoch}")
    during = float(row["val_accuracy"].iloc[-1])
    after = float(metrics.accuracy(metrics.confusion(val)))
    if abs(during - after) <= 0.002 + 1.5 / len(val):  # one image may fall either way
        return held("validation accuracy after training is that of the kept epoch")
    return flagged(
        f"Validation accuracy was {during:.3f} at the kept epoch {facts.kept_epoch} and "
        f"{after:.3f} when scored after training: images or weights were not the same."
    )


def kept_epoch_is_best(facts: RunFacts) -> Outcome:
    """The kept epoch is in the history, and the best of all phases by what was monitored."""
    if facts.history is None or facts.kept_epoch is None:
        return not_judged("the run has no history or no kept epoch")
    history = facts.history
    row = history[history["epoch"] == facts.kept_epoch]
    if row.empty:
        return flagged(
            f"The history has no epoch {facts.kept_epoch}, which is recorded as the kept one."
        )
    monitor = facts.settings.get("monitor")
    if monitor not in history.columns:
        return not_judged("it is not known which number chose the epoch")
    best = history[monitor].min() if monitor.endswith("loss") else history[monitor].max()
    if np.isnan(best):
        return not_judged(f"no epoch has a {monitor} that is a number")
    value = float(row[monitor].iloc[-1])
    if value == best:
        return held(f"the kept epoch is the best of the history by {monitor}")
    where = history[history[monitor] == best].iloc[0]
    phase = f" of phase {where['phase']!r}" if "phase" in history else ""
    return flagged(
        f"Epoch {facts.kept_epoch} is kept with {monitor} {value:.4f}, but epoch "
        f"{int(where['epoch'])}{phase} reached {best:.4f}."
    )


def training_stayed_finite(facts: RunFacts) -> Outcome:
    """The loss never became NaN or infinite."""
    if facts.diverged is None:
        return not_judged("the run does not tell")
    if facts.diverged:
        return flagged("The loss became NaN or infinite; what is kept is from before.")
    return held("the loss stayed finite")


def duplicate_leakage(facts: RunFacts) -> Outcome:
    """Images of one group lie in one split."""
    frame = facts.predictions.frame
    if frame["split"].nunique() < 2:
        return not_judged("the table holds one split only")
    spread = frame.groupby("group")["split"].nunique()
    torn = spread.index[spread > 1]
    if not len(torn):
        return held("no group of images lies in more than one split")
    touched = int((frame["group"].isin(torn) & (frame["split"] == "test")).sum())
    return flagged(
        f"{len(torn)} groups of near-duplicates lie in more than one split, {touched} test images "
        "among them: the score is too good. Split by group, or report both."
    )


def test_access_recorded(facts: RunFacts) -> Outcome:
    """The reading of the test images is in the ledger."""
    if "test" not in facts.predictions.splits:
        return not_judged("no test image was scored")
    if facts.test_openings is None:
        return not_judged("no ledger of test access was given")
    if facts.test_openings == 0:
        return flagged("Test images were scored without an entry in the ledger of test access.")
    return held("the reading of the test images is in the ledger")


def class_weights_applied(facts: RunFacts) -> Outcome:
    """Class weights acted where they were asked for, and only there."""
    asked = facts.settings.get("class_weights")
    if asked is None:
        return not_judged("this kind of training has no setting of class weights")
    if (asked == "none") == (facts.class_weights is None):
        return held("class weights acted as they were asked for")
    if asked == "none":
        return flagged("Class weights acted although none were asked for.")
    return flagged(f"Class weights were asked for ({asked}) and never reached the loss.")


def several_classes_predicted(facts: RunFacts) -> Outcome:
    """More than one class (or set of labels) is predicted."""
    part = _test(facts)
    if part.kind == "multilabel":
        labels = part.present
        if len(np.unique(part.truths, axis=0)) == 1 and labels.any() == part.truths.any():
            return not_judged("all images bear the same labels")
        if not labels.any():
            return flagged(f"No label is predicted for any of {len(part)} images.")
        if len(np.unique(labels, axis=0)) == 1:
            return flagged(f"All {len(part)} images get the same labels.")
        return held("images get different labels")
    classes = np.unique(part.predicted)
    if len(np.unique(part.truth)) == 1:
        return not_judged("all images are of one class")
    if len(classes) > 1:
        return held(f"{len(classes)} classes are predicted")
    return flagged(f"All {len(part)} images were given one class, {part.class_names[classes[0]]}.")


def every_class_predicted(facts: RunFacts) -> Outcome:
    """No class with five test images or more is never predicted."""
    part = _test(facts)
    if part.kind == "multilabel":
        support, predicted = part.truths.sum(axis=0), part.present.sum(axis=0)
    else:
        counted = metrics.confusion(part)
        support, predicted = counted.sum(axis=1), counted.sum(axis=0)
    enough = support >= _ENOUGH_OF_CLASS
    if not enough.any():
        return not_judged(f"no class has {_ENOUGH_OF_CLASS} test images")
    never = [part.class_names[place] for place in np.flatnonzero(enough & (predicted == 0))]
    if never:
        return flagged(f"Never predicted, although there are test images of them: {few(never)}.")
    return held("every class is predicted at least once")


def enough_test_images(facts: RunFacts) -> Outcome:
    """The test split holds 30 images, or groups of images, at least."""
    part = _test(facts)
    num = len(np.unique(part.groups))
    if num >= ENOUGH_IMAGES:
        return held(f"{num:,} independent test images")
    what = "images" if num == len(part) else f"groups of images ({len(part)} images)"
    return note(f"Only {num} test {what}: every number of this run is uncertain.")


def beats_chance(facts: RunFacts) -> Outcome:
    """Better than chance and than the largest class, by groups where images share one."""
    part = _test(facts)
    if part.kind == "multilabel":
        return _labels_beat_chance(part)
    counted = metrics.confusion(part)
    if len(np.unique(part.truth)) < 2:
        return not_judged("all images are of one class")
    kappa, accuracy = float(metrics.kappa(counted)), float(metrics.accuracy(counted))
    largest = float(counted.sum(axis=1).max() / counted.sum())
    reason = _no_better_than_chance(part, counted, kappa)
    if reason:
        return flagged(reason)
    shown = statistics.over_seeds([part], "accuracy", split=str(part.frame["split"].iloc[0]))
    if shown.high < largest:
        return flagged(
            f"Worse than always predicting the largest class, whose share is {100 * largest:.1f} %."
        )
    reason = _learned_nothing(facts)
    if reason:
        return flagged(reason)
    if shown.low <= largest:
        return note(
            f"Better than chance (kappa {kappa:.2f}), but accuracy {100 * accuracy:.1f} % is not "
            f"shown to exceed the share of the largest class, {100 * largest:.1f} %."
        )
    return held(f"kappa {kappa:.2f} is above chance, accuracy above the largest class")


def enough_trainings(facts: ComparisonFacts) -> Outcome:
    """Every mean is over three trainings at least."""
    short = [
        f"{name} ({estimate.num_seeds})"
        for name, estimate in facts.estimates.items()
        if estimate.num_seeds < 3
    ]
    if not short:
        return held("every mean is over three trainings or more")
    return flagged(
        f"Fewer than three trainings: {', '.join(short)}; how much a new training would move these "
        "numbers is hardly known."
    )


def lead_is_significant(facts: ComparisonFacts) -> Outcome:
    """The arm that is best on validation leads the next one significantly on test."""
    names = list(facts.estimates)
    if len(names) < 2:
        return not_judged("there is one arm only")
    leads = [pair for pair in facts.pairs if {pair.first, pair.second} == set(names[:2])]
    if not leads:
        return not_judged(f"{names[0]} and {names[1]} are not compared with each other")
    if leads[0].is_significant:
        return held(f"{leads[0].better} is significantly better than the other of the first two")
    return note(
        f"{names[0]} and {names[1]}, the best two on validation, do not differ significantly on "
        "test: neither is the winner."
    )


def trainings_complete(facts: ComparisonFacts) -> Outcome:
    """Every training of these arms that has read the test images is part of the comparison."""
    if not facts.opened or not facts.runs:
        return not_judged("no ledger of test access, or no runs, were given")
    records = [trained for runs in facts.runs.values() for trained in runs]
    # By the name in its table, so that a choice which was copied to another study is noticed.
    here = {trained.predictions.run or "/".join(trained.folder.parts[-3:]) for trained in records}
    arms = {name.rpartition("-s")[0] for name in here}
    missing = [
        name for name in facts.opened if name not in here and name.rpartition("-s")[0] in arms
    ]
    if not missing:
        return held("no training of these arms that read the test images is left out")
    return flagged(
        f"{len(missing)} trainings of these arms have read the test images and are not compared: "
        f"{few(missing)}. A mean over chosen seeds is too good."
    )


def same_seeds(facts: ComparisonFacts) -> Outcome:
    """All arms were trained with the same seeds, without gaps."""
    if len(facts.runs) < 1:
        return not_judged("there are no runs")
    seeds = {arm: sorted(run.seed for run in runs) for arm, runs in facts.runs.items()}
    everyone = sorted({seed for of_arm in seeds.values() for seed in of_arm})
    lacking = [
        f"{arm} lacks {few([str(seed) for seed in everyone if seed not in of_arm])}"
        for arm, of_arm in seeds.items()
        if len(of_arm) < len(everyone)
    ]
    if lacking:
        return note(f"Arms have different seeds: {'; '.join(lacking)}.")
    gaps = sorted(set(range(everyone[0], everyone[-1] + 1)) - set(everyone))
    if gaps:
        return note(f"Seeds {few([str(seed) for seed in gaps])} are not among those compared.")
    return held(f"all arms have the seeds {everyone[0]} to {everyone[-1]}")


def trainings_differ(facts: ComparisonFacts) -> Outcome:
    """No two runs hold the same predictions, neither of one arm nor of two."""
    copies: list[str] = []
    firsts: list[RunRecord] = []
    arms_of: dict[int, list[str]] = {}
    for arm, runs in facts.runs.items():
        numbers = [_number(run, firsts) for run in runs]
        if len(set(numbers)) < len(numbers):
            copies.append(f"{arm} ({len(numbers) - len(set(numbers)) + 1})")
        for number in set(numbers):
            arms_of.setdefault(number, []).append(arm)
    if sum(map(len, facts.runs.values())) < 2:
        return not_judged("there is one training")
    alike = sorted({" and ".join(arms) for arms in arms_of.values() if len(arms) > 1})
    messages = []
    if copies:
        messages.append(
            f"Runs with the same predictions, which count as one training: {', '.join(copies)}."
        )
    if alike:
        messages.append(f"Arms with the same predictions: {'; '.join(alike)}.")
    return note(" ".join(messages)) if messages else held("no two trainings predict the same")


def _number(run: RunRecord, firsts: list[RunRecord]) -> int:
    # The place of the first run that predicts the same; a run without one becomes a first itself.
    for place, first in enumerate(firsts):
        if run.predicts_as(first):
            return place
    firsts.append(run)
    return len(firsts) - 1


RUN_CHECKS: dict[str, Callable[[RunFacts], Outcome]] = {
    "one_prediction_table": one_prediction_table,
    "validation_unchanged": validation_unchanged,
    "kept_epoch_is_best": kept_epoch_is_best,
    "training_stayed_finite": training_stayed_finite,
    "duplicate_leakage": duplicate_leakage,
    "test_access_recorded": test_access_recorded,
    "class_weights_applied": class_weights_applied,
    "several_classes_predicted": several_classes_predicted,
    "every_class_predicted": every_class_predicted,
    "enough_test_images": enough_test_images,
    "beats_chance": beats_chance,
}
COMPARISON_CHECKS: dict[str, Callable[[ComparisonFacts], Outcome]] = {
    "enough_trainings": enough_trainings,
    "lead_is_significant": lead_is_significant,
    "trainings_complete": trainings_complete,
    "same_seeds": same_seeds,
    "trainings_differ": trainings_differ,
}


def of_run(facts: RunFacts) -> list[dict[str, str]]:
    """Returns the outcome of every check of a run, for `result.json`: {check, outcome, message}."""
    return [finding(name, check(facts)) for name, check in RUN_CHECKS.items()]


def of_comparison(
    estimates: Mapping[str, Estimate],
    pairs: Sequence[Pair],
    *,
    runs: Mapping[str, Sequence[RunRecord]] | None = None,
    opened: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Returns the outcome of every check of a comparison; `estimates` are the arms, best on
    validation first.
    """
    facts = ComparisonFacts(estimates, pairs, runs or {}, opened)
    return [finding(name, check(facts)) for name, check in COMPARISON_CHECKS.items()]


def trials(made: Sequence[tuple[Mapping[str, Any], str]]) -> list[dict[str, str]]:
    """Whether a search uses what it varies: `made` holds each trial's values and a model digest.

    Two trials that differ in a value and give the same model mean that the value is never read.
    """
    seen: dict[str, Mapping[str, Any]] = {}
    for values, digest in made:
        first = seen.setdefault(digest, values)
        idle = [name for name in {**first, **values} if first.get(name) != values.get(name)]
        if idle:
            message = (
                f"Two trials differ in {', '.join(sorted(idle))} and made the same model: the "
                "value is never read."
            )
            return [finding("hyperparameters_used", ("stops", message))]
    return [finding("hyperparameters_used", held("trials that differ made different models"))]


def _test(facts: RunFacts) -> Predictions:
    predictions = facts.predictions
    return predictions.split("test" if "test" in predictions.splits else predictions.splits[-1])


def _share_of_ties(part: Predictions, *, margin: float = 1e-3) -> float:
    """The share of images whose highest probabilities another order of summing may swap."""
    if part.kind == "multilabel":
        return float((np.abs(part.probabilities - THRESHOLD) < margin).mean())
    if part.probabilities.shape[1] < 2:
        return 0.0
    highest = np.partition(part.probabilities, -2, axis=1)[:, -2:]  # (n, 2), the highest last
    return float((highest[:, 1] - highest[:, 0] < margin).mean())


def _no_better_than_chance(part: Predictions, counted: np.ndarray, kappa: float) -> str:
    if not arm_model.has_groups(part):
        if statistics.kappa_interval(counted)[0] > 0:
            return ""
        return f"Not shown to beat chance: the 95 % interval of kappa ({kappa:.2f}) reaches 0."
    p, num_groups = _p_by_groups(part), len(np.unique(part.groups))
    if p <= 0.025:
        return ""
    return (
        f"Not shown to beat chance: kappa {kappa:.2f}, p {p:.2f} over {num_groups} groups of "
        "images."
    )


def _p_by_groups(part: Predictions) -> float:
    """The one-sided p that kappa is 0, where images of one group count together.

    Groups of one class each exchange their classes; otherwise Student's t over the groups.
    """
    from scipy.special import stdtr

    num_classes = len(part.class_names)
    _, group = np.unique(part.groups, return_inverse=True)
    num_groups = int(group.max()) + 1
    truth, predicted = np.zeros((2, num_groups, num_classes))
    np.add.at(truth, (group, part.truth), 1.0)
    np.add.at(predicted, (group, part.predicted), 1.0)
    if ((truth > 0).sum(axis=1) > 1).any():
        slopes = metrics.influence(part, metrics.kappa)
        variance = float((np.bincount(group, slopes) ** 2).sum()) * num_groups / (num_groups - 1)
        kappa = float(metrics.kappa(metrics.confusion(part)))
        return float(stdtr(num_groups - 1, -kappa / np.sqrt(variance))) if variance else 1.0
    classes, generator = truth.argmax(axis=1), np.random.default_rng(0)
    orders = [np.arange(num_groups), *(generator.permutation(num_groups) for _ in range(_DRAWS))]
    drawn = np.zeros((len(orders), num_classes, num_classes))
    for place, order in enumerate(orders):
        np.add.at(drawn[place], classes[order], predicted)
    kappas = metrics.kappa(drawn)
    return float((kappas >= kappas[0] - 1e-12).mean())


def _learned_nothing(facts: RunFacts) -> str:
    if "train" not in facts.predictions.splits:
        return ""
    trained = metrics.confusion(facts.predictions.split("train"))
    reached = float(metrics.accuracy(trained))
    largest = float(trained.sum(axis=1).max() / trained.sum())
    is_at_chance = float(metrics.kappa(trained)) <= 0.02 and reached <= largest + 0.01
    if len(np.flatnonzero(trained.sum(axis=1))) > 1 and is_at_chance:
        return (
            f"Training accuracy ({reached:.3f}) is not above the largest class's share "
            f"({largest:.3f}): nothing was learned."
        )
    return ""


def _labels_beat_chance(part: Predictions) -> Outcome:
    truths = part.truths
    areas = metrics.per_class(part)["roc_auc"].dropna()
    if areas.empty:
        return not_judged("no label is on some images and off others")
    scores, generator = part.probabilities, np.random.default_rng(0)
    _, group = np.unique(part.groups, return_inverse=True)
    first = np.zeros(int(group.max()) + 1, dtype=int)
    first[group] = np.arange(len(group))  # one image of each group
    truths, scores = truths[first].astype(np.float64), scores[first].astype(np.float64)
    scores = scores - scores.mean(axis=0)
    observed = float((truths * scores).sum())
    drawn = [
        float((truths[generator.permutation(len(first))] * scores).sum()) for _ in range(_DRAWS)
    ]
    p = (1 + sum(value >= observed for value in drawn)) / (1 + _DRAWS)
    if p <= 0.025:
        return held(f"probabilities go with the labels (mean ROC-AUC {areas.mean():.2f})")
    return flagged(f"Not shown to beat chance: p {p:.2f} when labels are exchanged between images.")
