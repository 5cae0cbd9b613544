"""Intervals and verdicts of studies with real learners, in few replicates of small designs."""

import numpy as np
import pytest

from benchmarks import verdicts
from lib.evaluation import arm_model, metrics, predictions


def test_a_false_verdict_is_rare_and_intervals_hold():
    studies = list(verdicts.simulate(verdicts.Design("network", 400, 3, 3), 40))
    found = verdicts.rates(studies, 3, 3)
    # Of 40 studies at 5 % more than 6 false verdicts come once in a hundred times.
    assert found["accuracy: false verdicts"] <= 6 / 40
    assert found["accuracy: means covered"] >= 0.88
    assert found["accuracy: differences covered"] >= 0.88


def test_seeds_on_one_split_hold_too():
    design = verdicts.Design("random_features", 400, 2, 3, is_fixed=True)
    found = verdicts.rates(list(verdicts.simulate(design, 40)), 2, 3)
    assert found["accuracy: false verdicts"] <= 6 / 40
    assert found["kappa: means covered"] >= 0.88


def test_the_simulation_scores_as_prediction_tables_are_scored():
    generator, num, names = np.random.default_rng(0), 40, ("a", "b", "c")
    truth = generator.integers(3, size=num)
    sets = [np.sort(generator.permutation(num)[:10]) for _ in range(2)]
    values, slopes = np.zeros((2, 2)), np.zeros((num, 2, 2))
    arms = {"arm 0": {}, "arm 1": {}}
    for run, test in enumerate(sets):
        for arm in range(2):
            predicted = generator.integers(3, size=10)
            counted = metrics.counts(truth[test], predicted, 3)
            values[arm, run] = metrics.kappa(counted)
            slope = metrics.derivative(counted, metrics.kappa)
            slopes[test, run, arm] = slope[truth[test], predicted]
            frame = predictions.table(
                [f"{image:02d}" for image in test] + [f"t{image:02d}" for image in range(20)],
                splits=["test"] * 10 + ["train"] * 20,
                labels=[names[place] for place in truth[test]] + ["a"] * 20,
                groups=np.concatenate([test, 100 + np.arange(20)]),
                probabilities=np.eye(3)[np.concatenate([predicted, np.zeros(20, int)])],
                class_names=names,
            )
            arms[f"arm {arm}"][run] = predictions.Predictions(frame, names)
    expected = arm_model.score(arms, {"kappa": metrics.kappa})["kappa"]
    optimism = np.array(list(expected.optimism.values()))
    assert optimism.max() > 0
    found = verdicts.scores_of("kappa", values, slopes, sets, ratio=0.5, optimism=optimism)
    assert (found.arms, found.seeds) == (expected.arms, expected.seeds)
    for name in ("sets", "values", "covariance", "ratios"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))
    (one, first), (other, second) = (
        arm_model.LinearModel(scores).difference("arm 0", "arm 1") for scores in (found, expected)
    )
    assert (one, first.variance) == pytest.approx((other, second.variance))
