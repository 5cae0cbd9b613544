"""The linear model of a study: arms over splits or seeds, with the variance over images and
trainings.

Every arm has a value on every test set; runs of one arm on the same test images are seeds. Four
things move a mean over S runs:

- *test images*: the covariance of any two runs, overlapping test sets included, comes from
  `metrics.influence`, by groups where images share one; C is the mean over pairs of different runs;
- *splits and trainings*: the mean square M between the runs, pooled over the arms; an arm that
  scatters more than the others keeps its own (Cochran's test);
- the images' part B of M is known: M is moderated towards it, as if `PRIOR_DEGREES` further
  degrees of freedom had shown it (limma's empirical Bayes);
- *training images that the runs share* move all of them alike, which no difference between them
  shows, so that no unbiased estimate exists (Bengio and Grandvalet). They count as H V r, for the
  image variance V of one run and r test images a training image. H grows with how much a learner
  depends on its training (`shared_training`): with the share of its errors that it does not make
  on the images it was trained on (Efron's optimism), or with how little two of its trainings have
  in common, whichever says more. It is smaller where two arms err on the same images but for the
  randomness of their trainings.

Var = C + M / S + H V r, with Satterthwaite's degrees of freedom, those of M being those of the
whole table. This is the variance over new data sets of this size, their splits and
trainings. `image_variance`, C + B / S, is the one over new test images for these very trainings;
one training has no other.

The correction of Nadeau and Bengio, (1 / S + r) M, takes all of M as shared. What comes true is
measured with learners of several kinds by `benchmarks/verdicts.py`.

Source: Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004), for the
moderation; Bengio and Grandvalet, Journal of Machine Learning Research 5 (2004); Nadeau and Bengio,
Machine Learning 52 (2003), section 3; Efron, Journal of the American Statistical Association 99
(2004), for optimism; Satterthwaite, Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.evaluation import calibration, metrics, multilabel
from lib.evaluation.predictions import Predictions

SHARED_TRAINING = (0.10, 0.25)
"""What shared training images add for a learner that does not depend on single ones, and how much
more for one that does as much as it can: fitted to what simulated learners need, and judged by
other data sets and learners (`benchmarks/verdicts.py`).
"""
PRIOR_DEGREES = 5.0
"""Prior degrees of freedom of the variance between runs, from the known variance over images."""
_OUTLIER_LEVEL = 0.05
_NULL_DRAWS = 4_000
_LEAST = 1e-6  # of the image variance, where runs happen to agree to the last image


@dataclass(frozen=True)
class Uncertainty:
    """The variance of an estimate: over images with these trainings, and over images, splits and
    trainings.

    `variance` has `degrees_of_freedom` (infinite where it is known). `square` is the mean square
    between the runs, `num_runs` their number, `known` the part that more runs do not take away, and
    `degrees_each` the degrees of freedom that one more run brings.
    """

    image_variance: float
    variance: float
    degrees_of_freedom: float
    square: float = float("nan")
    num_runs: int = 1
    known: float = 0.0
    degrees_each: float = 0.0

    def half_width_of_new_run(self, level: float) -> float:
        """Half the prediction interval, around the mean, of one further run of the same design."""
        from scipy.special import stdtrit

        degrees = PRIOR_DEGREES + self.degrees_each * (self.num_runs - 1)
        error = np.sqrt(self.square * (1 + 1 / self.num_runs))
        return float(stdtrit(degrees, (1 + level) / 2) * error)

    def with_runs(self, num: int) -> Uncertainty:
        """The uncertainty with another number of runs, all else as measured."""
        share = self.square / num
        variance = max(self.known + share, _LEAST * self.image_variance)
        degrees = PRIOR_DEGREES + self.degrees_each * (num - 1)
        degrees = degrees * (variance / share) ** 2 if share else np.inf
        over_images = self.image_variance * min(1.0, variance / self.variance)
        return replace(
            self,
            image_variance=over_images,
            variance=variance,
            degrees_of_freedom=degrees,
            num_runs=num,
        )

    def half_width(self, level: float) -> float:
        """Half the interval at `level`; never narrower than what the images alone allow."""
        from scipy.special import stdtrit

        degrees = np.array([np.inf, self.degrees_of_freedom])
        return float((stdtrit(degrees, (1 + level) / 2) * self._errors).max())

    def half_width_over_images(self, level: float) -> float:
        """Half the interval at `level` over images with these trainings."""
        return replace(self, variance=0.0).half_width(level)

    @property
    def _errors(self) -> np.ndarray:
        return np.sqrt([self.image_variance, self.variance])

    def upper_tail(self, distance: float) -> float:
        """The one-sided p of an estimate that lies `distance` above the hypothesis."""
        from scipy.special import stdtr

        degrees = np.array([np.inf, self.degrees_of_freedom])
        with np.errstate(divide="ignore", invalid="ignore"):
            tails = stdtr(degrees, np.nan_to_num(-distance / self._errors))
        return float(tails.max() if distance >= 0 else tails.min())

    def p_value(self, distance: float) -> float:
        """The two-sided p: 1 minus the level of the interval that just reaches the hypothesis."""
        return min(1.0, 2 * self.upper_tail(abs(distance)))


@dataclass(frozen=True)
class Scores:
    """One metric of all runs of a study.

    `values` (runs,) and `covariance` (runs, runs; over images) share their order with `arms`,
    `seeds`, `sets` (which test set), `ratios` (test / training images) and `floors` (the value of a
    run without a right answer). `images` and `groups` number the images of each test set, and the
    groups that they belong to.
    """

    metric: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    sets: np.ndarray
    values: np.ndarray
    covariance: np.ndarray
    ratios: np.ndarray
    floors: np.ndarray
    images: tuple[np.ndarray, ...]
    groups: tuple[np.ndarray, ...]
    derived: frozenset[str] = frozenset()
    """Arms made of other arms, which add no degrees of freedom."""
    optimism: Mapping[str, float] = field(default_factory=dict)
    """Of each arm the share of its errors that it does not make on its training images."""

    def rows(self, arm: str) -> np.ndarray:
        """The places of the runs of one arm."""
        return np.array([place for place, name in enumerate(self.arms) if name == arm])

    def weights(self, arm: str, sets: Sequence[int] | None = None) -> np.ndarray:
        """float64 (sets, runs): the mean over an arm's runs of each test set, in `sets` or all."""
        mine = self.rows(arm)
        sets = sorted(set(self.sets[mine])) if sets is None else sets
        shares = np.zeros((len(sets), len(self.values)))
        for row, name in enumerate(sets):
            chosen = mine[self.sets[mine] == name]
            shares[row, chosen] = 1 / len(chosen)
        return shares


def score(
    arms: Mapping[str, Mapping[int, Predictions]],
    functions: Mapping[str, metrics.Function | None],
    *,
    split: str = "test",
    derived: Collection[str] = (),
) -> dict[str, Scores]:
    """The scores of all runs for every metric of `functions`; `arms` maps a name to its runs by
    seed, and `derived` are those made of others.
    """
    names = [(arm, seed) for arm, runs in arms.items() for seed in runs]
    parts = [arms[arm][seed].split(split) for arm, seed in names]
    sets = test_sets(parts)
    firsts = [parts[int(np.flatnonzero(sets == place)[0])] for place in range(sets.max() + 1)]
    images, clusters = independent_groups(firsts)
    grouped = any(has_groups(part) for part in parts)
    ratios = np.array([test_train_ratio(arms[arm][seed], firsts, split) for arm, seed in names])
    optimism = {
        arm: float(np.mean([_optimism(run, split) for run in runs.values()]))
        for arm, runs in arms.items()
    }
    scores = {}
    for name, function in functions.items():
        columns = [value_and_influence(part, name, function) for part in parts]
        scores[name] = Scores(
            metric=name,
            arms=tuple(arm for arm, _ in names),
            seeds=tuple(seed for _, seed in names),
            sets=sets,
            values=np.array([value for value, _ in columns]),
            covariance=_covariance(
                [slopes for _, slopes in columns], sets, clusters, grouped=grouped
            ),
            ratios=ratios,
            floors=np.array([_floor(part, name) for part in parts]),
            images=tuple(images),
            groups=tuple(clusters),
            derived=frozenset(derived),
            optimism=optimism,
        )
    return scores


def value_and_influence(
    part: Predictions, name: str, function: metrics.Function | None
) -> tuple[float, np.ndarray]:
    """A metric of one split and the influence of each of its images, float64 (n,)."""
    if part.kind == "multilabel":
        return multilabel.value_and_influence(part, name)
    return float(function(metrics.confusion(part))), metrics.influence(part, function)


def _optimism(run: Predictions, split: str) -> float:
    # Without training rows nothing is known, and the trainings' agreement decides alone.
    if split == "train" or "train" not in run.splits:
        return 0.0
    test, train = (calibration.certainty(run.split(name))[1] for name in (split, "train"))
    return max(0.0, 1 - (~train).mean() / (~test).mean()) if not test.all() else 0.0


def _floor(part: Predictions, name: str) -> float:
    if name != "matthews" and "kappa" not in name:
        return 0.0
    if part.kind == "multilabel":
        p, q = part.truths.mean(axis=0), part.present.mean(axis=0)
        chance = p * q + (1 - p) * (1 - q)  # (classes,)
    else:
        chance = metrics.chance(metrics.confusion(part))
    return float(np.mean(-chance / np.maximum(1 - chance, 1e-9)))


def test_sets(parts: Sequence[Predictions]) -> np.ndarray:
    """int64 (parts,): parts of the same images share a number, counted in order of first
    appearance.
    """
    known: list[np.ndarray] = []
    places = []
    for part in parts:
        paths = part.frame["path"].to_numpy()
        place = next(
            (place for place, seen in enumerate(known) if np.array_equal(seen, paths)), len(known)
        )
        if place == len(known):
            known.append(paths)
        places.append(place)
    return np.array(places)


def has_groups(part: Predictions) -> bool:
    """Whether any two images of the part belong to one group."""
    return bool(part.frame["group"].duplicated().any())


def test_train_ratio(run: Predictions, parts: Sequence[Predictions], split: str = "test") -> float:
    """Images of `split` per training image of a run.

    Without training rows the number follows from how much the test sets `parts` overlap; one half
    (cautious) where there is one test set alone.
    """
    num = run.frame["split"].value_counts()
    if "train" in num:
        return float(num[split] / num["train"])
    paths = [set(part.frame["path"]) for part in parts]
    pairs = list(combinations(paths, 2))
    if not pairs:
        return 0.5
    overlap = float(np.mean([len(one & other) / len(one) for one, other in pairs]))
    total = max(len(set.union(*paths)), len(paths[0]) / overlap if overlap else 0.0)
    return len(paths[0]) / max(total - len(paths[0]), 1.0)


def independent_groups(
    parts: Sequence[Predictions],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The numbers of the images and of their groups, int64 (n,) for each part.

    An image has the same numbers in every part that holds it.
    """
    from scipy import sparse

    lengths = [len(part) for part in parts]
    images, _ = pd.factorize(np.concatenate([part.frame["path"].to_numpy() for part in parts]))
    if not any(has_groups(part) for part in parts):
        numbers = np.split(images, np.cumsum(lengths)[:-1])
        return numbers, numbers
    groups, start = (
        [],
        int(images.max()) + 1,
    )  # images and the groups of each part are the nodes of one graph
    for part in parts:
        codes, names = pd.factorize(part.groups)
        groups.append(codes + start)
        start += len(names)
    edges = sparse.coo_matrix(
        (np.ones(len(images)), (images, np.concatenate(groups))), shape=(start, start)
    )
    _, members = sparse.csgraph.connected_components(edges, directed=False)
    ends = np.cumsum(lengths)[:-1]
    return np.split(images, ends), np.split(members[images], ends)


def _covariance(
    slopes: Sequence[np.ndarray], sets: np.ndarray, clusters: Sequence[np.ndarray], *, grouped: bool
) -> np.ndarray:
    from scipy import sparse

    if len(clusters) == 1 and not grouped:
        together = np.stack(slopes, axis=1)  # (n, runs)
        return together.T @ together
    num_groups = 1 + max(int(codes.max()) for codes in clusters)
    sums = [
        np.bincount(clusters[place], column, num_groups)
        for column, place in zip(slopes, sets, strict=True)
    ]
    together = sparse.csc_matrix(np.stack(sums, axis=1))  # (groups, runs)
    few = len(np.unique(clusters[0])) if grouped else 0
    return np.asarray((together.T @ together).todense()) * (few / (few - 1) if few > 1 else 1.0)


class LinearModel:
    """Means of arms and differences between them, each with its `Uncertainty`, from the `Scores` of
    one metric.
    """

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.arms = list(dict.fromkeys(scores.arms))
        self._sets = {arm: sorted(set(scores.sets[scores.rows(arm)])) for arm in self.arms}
        self._pools: dict[tuple[int, ...], _Pool] = {}

    def mean(self, arm: str) -> tuple[float, Uncertainty]:
        """The mean over an arm's test sets (each the mean of its seeds) and its uncertainty."""
        rows, sets = self.scores.rows(arm), self._sets[arm]
        weights = self.scores.weights(arm)
        value, over_images = self._moments(weights.mean(axis=0), rows)
        if len(rows) == 1:
            return value, Uncertainty(over_images, over_images, np.inf)
        pool = self._pool(tuple(sets))
        num = len(rows) if len(sets) == 1 else len(sets)
        shared = pool.shared_training(arm)
        return value, self._combined(over_images, [(pool.of_arm(arm), num)], rows, shared)

    def difference(self, first: str, second: str) -> tuple[float, Uncertainty] | None:
        """`first` minus `second` over the test sets that both have; None where they share none."""
        sets = sorted(set(self._sets[first]) & set(self._sets[second]))
        if not sets:
            return None
        weights = self.scores.weights(first, sets) - self.scores.weights(second, sets)
        rows = np.flatnonzero(np.abs(weights).sum(axis=0))
        value, over_images = self._moments(weights.mean(axis=0), rows)
        pool = self._pool(tuple(sets))
        if len(sets) > 1:
            squares = [(pool.of_pair(first, second), len(sets))]
            shared = pool.shared_training(first, second)
            return value, self._combined(over_images, squares, rows, shared)
        members = [self.scores.rows(arm) for arm in (first, second)]
        numbers = [int((self.scores.sets[mine] == sets[0]).sum()) for mine in members]
        if min(numbers) == 1:
            return value, Uncertainty(over_images, over_images, np.inf)
        squares = [
            (pool.of_arm(arm), num) for arm, num in zip((first, second), numbers, strict=True)
        ]
        shared, is_shared = pool.shared_training(first, second), pool.is_shared(first, second)
        return value, self._combined(over_images, squares, rows, shared, is_shared=is_shared)

    def deviation(self, first: str, second: str) -> float:
        """The standard deviation of the difference between test sets, or between seeds of one; NaN
        for one run.
        """
        sets = sorted(set(self._sets[first]) & set(self._sets[second]))
        values = (
            self.scores.weights(first, sets) - self.scores.weights(second, sets)
        ) @ self.scores.values
        if len(sets) == 1:
            seeds = [
                {self.scores.seeds[row]: self.scores.values[row] for row in self.scores.rows(arm)}
                for arm in (first, second)
            ]
            values = np.array(
                [seeds[0][seed] - seeds[1][seed] for seed in seeds[0] if seed in seeds[1]]
            )
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def num_runs(self, first: str, second: str) -> int:
        """The runs of the arm that has fewer, on the test sets that both have."""
        sets = set(self._sets[first]) & set(self._sets[second])
        return min(
            int(np.isin(self.scores.sets[self.scores.rows(arm)], list(sets)).sum())
            for arm in (first, second)
        )

    def _combined(
        self,
        over_images: float,
        squares: Sequence[tuple[_MeanSquare, int]],
        rows: np.ndarray,
        shared: float,
        *,
        is_shared: bool = True,
    ) -> Uncertainty:
        parts = np.array([square.value / num for square, num in squares])
        degrees = np.array([square.degrees for square, _ in squares])
        common = over_images - sum(square.floor / num for square, num in squares)
        single = common + sum(square.floor for square, _ in squares)
        ratio = float(self.scores.ratios[rows].mean())
        known = max(0.0, common) + shared * ratio * max(0.0, single)
        variance = max(known + parts.sum(), _LEAST * over_images)
        noise = parts.sum() ** 2 / degrees[0] if is_shared else (parts**2 / degrees).sum()
        groups = [self.scores.groups[place] for place in set(self.scores.sets[rows])]
        noise += over_images**2 / max(1, len(np.unique(np.concatenate(groups))) - 1)
        num = min(num for _, num in squares)
        return Uncertainty(
            image_variance=over_images,
            variance=variance,
            degrees_of_freedom=variance**2 / noise if noise > 0 else np.inf,
            square=sum(square.value for square, _ in squares),
            num_runs=num,
            known=known,
            degrees_each=(degrees.min() - PRIOR_DEGREES) / max(1, num - 1),
        )

    def _moments(self, weights: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
        variance = float(weights @ self.scores.covariance @ weights)
        num_groups = max(
            len(np.unique(self.scores.groups[place])) for place in set(self.scores.sets[rows])
        )
        one_image = float(num_groups) ** -2.0
        return float(weights @ self.scores.values), max(variance, one_image)

    def _pool(self, sets: tuple[int, ...]) -> _Pool:
        if sets not in self._pools:
            if len(sets) == 1:
                members = [
                    arm
                    for arm in self.arms
                    if (self.scores.sets[self.scores.rows(arm)] == sets[0]).sum() > 1
                ]
            else:
                members = [arm for arm in self.arms if set(sets) <= set(self._sets[arm])]
            self._pools[sets] = _Pool(self.scores, members, sets)
        return self._pools[sets]


class _MeanSquare(NamedTuple):
    value: float
    degrees: float
    floor: float  # what images alone make of it


def _pooled(
    mine: tuple[float, float], squares: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    # Arms differ in what images make of their mean squares, and share the excess over it.
    values, floors = np.sum(squares, axis=0)
    return (mine[1] * values / floors, mine[1]) if floors > 0 and mine[1] > 0 else mine


def shared_training(dependence: float) -> float:
    """The share that shared training images add; `dependence` is, 0 to 1, the share of a learner's
    errors that it does not make in training, or of the image variance of one run that another run
    of the arm does not have on the same images.
    """
    return SHARED_TRAINING[0] + SHARED_TRAINING[1] * dependence


def _mean_overlap(images: Sequence[np.ndarray]) -> float:
    """The mean share of its images that a test set has in common with another."""
    return float(
        np.mean(
            [
                len(np.intersect1d(one, other)) / np.sqrt(len(one) * len(other))
                for one, other in combinations(images, 2)
            ]
        )
    )


def _moderated(square: float, floor: float, degrees: float) -> _MeanSquare:
    total = PRIOR_DEGREES + degrees
    return _MeanSquare((PRIOR_DEGREES * floor + degrees * square) / total, total, floor)


class _Pool:
    """The mean squares of arms measured on the same test sets, pooled where they agree."""

    def __init__(self, scores: Scores, arms: Sequence[str], sets: tuple[int, ...]) -> None:
        self.is_seeds = len(sets) == 1
        self.observed: dict[
            str, np.ndarray
        ] = {}  # the observations of each arm as weights of the runs
        for arm in arms:
            if self.is_seeds:
                rows = scores.rows(arm)
                rows = rows[scores.sets[rows] == sets[0]]
                self.observed[arm] = np.eye(len(scores.values))[rows]
            else:
                self.observed[arm] = scores.weights(arm, sets)
        self.scores = scores
        self._overlap = 1.0 if self.is_seeds else _mean_overlap([scores.images[k] for k in sets])
        self._alike = self._members_alike()

    def shared_training(self, *arms: str) -> float:
        """What training images that the runs share add, of the image variance of one run times test
        / training images; to the mean of an arm, or to the difference of two.
        """
        observed = [self.observed[arm] for arm in arms]
        stable = float(np.mean([self._stability(weights) for weights in observed]))
        optimism = float(np.mean([self.scores.optimism.get(arm, 0.0) for arm in arms]))
        share = shared_training(max(1 - stable, optimism))
        if len(arms) == 2 and len(observed[0]) == len(observed[1]) and stable > 0:
            share *= min(1.0, self._stability(observed[0] - observed[1]) / stable)
        return share

    def _stability(self, weights: np.ndarray) -> float:
        # The share of one run's image variance that another run has on the same images.
        covariance = weights @ self.scores.covariance @ weights.T
        between = ~np.eye(len(covariance), dtype=bool)
        single = np.trace(covariance) / len(covariance)
        if single <= 0:
            return 1.0
        if self._overlap <= 0:
            return 0.5  # test sets without a common image do not show it
        return float(np.clip(covariance[between].mean() / self._overlap / single, 0, 1))

    def is_shared(self, first: str, second: str) -> bool:
        """Whether both arms take their mean square from the common pool."""
        return first in self._alike and second in self._alike

    def of_arm(self, arm: str) -> _MeanSquare:
        """The mean square between the runs of an arm."""
        mine, degrees = self._square(self.observed[arm]), len(self.observed[arm]) - 1.0
        if arm in self._alike:
            mine = _pooled(mine, self._arm_squares)
            degrees = self._degrees_of_arms()
        return _moderated(*mine, degrees)

    def of_pair(self, first: str, second: str) -> _MeanSquare:
        """As `of_arm`, for the difference of two arms on the same test sets."""
        mine = self._square(self.observed[first] - self.observed[second])
        degrees = len(self.observed[first]) - 1.0
        if self.is_shared(first, second):
            mine = _pooled(mine, self._pair_squares)
            degrees *= len(self._alike) - 1
        return _moderated(*mine, degrees)

    @cached_property
    def _arm_squares(self) -> list[tuple[float, float]]:
        return [self._square(self.observed[arm]) for arm in self._alike]

    @cached_property
    def _pair_squares(self) -> list[tuple[float, float]]:
        pairs = combinations(self._alike, 2)
        return [self._square(self.observed[one] - self.observed[other]) for one, other in pairs]

    def _square(self, weights: np.ndarray) -> tuple[float, float]:
        # The mean square between observations, and its expectation if the images alone moved them.
        num = len(weights)
        covariance = weights @ self.scores.covariance @ weights.T
        of_mean = covariance.mean()
        floor = (np.trace(covariance) / num - of_mean) * num / (num - 1)
        return float((weights @ self.scores.values).var(ddof=1)), max(0.0, float(floor))

    def _degrees_of_arms(self) -> float:
        values = np.stack([self.observed[arm] @ self.scores.values for arm in self._alike], axis=0)
        num_arms, num = values.shape
        if self.is_seeds or num_arms == 1:
            return float(num_arms * (num - 1))
        between = num_arms * values.mean(axis=0).var(
            ddof=1
        )  # arms share the test sets, and what is easy in them
        residual = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        within = (residual**2).sum() / ((num_arms - 1) * (num - 1))
        total = between + (num_arms - 1) * within
        parts = between**2 / (num - 1) + (num_arms - 1) * within**2 / (num - 1)
        return float(total**2 / parts) if parts > 0 else float(num - 1)

    def _members_alike(self) -> list[str]:
        # Arms whose mean square stands out leave the pool, one after another (Cochran's test).
        own = [arm for arm in self.observed if arm not in self.scores.derived]
        alike = [arm for arm in own if self._square(self.observed[arm])[1] > 0]
        lengths = {arm: len(self.observed[arm]) for arm in alike}
        alike = [arm for arm in alike if lengths[arm] == max(lengths.values())]
        while len(alike) >= (2 if self.is_seeds else 3):
            excess = self._excess(alike)
            if not _stands_out(excess, lengths[alike[0]], is_seeds=self.is_seeds):
                break
            alike.pop(int(np.argmax(excess)))
        return alike

    def _excess(self, arms: Sequence[str]) -> np.ndarray:
        if self.is_seeds:
            squares = np.array([self._square(self.observed[arm]) for arm in arms])
            return squares[:, 0] / squares[:, 1]
        excess = np.zeros(len(arms))
        for one, other in combinations(range(len(arms)), 2):
            square, floor = self._square(self.observed[arms[one]] - self.observed[arms[other]])
            excess[[one, other]] += square / floor if floor > 0 else 0.0
        return excess


def _stands_out(excess: np.ndarray, num: int, *, is_seeds: bool) -> bool:
    """Whether the largest of the arms' mean squares is too large a share of them, at 5 %.

    Source: Cochran, Annals of Eugenics 11 (1941); the distribution without a difference is drawn.
    """
    if excess.sum() == 0:
        return False
    return bool(excess.max() / excess.sum() > _outlier_limit(len(excess), num, is_seeds))


@lru_cache
def _outlier_limit(num_arms: int, num: int, is_seeds: bool) -> float:
    values = np.random.default_rng(0).normal(size=(_NULL_DRAWS, num_arms, num))
    if is_seeds:
        squares = values.var(axis=2, ddof=1)  # (draws, arms)
    else:
        differences = values[:, :, None] - values[:, None]  # (draws, arms, arms, sets)
        squares = differences.var(axis=3, ddof=1).sum(axis=2)
    shares = squares.max(axis=1) / squares.sum(axis=1)
    return float(np.quantile(shares, 1 - _OUTLIER_LEVEL))
