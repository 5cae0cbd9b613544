"""Paired tests between arms on the same images, corrected for the number of pairs, and their power.

A verdict rests on `arm_model`. With one training an arm it speaks of these two trained models,
never of the methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import arm_model, metrics
from lib.evaluation.arm_model import LinearModel, Uncertainty
from lib.evaluation.formatting import SHARES, words
from lib.evaluation.predictions import Predictions
from lib.evaluation.statistics import Estimate, estimate

ALPHA = 0.05
_MANY_DEGREES = 1e6  # of which t is normal
MARGIN = 0.02
"""Arms are equivalent where they are shown to lie less than this apart."""


@dataclass(frozen=True)
class Pair:
    """`first` minus `second` in one metric.

    `difference` has the 95 % interval of this pair alone. `interval` and `image_interval`,
    `p_adjusted` and `p_equivalent` are corrected for the number of pairs (Holm, Tukey): the
    interval excludes 0 just where `p_adjusted` is below 5 %, and lies within `margin` just where
    `p_equivalent` is. Power is that of a test at the level `alpha`; `is_exact` says that p is
    McNemar's.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    p_adjusted: float
    p_equivalent: float
    margin: float
    is_exact: bool = False
    num_pairs: int = 1
    alpha: float = ALPHA
    is_splits: bool = True

    @property
    def method(self) -> str:
        """The test in words."""
        return "McNemar, exact" if self.is_exact else self.difference.method

    @property
    def interval(self) -> tuple[float, float]:
        """The corrected interval over images, splits and trainings."""
        return self._around(self.difference.uncertainty.half_width(self._level))

    @property
    def image_interval(self) -> tuple[float, float]:
        """The corrected interval over images with these trainings."""
        return self._around(self.difference.uncertainty.half_width_over_images(self._level))

    @property
    def _level(self) -> float:
        share = self.p / self.p_adjusted if self.p_adjusted > 0 else 1 / self.num_pairs
        return 1 - ALPHA * share

    def _around(self, half: float) -> tuple[float, float]:
        value, widest = self.difference.value, _widest(self.difference.name)
        return max(-widest, value - half), min(widest, value + half)

    @cached_property
    def detectable(self) -> float:
        """The smallest difference that this design shows with 80 % power."""
        return detectable(self.difference.uncertainty, alpha=self.alpha)

    @cached_property
    def runs_needed(self) -> int | None:
        """Number of runs an arm needed to show the observed difference; None if no number would."""
        if self.difference.num_seeds < 2:
            return None
        value, uncertainty = self.difference.value, self.difference.uncertainty
        return runs_needed(value, uncertainty, alpha=self.alpha)

    @property
    def is_significant(self) -> bool:
        """Whether the arms differ at 5 % after correction."""
        return self.p_adjusted < ALPHA

    @property
    def better(self) -> str | None:
        """The arm that is significantly better; None where the difference is not significant."""
        if not self.is_significant:
            return None
        return self.first if self.difference.value > 0 else self.second

    @property
    def is_equivalent(self) -> bool:
        """Whether the arms are shown to lie less than `margin` apart, at 5 % after correction."""
        return self.p_equivalent < ALPHA

    @property
    def order(self) -> tuple[str, str]:
        """The two arms, the one with the higher result first."""
        is_first = self.difference.value >= 0
        return (self.first, self.second) if is_first else (self.second, self.first)

    @property
    def numbers(self) -> str:
        """The difference, the higher arm minus the other, with both corrected 95 % intervals."""
        is_share, value = self.difference.name in SHARES, abs(self.difference.value)
        ends = [self.interval]
        if self.difference.num_seeds > 1:
            ends.append(self.image_interval)
        if self.difference.value < 0:
            ends = [(-high, -low) for low, high in ends]
        spans = [
            f"{100 * low:.1f} to {100 * high:.1f}" if is_share else f"{low:.3f} to {high:.3f}"
            for low, high in ends
        ]
        text = f"+{self._size(value)}, 95 % {'; over images with these trainings '.join(spans)}"
        return text.replace("-", "−")

    @property
    def relation(self) -> str:
        """What is shown of the two, to stand behind their names."""
        if self.is_equivalent:
            return f"are equivalent, within {self._size(self.margin)} of each other"
        return "do not differ significantly"

    @property
    def verdict(self) -> str:
        """One sentence for people: which arm is better and by how much, that they are equivalent,
        or what is not shown.
        """
        name, (better, worse) = words(self.difference.name), self.order
        if not np.isfinite(self.difference.value):
            return f"{self.first} and {self.second}: {name} is not defined."
        numbers = f"({name} {self.numbers})"
        if self.difference.num_seeds == 1:
            relation = "show no significant difference"
            if self.is_significant:
                relation = f"differ: {better} has the higher {name}"
            elif self.is_equivalent:
                relation = self.relation
            return (
                f"These two trained models, {better} and {worse}, {relation} {numbers}; one "
                "training each says nothing about the methods; train with more seeds."
            )
        if self.is_significant:
            within = f"within {self._size(self.margin)} of each other"
            small = f"; the two are {within}" if self.is_equivalent else ""
            return f"{better} is better than {worse} {numbers}{small}."
        if self.is_equivalent:
            return f"{better} and {worse} {self.relation} {numbers}."
        return f"No significant difference between {better} and {worse} {numbers}{self._more}."

    @property
    def _more(self) -> str:
        noun = "splits" if self.is_splits else "seeds"
        if self.detectable >= 1:
            return "; these images are too few to show any difference"
        sentence = f"; this design can show {self._size(self.detectable)}"
        if (num := self.runs_needed) is not None:
            rounded = num if num <= 20 else round(num, -1)  # the variance itself is an estimate
            return f"{sentence}; about {rounded} {noun} would show this one"
        return f"{sentence}; no number of {noun} of these images would show this one"

    def _size(self, value: float) -> str:
        is_share = self.difference.name in SHARES
        return f"{100 * value:.1f} points" if is_share else f"{value:.3f}"


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in the same order.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in adjusted]


def tukey(p_values: Sequence[float], degrees: Sequence[float], num_arms: int) -> list[float]:
    """The p-values of all pairs of `num_arms` arms corrected by the largest t, in the same order.

    Pairs that share an arm go together, which Holm's correction does not use: among eleven arms it
    takes them for 55 differences. Together with Holm's it stays within the closed test of both.

    Source: Tukey's range test; Hothorn, Bretz and Westfall, Biometrical Journal 50 (2008).
    """
    from scipy.special import stdtrit
    from scipy.stats import studentized_range

    num = np.minimum(degrees, _MANY_DEGREES)
    t = -stdtrit(num, np.clip(p_values, 1e-30, 1) / 2)
    return list(np.clip(studentized_range.sf(t * np.sqrt(2), num_arms, num), p_values, 1))


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p that two predictions err alike: of the images only one got right, which
    one got more.

    Source: McNemar, Psychometrika 12 (1947), with the binomial distribution in place of its
    approximation.
    """
    from scipy.stats import binomtest

    disagreeing = only_first + only_second
    return float(binomtest(only_first, disagreeing).pvalue) if disagreeing else 1.0


def compare(
    first: Mapping[int, Predictions],
    second: Mapping[int, Predictions],
    *,
    names: tuple[str, str] = ("A", "B"),
    metric: str = "accuracy",
    split: str = "test",
    margin: float = MARGIN,
) -> Pair:
    """The paired comparison of two arms; `first` and `second` map a seed to its run.

    Raises:
        DarkroomError: no test set in common, or a seed's two runs were scored on different images,
            labels or classes.
    """
    pairs = compare_all(
        {names[0]: first, names[1]: second}, metric=metric, split=split, margin=margin
    )
    if not pairs:
        raise DarkroomError(
            f"{names[0]} and {names[1]} have no test images in common, so nothing pairs them."
        )
    return pairs[0]


def compare_all(
    arms: Mapping[str, Mapping[int, Predictions]],
    *,
    metric: str = "accuracy",
    split: str = "test",
    margin: float = MARGIN,
) -> list[Pair]:
    """Every pair of arms with a common test set, corrected for their number; `arms` maps a name to
    its runs by seed.
    """
    refuse_other_images(arms, split)
    scores = arm_model.score(arms, {metric: metrics.HEADLINES.get(metric)}, split=split)[metric]
    exact = exact_p_values(arms, metric, split)
    return of_model(LinearModel(scores), margin=margin, exact=exact)


def of_model(
    model: LinearModel,
    *,
    against: str = "",
    margin: float = MARGIN,
    exact: Mapping[tuple[str, str], float] | None = None,
) -> list[Pair]:
    """The pairs of the arms of a model, corrected for their number.

    With `against`, the name of an arm, only the pairs that it is one of: fewer tests, so less is
    lost to the correction.

    `exact` holds p values that take the place of the model's, by pair, as McNemar's do.
    """
    if not 0 < margin < 1:
        raise DarkroomError(f"`margin` must lie between 0 and 1. Received: {margin}.")
    exact, results = dict(exact or {}), {}
    for pair in combinations(model.arms, 2):
        result = model.difference(*pair) if not against or against in pair else None
        if result is not None:
            value, uncertainty = result
            if pair in exact:
                uncertainty = _agreeing_with(exact[pair], value, uncertainty)
            results[pair] = value, uncertainty
    p = [
        exact[pair] if pair in exact else uncertainty.p_value(abs(value))
        for pair, (value, uncertainty) in results.items()
    ]
    equal = [uncertainty.upper_tail(margin - abs(value)) for value, uncertainty in results.values()]
    adjusted, equivalent = holm(p), holm(equal)
    num_arms = len({arm for pair in results for arm in pair})
    if 1 < len(p) == num_arms * (num_arms - 1) // 2:
        degrees = [uncertainty.degrees_of_freedom for _, uncertainty in results.values()]
        adjusted = list(np.minimum(adjusted, tukey(p, degrees, num_arms)))
    alpha = pairwise_alpha(num_arms, len(p)) if p else ALPHA
    corrected = zip(results.items(), p, adjusted, equivalent, strict=True)
    return [
        Pair(
            *names,
            _difference(model, names, *result),
            p=p_alone,
            p_adjusted=float(p_adjusted),
            p_equivalent=p_equal,
            margin=margin,
            is_exact=names in exact,
            num_pairs=len(p),
            alpha=alpha,
            is_splits=len(_common_sets(model, *names)) > 1,
        )
        for (names, result), p_alone, p_adjusted, p_equal in corrected
    ]


def letters(arms: Sequence[str], pairs: Sequence[Pair]) -> dict[str, str]:
    """The compact letter display: arms that share a letter do not differ significantly.

    Source: Piepho, Journal of Computational and Graphical Statistics 13 (2004), insert and absorb.
    """
    columns = [set(arms)]
    for pair in pairs:
        if pair.is_significant:
            split = []
            for column in columns:
                both = {pair.first, pair.second} <= column
                split += [column - {pair.first}, column - {pair.second}] if both else [column]
            columns = [
                column
                for place, column in enumerate(split)
                if not any(column < other for other in split) and column not in split[:place]
            ]
    order = {arm: place for place, arm in enumerate(arms)}
    columns.sort(key=lambda column: sorted(order[arm] for arm in column))
    names = [_letter(place) for place in range(len(columns))]
    return {
        arm: "".join(name for name, column in zip(names, columns, strict=True) if arm in column)
        for arm in arms
    }


def exact_p_values(
    arms: Mapping[str, Mapping[int, Predictions]], metric: str, split: str
) -> dict[tuple[str, str], float]:
    """McNemar's exact p of every two arms with one training each, without groups of images."""
    single = {
        arm: next(iter(runs.values())).split(split) for arm, runs in arms.items() if len(runs) == 1
    }
    if metric != "accuracy":
        return {}
    p_values = {}
    for (one, first), (other, second) in combinations(single.items(), 2):
        is_paired = np.array_equal(first.frame["path"].to_numpy(), second.frame["path"].to_numpy())
        if first.kind == "multilabel" or not is_paired or arm_model.has_groups(first):
            continue
        right, also = first.predicted == first.truth, second.predicted == second.truth
        p_values[one, other] = mcnemar(int((right & ~also).sum()), int((also & ~right).sum()))
    return p_values


def refuse_other_images(arms: Mapping[str, Mapping[int, Predictions]], split: str) -> None:
    """Raises DarkroomError for two runs of one seed with other classes, images or labels."""
    first: dict[int, tuple[str, Predictions]] = {}
    for arm, runs in arms.items():
        for seed, run in runs.items():
            part = run.split(split)
            other, seen = first.setdefault(seed, (arm, part))
            if seen.class_names != part.class_names or not np.array_equal(
                seen.frame["path"].to_numpy(), part.frame["path"].to_numpy()
            ):
                raise DarkroomError(
                    f"{other} and {arm} were scored on different images or classes at seed {seed}."
                )
            if not np.array_equal(seen.truths, part.truths):
                raise DarkroomError(
                    f"{other} and {arm} were scored against different labels at seed {seed}."
                )


def _agreeing_with(p: float, value: float, uncertainty: Uncertainty) -> Uncertainty:
    # The standard error at which the normal test gives the exact p: interval and p then agree.
    from scipy.special import ndtri

    if value == 0 or p >= 0.5:
        return uncertainty
    variance = (value / float(ndtri(p / 2))) ** 2
    return replace(uncertainty, image_variance=variance, variance=variance)


def _common_sets(model: LinearModel, first: str, second: str) -> set[int]:
    scores = model.scores
    return set(scores.sets[scores.rows(first)]) & set(scores.sets[scores.rows(second)])


def _difference(
    model: LinearModel, names: tuple[str, str], value: float, uncertainty: Uncertainty
) -> Estimate:
    scores, sets = model.scores, _common_sets(model, *names)
    rows = scores.rows(names[0])
    rows = rows[np.isin(scores.sets[rows], list(sets))]
    if len(sets) == 1:
        rows = rows[: model.num_runs(*names)]
    widest = _widest(scores.metric)

    def interval(half: float) -> tuple[float, float]:
        return max(-widest, value - half), min(widest, value + half)

    sd = model.deviation(*names)
    return estimate(scores, rows, value, uncertainty, interval=interval, sd=sd)


def _widest(metric: str) -> float:
    return 2.0 if metric == "matthews" or "kappa" in metric else 1.0


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else _letter(place // 26 - 1) + _letter(place % 26)


POWER = 0.8
DISAGREEMENT = 0.15
"""The assumed share of test images that only one of two arms gets right, before anything is
measured; between a frozen backbone and a small network it was 0.16 (elpv) and 0.23 (documents).
"""
TRAINING_SD = 0.01
"""The assumed standard deviation of accuracy between trainings of one arm on the same images."""
DEPENDENCE = 0.6
"""How much arms are assumed to depend on their training images, see `arm_model.shared_training`;
quickstart's do by 0.1 to 0.7, networks on paintings by 0.8 to 0.95.
"""
_MOST_RUNS = 100


@dataclass(frozen=True)
class Detectable:
    """The smallest difference in accuracy that a study shows with 80 % power; `num_pairs` are
    corrected for.
    """

    difference: float
    num_runs: int
    num_pairs: int
    num_test: int
    is_splits: bool

    @property
    def sentence(self) -> str:
        """One sentence for people, with what was assumed."""
        runs = f"{self.num_runs} {'splits' if self.is_splits else 'seeds'}"
        pairs = f"{self.num_pairs} comparison{'s' * (self.num_pairs > 1)}"
        images, points = f"{self.num_test:,} test images", f"{100 * self.difference:.1f} points"
        if self.num_runs == 1:
            return (
                f"One training each, {images}: this study can show that two trained models differ "
                f"by {points}, but nothing about the methods."
            )
        return (
            f"Smallest difference this study can show: {points} of accuracy ({runs}, {images}, "
            f"{pairs}, power {100 * POWER:.0f} %; assumed: two arms disagree on "
            f"{100 * DISAGREEMENT:.0f} % of the images, trainings vary by "
            f"{100 * TRAINING_SD:.0f} point)."
        )


def before(
    *,
    num_arms: int,
    num_runs: int,
    num_test: int,
    num_train: int,
    is_splits: bool,
    num_pairs: int | None = None,
    disagreement: float = DISAGREEMENT,
    training_sd: float = TRAINING_SD,
) -> Detectable:
    """The smallest difference in accuracy that a study of this design shows with 80 % power.

    Args:
        num_arms: arms, two or more.
        num_runs: trainings an arm.
        num_test: test images of one run.
        num_train: training images of one run.
        is_splits: each run has its own split; otherwise all runs share one.
        num_pairs: comparisons to correct for; by default all pairs of arms.
        disagreement: the share of test images that only one of two arms gets right.
        training_sd: the standard deviation of accuracy between trainings of one arm on the same
            images.
    """
    if num_arms < 2 or num_runs < 1 or num_test < 1 or num_train < 1:
        raise DarkroomError(
            f"A comparison takes two arms, one run and one image at least. Received: {num_arms} "
            f"arms, {num_runs} runs, {num_test} test and {num_train} training images."
        )
    pairs = num_arms * (num_arms - 1) // 2 if num_pairs is None else num_pairs
    over_images, of_training = disagreement / num_test, 2 * training_sd**2
    if num_runs == 1:
        expected = Uncertainty(over_images, over_images, np.inf)
    else:
        seen = num_test / (num_train + num_test) if is_splits else 1.0
        share = (of_training + over_images * (1 - seen)) / num_runs
        shared = arm_model.shared_training(DEPENDENCE) * num_test / num_train
        variance = over_images * (seen + shared) + share
        degrees = arm_model.PRIOR_DEGREES + (num_arms - is_splits) * (num_runs - 1)
        expected = Uncertainty(
            over_images * (seen + (1 - seen) / num_runs),
            variance,
            degrees * (variance / share) ** 2,
        )
    smallest = detectable(expected, alpha=pairwise_alpha(num_arms, pairs))
    return Detectable(smallest, num_runs, pairs, num_test, is_splits)


def pairwise_alpha(num_arms: int, num_pairs: int) -> float:
    """The level at which one pair is tested so that 5 % holds for all of them.

    Of all pairs of several arms by Tukey's range test, else by Holm's first step.
    """
    from scipy.special import ndtr
    from scipy.stats import studentized_range

    if num_pairs == 1 or num_pairs < num_arms * (num_arms - 1) // 2:
        return ALPHA / num_pairs
    return float(2 * ndtr(-studentized_range.ppf(1 - ALPHA, num_arms, np.inf) / np.sqrt(2)))


def power(difference: float, uncertainty: Uncertainty, *, alpha: float = ALPHA) -> float:
    """The probability that a true difference is shown at the level `alpha`."""
    from scipy.special import nctdtr, ndtr

    needed = uncertainty.half_width(1 - alpha)
    error, degrees = np.sqrt(uncertainty.variance), uncertainty.degrees_of_freedom
    if not np.isfinite(degrees) or degrees > 1e4:
        return float(ndtr((abs(difference) - needed) / error))
    return float(1 - nctdtr(degrees, abs(difference) / error, needed / error))


def detectable(uncertainty: Uncertainty, *, alpha: float = ALPHA) -> float:
    """The smallest difference that is shown with 80 % power."""
    from scipy.optimize import brentq

    enough = uncertainty.half_width(1 - alpha) + 10 * np.sqrt(uncertainty.variance)
    return float(brentq(lambda size: power(size, uncertainty, alpha=alpha) - POWER, 0.0, enough))


def runs_needed(difference: float, uncertainty: Uncertainty, *, alpha: float = ALPHA) -> int | None:
    """Number of runs an arm that shows a difference of this size with 80 % power; None if up to 100
    do not.
    """
    for num in range(2, _MOST_RUNS + 1):
        if power(difference, uncertainty.with_runs(num), alpha=alpha) >= POWER:
            return num
    return None
