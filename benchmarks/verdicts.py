"""Do intervals hold the truth and tests keep their level? Simulated with learners that really
learn.

python -m benchmarks verdicts [--quick]

Every replicate draws a data set from a population, makes splits as the suite does (60 / 15 / 25 %),
trains scikit-learn models and asks `lib.evaluation` for intervals and verdicts. The truth is the
mean accuracy (or kappa) of such trainings on fresh images. Arms are alike by construction: each has
features of its own that are drawn in the same way; in the last design one has weaker ones. No
correlation between splits is assumed anywhere: overlapping splits bring their own.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SHARES = (0.55, 0.2, 0.15, 0.1)
NAMES = ("a", "b", "c", "d")
SIGNAL, WEAKER = 0.8, 0.61
_OWN, _SHARED = 4, 3


@dataclass(frozen=True)
class Design:
    """One design of a study: what its arms are, and how many runs on how many splits."""

    learner: str
    num_images: int
    num_runs: int
    num_arms: int
    is_fixed: bool = False
    is_weaker: bool = False

    def __str__(self) -> str:
        what = "seeds on one split" if self.is_fixed else "splits"
        runs = f"{self.num_runs} {what}, {self.num_arms} arms"
        return f"{self.learner}, {self.num_images} images, {runs}"


DESIGNS = (
    Design("logistic", 2624, 3, 3),
    Design("sgd", 2624, 3, 3),
    Design("tree", 2624, 3, 3),
    Design("sgd", 1000, 5, 2),
    Design("tree", 1000, 5, 5),
    Design("logistic", 1000, 10, 3),
    Design("sgd", 2624, 3, 3, is_fixed=True),
    Design("tree", 2624, 5, 2, is_fixed=True),
    Design("sgd", 1000, 3, 11),
    Design("logistic", 2624, 3, 3, is_weaker=True),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs all designs and prints one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few replicates of three designs")
    parser.add_argument("--replicates", type=int, default=300)
    asked = parser.parse_args(arguments)
    designs = (DESIGNS[1], DESIGNS[6], DESIGNS[9]) if asked.quick else DESIGNS
    for design in designs:
        print(line(design, simulate(design, 40 if asked.quick else asked.replicates)), flush=True)
    return 0


def line(design: Design, found: dict[str, float]) -> str:
    """A design's results as one line of text."""
    numbers = ", ".join(f"{name} {100 * value:.1f} %" for name, value in found.items())
    return f"{design}: {numbers}"


def simulate(
    design: Design, replicates: int, *, seed: int = 0, of_truth: int = 150
) -> dict[str, float]:
    """Coverage of means and differences, and the share of studies with a verdict."""
    from lib.evaluation import confusion, linear_model, paired_tests, statistics

    truth = expected(design, replicates=of_truth)
    generator = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {}
    for _ in range(replicates):
        arms = study(design, generator)
        functions = {name: confusion.HEADLINES[name] for name in ("accuracy", "kappa")}
        for metric, scores in linear_model.score(arms, functions).items():
            model = linear_model.LinearModel(scores)
            pairs = paired_tests.of_model(model)
            for arm in arms:
                found = statistics.of_arm(scores, arm, model=model)
                inside = found.low <= truth[metric][arm] <= found.high
                held.setdefault(f"{metric} mean covered", []).append(inside)
            for pair in pairs:
                gap = truth[metric][pair.first] - truth[metric][pair.second]
                inside = pair.difference.low <= gap <= pair.difference.high
                held.setdefault(f"{metric} difference covered", []).append(inside)
            weaker = [pair for pair in pairs if pair.first == "arm 0"]
            if design.is_weaker:
                shown = [pair.is_significant for pair in weaker]
                held.setdefault(f"{metric} power", []).extend(shown)
            else:
                shown = any(pair.is_significant for pair in pairs)
                held.setdefault(f"{metric} false verdicts", []).append(shown)
    return {name: float(np.mean(values)) for name, values in held.items()}


def study(design: Design, generator: np.random.Generator) -> dict[str, dict[int, Any]]:
    """The prediction tables of one simulated study, by arm and seed."""
    features, truth = population(design, design.num_images, generator)
    arms: dict[str, dict[int, Any]] = {f"arm {place}": {} for place in range(design.num_arms)}
    order = generator.permutation(len(truth))
    for seed in range(design.num_runs):
        if not design.is_fixed:
            order = generator.permutation(len(truth))
        num_test, num_val = int(0.25 * len(truth)), int(0.15 * len(truth))
        test, train = np.sort(order[:num_test]), order[num_test + num_val :]
        for place, values in enumerate(features):
            model = learner(design.learner, int(generator.integers(2**31)))
            predicted = fitted(model, values[train], truth[train]).predict(values[test])
            arms[f"arm {place}"][seed] = table(test, truth[test], predicted, num_train=len(train))
    return arms


def expected(design: Design, *, replicates: int) -> dict[str, dict[str, float]]:
    """The mean accuracy and kappa of trainings of each arm, on fresh images."""
    from lib.evaluation import confusion

    generator, found = np.random.default_rng(99), {"accuracy": {}, "kappa": {}}
    num_train = design.num_images - int(0.25 * design.num_images) - int(0.15 * design.num_images)
    for _ in range(replicates):
        features, truth = population(design, num_train, generator)
        fresh, answers = population(design, 8000, generator)
        for place in range(design.num_arms):
            model = learner(design.learner, int(generator.integers(2**31)))
            predicted = fitted(model, features[place], truth).predict(fresh[place])
            counted = confusion.counts(answers, predicted, len(NAMES))
            for name in found:
                value = float(confusion.HEADLINES[name](counted))
                found[name].setdefault(f"arm {place}", []).append(value)
    means = {
        name: {arm: float(np.mean(values)) for arm, values in of_arm.items()}
        for name, of_arm in found.items()
    }
    if not design.is_weaker:  # arms are alike: all of them say what each is expected to reach
        for of_arm in means.values():
            of_arm |= dict.fromkeys(of_arm, float(np.mean(list(of_arm.values()))))
    return means


def population(
    design: Design, num: int, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Features for every arm, (num, 10) each, and the classes, (num,)."""
    truth = generator.choice(len(SHARES), size=num, p=SHARES)
    centres = np.random.default_rng(7).normal(size=(len(SHARES), _SHARED + _OWN))
    shared = generator.normal(size=(num, _SHARED)) + SIGNAL * centres[truth, :_SHARED]
    features = []
    for place in range(design.num_arms):
        signal = WEAKER if design.is_weaker and place == 0 else SIGNAL
        own = generator.normal(size=(num, _OWN)) + signal * centres[truth, _SHARED:]
        features.append(np.hstack([shared, own, shared * own[:, :_SHARED]]).astype(np.float32))
    return features, truth


def learner(name: str, seed: int) -> Any:
    """A scikit-learn classifier."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.tree import DecisionTreeClassifier

    makers: dict[str, Callable[[], Any]] = {
        "logistic": lambda: LogisticRegression(max_iter=60, tol=1e-2),
        "sgd": lambda: SGDClassifier(
            loss="log_loss", max_iter=2, tol=None, learning_rate="constant", eta0=0.02,
            random_state=seed,
        ),
        "tree": lambda: DecisionTreeClassifier(
            max_depth=6, min_samples_leaf=3, max_features=4, splitter="random", random_state=seed
        ),
    }  # fmt: skip
    return makers[name]()


def fitted(model: Any, features: np.ndarray, truth: np.ndarray) -> Any:
    """The model after its training; that it stops early is part of the design."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(features, truth)


def table(images: np.ndarray, truth: np.ndarray, predicted: np.ndarray, *, num_train: int) -> Any:
    """A prediction table of test images; the rows of training images are only counted."""
    from lib.evaluation import predictions

    num = len(images)
    frame = predictions.table(
        [f"{image:06d}" for image in images] + [f"t{place:06d}" for place in range(num_train)],
        splits=["test"] * num + ["train"] * num_train,
        labels=[NAMES[place] for place in truth] + [NAMES[0]] * num_train,
        groups=np.concatenate([images, 10**6 + np.arange(num_train)]),
        probabilities=np.eye(len(NAMES))[np.concatenate([predicted, np.zeros(num_train, int)])],
        class_names=NAMES,
    )
    return predictions.Predictions(frame, NAMES)


if __name__ == "__main__":
    sys.exit(main())
