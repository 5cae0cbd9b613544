"""Whether one arm is really better than another: paired on the same images, corrected over many
arms, in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from lib.errors import DarkroomError
from lib.evaluation import confusion as matrices
from lib.evaluation import metrics, split_comparison, statistics
from lib.evaluation.predictions import Predictions
from lib.evaluation.statistics import Estimate

ALPHA = 0.05
_IN_POINTS = {"accuracy", "balanced_accuracy", "macro_f1"}


@dataclass(frozen=True)
class Pair:
    """`first` minus `second` in one headline number. `p_adjusted` counts the other pairs (Holm);
    alone it is `p`.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    p_adjusted: float
    method: str
    num_pairs: int = 1

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown at 5 % after correction."""
        return self.p_adjusted < ALPHA

    @property
    def verdict(self) -> str:
        """One sentence, for people: who is better by how much, or that no difference is shown."""
        name, value, low, high = (
            self.difference.name,
            self.difference.value,
            self.difference.low,
            self.difference.high,
        )
        if not self.is_shown:
            told = _told(name, value, low, high)
            if self.p < ALPHA:  # the interval alone would say otherwise
                told += (
                    f"; p {self.p_adjusted:.2f} after correction for {self.num_pairs} comparisons"
                )
            return f"No difference shown between {self.first} and {self.second} ({told})."
        if value > 0:
            return f"{self.first} is better than {self.second} ({_told(name, value, low, high)})."
        return f"{self.second} is better than {self.first} ({_told(name, -value, -high, -low)})."


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p that two predictions err alike: of the images only one got right, which
    one got more.

    Source: McNemar, Psychometrika 12 (1947), with the binomial distribution in place of its
        approximation.
    """
    from scipy.special import bdtr

    disagreeing = only_first + only_second
    if disagreeing == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), disagreeing, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in the same order.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in adjusted]


def compare(
    first: Mapping[int, Predictions],
    second: Mapping[int, Predictions],
    *,
    names: tuple[str, str] = ("A", "B"),
    metric: str = "accuracy",
    split: str = "test",
    seed: int = 0,
) -> Pair:
    """The paired comparison of two arms over the seeds both have; `first` and `second` map a seed
    to its run.

    One seed: McNemar's exact test (accuracy, no near-duplicates), else the paired bootstrap.
    Several seeds on the same images: variance over images and over seeds, added. Other images for
    each seed, or folds: the corrected resampled t-test.

    Raises:
        DarkroomError: no common seed, or a seed's two runs were scored on different images, labels
            or classes.
    """
    return _compare(*_scored([first, second], metric, split, seed), names=names, metric=metric)


def compare_all(
    arms: Mapping[str, Mapping[int, Predictions]],
    *,
    metric: str = "accuracy",
    split: str = "test",
    against: str = "",
) -> list[Pair]:
    """Every pair of arms with a common seed, Holm-corrected for their number; `arms` maps a name to
    its runs by seed.

    With `against`, the name of an arm, only the pairs that it is one of: fewer tests, so less is
    lost to the correction.
    """
    scored = dict(zip(arms, _scored(list(arms.values()), metric, split, seed=0), strict=True))
    found = [
        _compare(scored[one], scored[other], names=(one, other), metric=metric)
        for one, other in combinations(arms, 2)
        if set(arms[one]) & set(arms[other]) and (not against or against in (one, other))
    ]
    adjusted = holm([pair.p for pair in found])
    return [
        replace(pair, p_adjusted=p, num_pairs=len(found))
        for pair, p in zip(found, adjusted, strict=True)
    ]


@dataclass(frozen=True)
class _Scored:
    """One run's rows of the split, its number, and the number in each bootstrap draw."""

    part: Predictions
    ratio: float
    value: float
    draws: np.ndarray


def _compare(
    first: Mapping[int, _Scored],
    second: Mapping[int, _Scored],
    *,
    names: tuple[str, str],
    metric: str,
) -> Pair:
    seeds = sorted(set(first) & set(second))
    if not seeds:
        raise DarkroomError(
            f"{names[0]} and {names[1]} have no seed in common, so nothing pairs them."
        )
    ours, theirs = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    for one, other, seed in zip(ours, theirs, seeds, strict=True):
        if one.part.class_names != other.part.class_names or not split_comparison.same_images(
            [one.part, other.part]
        ):
            raise DarkroomError(
                f"{names[0]} and {names[1]} were scored on different images or classes at seed "
                f"{seed}."
            )
        if not np.array_equal(one.part.truth, other.part.truth):
            raise DarkroomError(
                f"{names[0]} and {names[1]} were scored against different labels at seed {seed}."
            )
    values = np.array([one.value - other.value for one, other in zip(ours, theirs, strict=True)])
    draws = np.stack(
        [one.draws - other.draws for one, other in zip(ours, theirs, strict=True)], axis=1
    )  # (draws, seeds)
    ratio = float(np.mean([one.ratio for one in ours]))
    difference = statistics.joined(metric, values, draws, [one.part for one in ours], ratio=ratio)
    if len(seeds) == 1 and metric == "accuracy" and not split_comparison.has_groups(ours[0].part):
        right, also = (one.part.predicted == one.part.truth for one in (ours[0], theirs[0]))
        p = mcnemar(int((right & ~also).sum()), int((also & ~right).sum()))
        return _pair(names, difference, p, "McNemar, exact")
    return _pair(
        names,
        difference,
        difference.p_value,
        "paired bootstrap" if len(seeds) == 1 else difference.method,
    )


def _scored(
    arms: Sequence[Mapping[int, Predictions]], metric: str, split: str, seed: int
) -> list[dict[int, _Scored]]:
    # Runs on the same images are drawn together, so that their differences are paired and a hundred
    # runs cost one bootstrap.
    together: dict[tuple, list[tuple[int, int, Predictions]]] = {}
    for place, arm in enumerate(arms):
        for its_seed, run in arm.items():
            part = run.split(split)
            key = (part.class_names, tuple(part.frame["path"]))
            together.setdefault(key, []).append((place, its_seed, part))
    scored: list[dict[int, _Scored]] = [{} for _ in arms]
    for index, members in enumerate(together.values()):
        drawn = statistics.drawn_together([part for *_, part in members], seed=seed + index)[
            metric
        ]  # (draws, members)
        for column, (place, its_seed, part) in enumerate(members):
            ratio = split_comparison.test_train_ratio([arms[place][its_seed]], split)
            scored[place][its_seed] = _Scored(part, ratio, _value(part, metric), drawn[:, column])
    return scored


def _pair(names: tuple[str, str], difference: Estimate, p: float, method: str) -> Pair:
    return Pair(names[0], names[1], difference, p, p, method)


def _value(part: Predictions, metric: str) -> float:
    return float(matrices.HEADLINES[metric](metrics.confusion(part)))


def _told(name: str, value: float, low: float, high: float) -> str:
    label = name.replace("_", " ")
    if name in _IN_POINTS:
        return (
            f"Δ {label} {100 * value:.1f} points, 95 % {100 * low:.1f} to {100 * high:.1f}".replace(
                "-", "−"
            )
        )
    return f"Δ {label} {value:.3f}, 95 % {low:.3f} to {high:.3f}".replace("-", "−")
