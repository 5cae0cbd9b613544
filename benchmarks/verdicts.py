"""Do intervals hold the truth and tests keep their level? Simulated with learners that train.

python -m benchmarks verdicts [--quick]
python -m benchmarks.verdicts [--learner NAME] [--population NAME] [--replicates N]

Every replicate draws a data set from a population, makes splits as the suite does (60 / 15 / 25 %),
trains one model an arm and split and asks `lib.evaluation` for intervals and verdicts. The truth is
the mean accuracy (or kappa) of such trainings on fresh images. Arms are alike by construction: each
has features of its own that are drawn in the same way; in the last design one has weaker ones. No
correlation between splits is assumed: overlapping splits bring their own.

The constants of `arm_model` were fitted to the population `normal` and the learners `FITTED_TO`. The
other populations and learners were not used for it: packaged data sets of scikit-learn, of which
images are drawn with some noise, so that their number has no end, and clusters with wrong labels.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from lib.evaluation import metrics, paired_tests, statistics
from lib.evaluation.arm_model import LinearModel, Scores

SHARES = (0.4, 0.25, 0.2, 0.15)
SIGNAL, WEAKER = 0.8, 0.64
GOALS = {
    "false verdicts": (0.03, 0.06),
    "means covered": (0.93, 0.97),
    "differences covered": (0.93, 0.97),
    "new runs covered": (0.93, 0.99),
    "difference": (0.045, 0.065),
    "power": (0.6, 1.0),
}
METRICS = {"accuracy": metrics.accuracy, "kappa": metrics.kappa}
_SHARED, _OWN, _FRESH = 3, 4, 1000

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Design:
    """A study: which learner, on how many images, how many arms and runs, on splits or one split.

    With `is_weaker` the first arm has weaker features; with `is_same` all arms have the same ones
    and differ by the randomness of their trainings.
    """

    learner: str
    num_images: int = 800
    num_arms: int = 5
    num_runs: int = 10
    is_fixed: bool = False
    is_weaker: bool = False
    is_same: bool = False
    population: str = "normal"


@dataclass(frozen=True)
class Study:
    """One simulated study: its scores by metric, and the accuracy and kappa of its models on fresh
    images, (arms, runs).
    """

    scores: dict[str, Scores]
    fresh: dict[str, np.ndarray]


def main(arguments: list[str] | None = None) -> int:
    """Runs all designs and prints one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few replicates of two learners")
    parser.add_argument("--learner", choices=list(LEARNERS), help="this one alone")
    parser.add_argument("--population", choices=list(POPULATIONS), default="normal")
    parser.add_argument("--replicates", type=int, default=200)
    asked = parser.parse_args(arguments)
    num = 20 if asked.quick else asked.replicates
    fitted = ["lda", "tree"] if asked.quick else FITTED_TO
    known = fitted if asked.population == "normal" else HELD_OUT
    for learner in [asked.learner] if asked.learner else known:
        if asked.population != "normal":
            studies = list(simulate(Design(learner, population=asked.population), num))
            for num_arms, num_runs in ((2, 3), (3, 3), (5, 3), (3, 5), (3, 10)):
                name = f"{asked.population}, {learner}, {num_runs} splits, {num_arms} arms"
                print(line(name, rates(studies, num_arms, num_runs), num), flush=True)
            continue
        for is_fixed in (False, True):
            if is_fixed and learner not in RANDOM:
                continue
            studies = list(simulate(Design(learner, is_fixed=is_fixed), num))
            if not is_fixed:
                print(f"{learner}, shared training: {needed_share(studies):.2f} needed", flush=True)
            for num_arms, num_runs in ((2, 3), (3, 3), (5, 3), (3, 5), (3, 10)):
                name = f"{num_runs} {'seeds' if is_fixed else 'splits'}, {num_arms} arms"
                print(
                    line(f"{learner}, {name}", rates(studies, num_arms, num_runs), num), flush=True
                )
        if learner in RANDOM:
            studies = list(simulate(Design(learner, num_arms=3, is_same=True), num))
            print(
                line(f"{learner}, 10 splits, 3 equal arms", rates(studies, 3, 10), num), flush=True
            )
        studies = list(simulate(Design(learner, num_arms=11, num_runs=3), num))
        print(line(f"{learner}, 3 splits, 11 arms", rates(studies, 11, 3), num), flush=True)
        weaker = Design(learner, num_images=2624, num_arms=3, num_runs=3, is_weaker=True)
        found = power(list(simulate(weaker, max(10, num // 2))))
        name = f"{learner}, 3 splits of 656 test images, one of 3 arms weaker"
        print(line(name, found, max(10, num // 2)), flush=True)
    return 0


def line(name: str, found: dict[str, float], num: int) -> str:
    """The results of a design as one line; `num` data sets were drawn.

    A rate is short of its goal where it lies more than two standard errors outside.
    """
    words, is_good = [], True
    for key, value in found.items():
        low, high = GOALS[key.split(": ")[-1]]
        error = 2 * np.sqrt(max(value * (1 - value), 1 / num) / num)
        is_good &= bool(low - error <= value <= high + error)
        words.append(f"{key} {100 * value:.1f} %")
    goals = "false verdicts 3 to 6 %, covered 93 to 97 %, power above 60 %"
    return f"{name}: {', '.join(words)} (goals: {goals}) {'ok' if is_good else 'short'}"


def simulate(design: Design, replicates: int, *, seed: int = 0) -> Iterator[Study]:
    """Simulated studies of one design."""
    generator = np.random.default_rng(seed)
    for _ in range(replicates):
        yield _study(design, generator)


def rates(studies: list[Study], num_arms: int, num_runs: int) -> dict[str, float]:
    """The share of studies with a false verdict, and the coverage of means and differences.

    A study of many arms and runs counts as several smaller ones.
    """
    held: dict[str, list[bool]] = {}
    for metric in METRICS:
        truth = float(np.mean([study.fresh[metric].mean() for study in studies]))
        wrong, means, differences, new = ([] for _ in range(4))
        for study in studies:
            every = study.scores[metric]
            for scores in _parts(every, num_arms, num_runs):
                model = LinearModel(scores)
                pairs = paired_tests.of_model(model)
                wrong.append(any(pair.is_significant for pair in pairs))
                differences += [pair.difference.low <= 0 <= pair.difference.high for pair in pairs]
                found = [statistics.of_arm(scores, arm, model=model) for arm in model.arms]
                means += [one.low <= truth <= one.high for one in found]
                for arm, one in zip(model.arms, found, strict=True):
                    rows = every.rows(arm)
                    is_new = ~np.isin(np.array(every.seeds)[rows], scores.seeds)
                    others = every.values[rows[is_new]]
                    new += ((one.new_low <= others) & (others <= one.new_high)).tolist()
        held[f"{metric}: false verdicts"] = wrong
        held |= {f"{metric}: means covered": means, f"{metric}: differences covered": differences}
        held |= {f"{metric}: new runs covered": new}
    return {name: float(np.mean(values)) for name, values in held.items() if values}


def needed_share(studies: list[Study]) -> float:
    """What `arm_model.shared_training` would have to be for this learner's differences.

    From the variance over data sets of the difference of two arms over all splits, without what
    images and splits explain.
    """
    total, images, explained = 0.0, 0.0, 0.0
    for study in studies:
        scores, arms = study.scores["accuracy"], dict.fromkeys(study.scores["accuracy"].arms)
        for one, other in pairwise(arms):
            weights = scores.weights(one) - scores.weights(other)
            values, covariance = weights @ scores.values, weights @ scores.covariance @ weights.T
            between, single = ~np.eye(len(values), dtype=bool), np.diag(covariance).mean()
            total += values.mean() ** 2
            explained += covariance[between].mean() + values.var(ddof=1) / len(values)
            images += single * scores.ratios[0]
    return (total - explained) / images


def power(studies: list[Study]) -> dict[str, float]:
    """How often the weaker arm of `is_weaker` is found to be worse in accuracy, and by how much it
    is.
    """
    found = []
    for study in studies:
        pairs = paired_tests.of_model(LinearModel(study.scores["accuracy"]))
        found += [pair.is_significant for pair in pairs if pair.first == "arm 0"]
    fresh = np.mean([study.fresh["accuracy"].mean(axis=1) for study in studies], axis=0)
    return {"difference": float(fresh[1:].mean() - fresh[0]), "power": float(np.mean(found))}


def _study(design: Design, generator: np.random.Generator) -> Study:
    num, num_test, num_val = (
        design.num_images,
        design.num_images // 4,
        int(0.15 * design.num_images),
    )
    features, truth = POPULATIONS[design.population](design, num + _FRESH, generator)
    num_classes, wrong = int(truth.max()) + 1, np.zeros((2, design.num_arms))
    order, sets = generator.permutation(num), []
    slopes: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    shape = (design.num_arms, design.num_runs)
    values, fresh = ({metric: np.zeros(shape) for metric in METRICS} for _ in range(2))
    for run in range(design.num_runs):
        if run and not design.is_fixed:
            order = generator.permutation(num)
        test, train = np.sort(order[:num_test]), order[num_test + num_val :]
        sets.append(test)
        for arm in range(design.num_arms):
            predict = LEARNERS[design.learner](features[arm][train], truth[train], generator)
            predicted = predict(features[arm])
            counted = [
                metrics.counts(truth[rows], predicted[rows], num_classes)
                for rows in (test, np.arange(num, num + _FRESH))
            ]
            wrong[:, arm] += [(predicted[rows] != truth[rows]).mean() for rows in (train, test)]
            for metric, function in METRICS.items():
                values[metric][arm, run], fresh[metric][arm, run] = map(function, counted)
                column = np.zeros(num)
                slope = metrics.derivative(counted[0], function)
                column[test] = slope[truth[test], predicted[test]]
                slopes[metric].append(column)
    scores = {
        metric: scores_of(
            metric,
            values[metric],
            np.stack(slopes[metric], axis=1).reshape(num, *shape[::-1]),
            sets[:1] if design.is_fixed else sets,
            ratio=num_test / (num - num_test - num_val),
            optimism=np.maximum(0, 1 - wrong[0] / wrong[1]),
        )
        for metric in METRICS
    }
    return Study(scores, fresh)


def scores_of(
    metric: str,
    values: np.ndarray,
    slopes: np.ndarray,
    sets: list[np.ndarray],
    *,
    ratio: float,
    optimism: np.ndarray,
) -> Scores:
    """The scores of a study, as `arm_model.score` makes them of prediction tables.

    `values` is (arms, runs), `slopes` (images, runs, arms) the influence of every image, `sets` the
    test images of each run, or of all runs; `optimism` (arms,) see `Scores`.
    """
    num_arms, num_runs = values.shape
    columns = slopes.transpose(2, 1, 0).reshape(num_arms * num_runs, -1)
    return Scores(
        metric=metric,
        arms=tuple(f"arm {arm}" for arm in range(num_arms) for _ in range(num_runs)),
        seeds=tuple(range(num_runs)) * num_arms,
        sets=np.tile(np.arange(num_runs) if len(sets) > 1 else np.zeros(num_runs, int), num_arms),
        values=values.reshape(-1),
        covariance=columns @ columns.T,
        ratios=np.full(num_arms * num_runs, ratio),
        floors=np.zeros(num_arms * num_runs),
        images=tuple(sets),
        groups=tuple(sets),
        optimism={f"arm {arm}": float(share) for arm, share in enumerate(optimism)},
    )


def _parts(scores: Scores, num_arms: int, num_runs: int) -> Iterator[Scores]:
    arms, seeds = list(dict.fromkeys(scores.arms)), sorted(set(scores.seeds))
    is_fixed = len(scores.images) == 1
    for first in range(0, len(seeds) - num_runs + 1, num_runs):
        runs = set(seeds[first : first + num_runs])
        for start in range(0, len(arms) - num_arms + 1, num_arms):
            chosen = set(arms[start : start + num_arms])
            rows = [
                place
                for place, (arm, seed) in enumerate(zip(scores.arms, scores.seeds, strict=True))
                if arm in chosen and seed in runs
            ]
            sets = scores.images if is_fixed else scores.images[first : first + num_runs]
            yield replace(
                scores,
                arms=tuple(scores.arms[row] for row in rows),
                seeds=tuple(scores.seeds[row] for row in rows),
                sets=scores.sets[rows] - (0 if is_fixed else first),
                values=scores.values[rows],
                covariance=scores.covariance[np.ix_(rows, rows)],
                ratios=scores.ratios[rows],
                images=sets,
                groups=sets,
            )


def normal(
    design: Design, num: int, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Features for every arm, (num, 7) each, three of them the same, and the classes, (num,)."""
    truth = generator.choice(len(SHARES), size=num, p=SHARES)
    centres = np.random.default_rng(7).normal(size=(len(SHARES), _SHARED + _OWN))
    shared = generator.normal(size=(num, _SHARED)) + SIGNAL * centres[truth, :_SHARED]
    features = []
    for arm in range(design.num_arms):
        if design.is_same and features:
            features.append(features[0])
            continue
        signal = WEAKER if design.is_weaker and arm == 0 else SIGNAL
        own = generator.normal(size=(num, _OWN)) + signal * centres[truth, _SHARED:]
        features.append(np.hstack([shared, own]))
    return features, truth


def packaged(name: str, num_components: int, noise: float) -> Callable:
    """A data set of scikit-learn as a population: its rows with noise, and more for each arm."""

    def draw(
        design: Design, num: int, generator: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray]:
        rows, truth = _components(name, num_components)
        chosen = generator.integers(len(rows), size=num)
        shared = rows[chosen] + 0.3 * generator.normal(size=(num, num_components))
        return _noisy(design, shared, noise, generator), truth[chosen]

    return draw


@lru_cache
def _components(name: str, num: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    values, truth = getattr(datasets, f"load_{name}")(return_X_y=True)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
    left, singular, _ = np.linalg.svd(values, full_matrices=False)
    return left[:, :num] * np.sqrt(len(left)) * np.sqrt(singular[:num] / singular[0]), truth


def clusters(
    design: Design, num: int, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Three classes of two clusters each; 8 % of the labels are drawn at random."""
    centres = 1.3 * np.random.default_rng(99).normal(size=(3, 2, 6))
    truth = generator.choice(3, size=num, p=(0.5, 0.3, 0.2))
    shared = centres[truth, generator.integers(2, size=num)]
    shared = shared + 0.7 * generator.normal(size=(num, 6))
    is_wrong = generator.random(num) < 0.08
    truth = np.where(is_wrong, generator.integers(3, size=num), truth)
    return _noisy(design, shared, 0.7, generator), truth


def _noisy(
    design: Design, shared: np.ndarray, noise: float, generator: np.random.Generator
) -> list[np.ndarray]:
    num = 1 if design.is_same else design.num_arms
    arms = [shared + noise * generator.normal(size=shared.shape) for _ in range(num)]
    return arms * (design.num_arms // num)


POPULATIONS = {
    "normal": normal,
    "digits": packaged("digits", 12, 0.4),
    "wine": packaged("wine", 8, 0.7),
    "breast_cancer": packaged("breast_cancer", 6, 0.6),
    "clusters": clusters,
}


def discriminant(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """Linear discriminant analysis: a stable learner."""
    classes = np.eye(len(SHARES))[y]
    means = classes.T @ x / classes.sum(axis=0)[:, None]
    inside = x - means[y]
    weights = np.linalg.solve(inside.T @ inside / len(x) + 1e-3 * np.eye(x.shape[1]), means.T)
    offset = np.log(classes.mean(axis=0)) - 0.5 * (means * weights.T).sum(axis=1)
    return lambda new: (new @ weights + offset).argmax(axis=1)


def naive_bayes(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """Gaussian naive Bayes: a stable learner."""
    classes = np.eye(len(SHARES))[y]
    num = classes.sum(axis=0)[:, None]
    means = classes.T @ x / num
    variance = classes.T @ x**2 / num - means**2 + 1e-3
    prior = np.log(num[:, 0] / len(x)) - 0.5 * np.log(variance).sum(axis=1)
    return lambda new: (prior - 0.5 * ((new[:, None] - means) ** 2 / variance).sum(axis=2)).argmax(
        axis=1
    )


def centroid(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """The class with the nearest mean: a stable learner."""
    classes = np.eye(len(SHARES))[y]
    means = classes.T @ x / classes.sum(axis=0)[:, None]
    return lambda new: (new @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1)


def neighbour(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """The class of the nearest training image: each of them decides for its neighbourhood."""
    squares = (x**2).sum(axis=1)
    return lambda new: y[(squares - 2 * new @ x.T).argmin(axis=1)]


def tree(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """A full decision tree, three random features at a node: unstable."""
    from sklearn.tree import DecisionTreeClassifier

    seed = int(generator.integers(2**31))
    return DecisionTreeClassifier(max_features=3, random_state=seed).fit(x, y).predict


def random_features(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """A linear model on 25 random units: how it starts matters as much as the images."""
    hidden = 0.7 * generator.normal(size=(x.shape[1] + 1, 25))

    def units(new: np.ndarray) -> np.ndarray:
        return np.tanh(new @ hidden[:-1] + hidden[-1])

    inner = units(x)
    squares = inner.T @ inner + 0.1 * np.eye(inner.shape[1])
    weights = np.linalg.solve(squares, inner.T @ np.eye(len(SHARES))[y])
    return lambda new: (units(new) @ weights).argmax(axis=1)


def network(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """A network of 16 units after 40 steps of SGD with momentum, stopped before it has settled."""
    rate, steps, batch = 0.5, 40, 64
    sizes = (x.shape[1], 16, len(SHARES))
    weights = [generator.normal(size=pair) / np.sqrt(pair[0]) for pair in pairwise(sizes)]
    weights += [np.zeros(16), np.zeros(len(SHARES))]
    speed, classes = [np.zeros_like(values) for values in weights], np.eye(len(SHARES))[y]
    for _ in range(steps):
        rows = generator.choice(len(x), batch)
        inner = np.tanh(x[rows] @ weights[0] + weights[2])
        scores = inner @ weights[1] + weights[3]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = (shares / shares.sum(axis=1, keepdims=True) - classes[rows]) / batch
        back = (error @ weights[1].T) * (1 - inner**2)
        gradients = [x[rows].T @ back, inner.T @ error, back.sum(axis=0), error.sum(axis=0)]
        speed = [0.8 * old - rate * new for old, new in zip(speed, gradients, strict=True)]
        weights = [old + step for old, step in zip(weights, speed, strict=True)]
    return lambda new: (np.tanh(new @ weights[0] + weights[2]) @ weights[1] + weights[3]).argmax(
        axis=1
    )


def logistic(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """Logistic regression of scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(tol=1e-3, max_iter=60).fit(x, y).predict


def full_tree(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """A decision tree that sees all features and ends without an error on its training images."""
    from sklearn.tree import DecisionTreeClassifier

    seed = int(generator.integers(2**31))
    return DecisionTreeClassifier(random_state=seed).fit(x, y).predict


def trained_network(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Predict:
    """A network of 24 units, 15 epochs of Adam."""
    from sklearn.neural_network import MLPClassifier

    seed = int(generator.integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 15 epochs are meant, not convergence
        network = MLPClassifier(
            24, batch_size=32, learning_rate_init=0.01, max_iter=15, random_state=seed
        ).fit(x, y)
    return network.predict


LEARNERS = {
    "lda": discriminant,
    "naive_bayes": naive_bayes,
    "centroid": centroid,
    "neighbour": neighbour,
    "tree": tree,
    "random_features": random_features,
    "network": network,
    "logistic": logistic,
    "full_tree": full_tree,
    "trained_network": trained_network,
}
FITTED_TO = tuple(LEARNERS)[:7]
HELD_OUT = ("logistic", "full_tree", "neighbour", "trained_network")
RANDOM = ("tree", "random_features", "network")
"""Learners whose trainings differ on the same images."""


if __name__ == "__main__":
    sys.exit(main())
