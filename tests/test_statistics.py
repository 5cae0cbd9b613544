"""Intervals and comparisons: against hand-worked cases, a second implementation, and simulation."""

import numpy as np
import pytest
from scipy import stats

from lib.errors import DarkroomError
from lib.evaluation import analytic, bootstrap, confusion, metrics, paired_tests, statistics
from lib.evaluation.predictions import Predictions, table

HAND = np.array([[20, 5], [10, 15]])


def run(truth, predicted, *, paths=None, groups=None, classes=2, num_train=0) -> Predictions:
    """Test rows with the given truth and prediction, and as many training rows as wished."""
    names = [f"c{index}" for index in range(classes)]
    truth, predicted = (
        np.concatenate([values, np.zeros(num_train, int)]) for values in (truth, predicted)
    )
    num_test = len(truth) - num_train
    paths = list(paths if paths is not None else [f"{index:05d}" for index in range(num_test)])
    frame = table(
        paths + [f"train{index}" for index in range(num_train)],
        splits=["test"] * num_test + ["train"] * num_train,
        labels=[names[index] for index in truth],
        groups=np.concatenate(
            [np.arange(num_test) if groups is None else groups, 10_000 + np.arange(num_train)]
        ),
        probabilities=np.eye(classes)[predicted],
        class_names=names,
    )
    return Predictions(frame, tuple(names))


def test_wilson_against_a_published_value():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
    assert analytic.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert analytic.wilson(0, 20)[0] == 0.0
    assert analytic.wilson(20, 20)[1] == 1.0
    with pytest.raises(DarkroomError, match="A proportion needs"):
        analytic.wilson(3, 2)


@pytest.mark.parametrize("counts", [HAND, np.array([[50, 3, 7], [9, 30, 2], [4, 4, 41]])])
def test_the_kappa_interval_against_the_delta_method_by_numbers(counts):
    shares, num, step = counts / counts.sum(), counts.sum(), 1e-6
    slopes = np.empty(counts.size)
    for cell in range(counts.size):
        moved = [shares.copy().ravel(), shares.copy().ravel()]
        moved[0][cell] += step
        moved[1][cell] -= step
        up, down = (
            confusion.kappa((values / values.sum()).reshape(counts.shape)) for values in moved
        )
        slopes[cell] = (up - down) / (2 * step)
    flat = shares.ravel()
    error = np.sqrt(((flat * slopes**2).sum() - (flat * slopes).sum() ** 2) / num)
    low, high = analytic.kappa_interval(counts)
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-4)


def test_a_faultless_matrix_still_has_a_width():
    low, high = analytic.kappa_interval(np.diag([10, 10]))
    assert high == 1.0
    assert low == pytest.approx((analytic.wilson(20, 20)[0] - 0.5) / 0.5)


def test_the_bootstrap_by_kinds_is_the_bootstrap_by_groups():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 3)
    truth = generator.integers(3, size=180)
    predicted = np.where(
        np.repeat(generator.random(60) < 0.7, 3), truth, (truth + 1) % 3
    )  # a group errs together
    drawn = bootstrap.of_confusion(truth, predicted, groups=groups, num_classes=3, draws=4000)
    plain = np.empty(4000)
    for index in range(4000):
        chosen = generator.integers(60, size=60)
        rows = (chosen[:, None] * 3 + np.arange(3)).ravel()
        plain[index] = confusion.kappa(confusion.counts(truth[rows], predicted[rows], 3))
    assert drawn["kappa"].mean() == pytest.approx(plain.mean(), abs=0.005)
    assert drawn["kappa"].std() == pytest.approx(plain.std(), rel=0.06)
    alone = bootstrap.of_confusion(
        truth, predicted, groups=np.arange(180), num_classes=3, draws=4000
    )
    assert drawn["kappa"].std() > 1.4 * alone["kappa"].std()  # sqrt(3) when a group is one vote


def test_groups_of_unequal_size_keep_all_their_images():
    kinds = bootstrap.kinds(np.array([0, 1, 0, 1, 1]), np.array([5, 5, 7, 7, 9]))
    assert kinds.num_groups == 3
    assert sorted(zip(kinds.counts.tolist(), kinds.content.toarray().tolist(), strict=True)) == [
        (1, [0.0, 1.0]),
        (2, [1.0, 1.0]),
    ]


def test_intervals_name_their_method_and_hold_the_value():
    generator = np.random.default_rng(0)
    truth = generator.integers(2, size=200)
    predicted = np.where(generator.random(200) < 0.8, truth, 1 - truth)
    alone = statistics.intervals(run(truth, predicted), "test")
    assert alone["method"].to_dict()["accuracy"] == "Wilson"
    assert alone["method"].to_dict()["kappa"] == "large sample"
    assert ((alone["low"] < alone["value"]) & (alone["value"] < alone["high"])).all()
    grouped = statistics.intervals(run(truth, predicted, groups=np.arange(200) // 2), "test")
    assert set(grouped["method"]) == {"bootstrap over groups"}
    values = statistics.headline(run(truth, predicted))
    assert values["kappa_band"] == confusion.landis_koch(values["kappa"])
    assert values["accuracy_low"] == alone.loc["accuracy", "low"]


def test_no_number_is_certain_because_nothing_went_wrong():
    truth = np.arange(40) % 2
    expected = analytic.wilson(40, 40)[0]
    alone = statistics.intervals(run(truth, truth), "test")
    assert alone.loc["macro_f1", "low"] == pytest.approx(expected)
    assert (
        alone.loc["matthews", "low"]
        == pytest.approx((expected - 0.5) / 0.5)
        == alone.loc["kappa", "low"]
    )
    grouped = statistics.intervals(run(truth, truth, groups=np.arange(40) // 4), "test")
    assert grouped.loc["accuracy", "low"] == pytest.approx(analytic.wilson(10, 10)[0])
    assert statistics.over_seeds([run(truth, truth)] * 2, "accuracy").low == pytest.approx(expected)


def test_seeds_and_images_are_kept_apart():
    truth = np.zeros(100, int)
    seeds = [run(truth, np.arange(100) < wrong) for wrong in (10, 20, 30)]
    found = statistics.over_seeds(seeds, "accuracy")
    assert found.value == pytest.approx(0.8)
    assert found.sd == pytest.approx(0.1)
    assert found.num_seeds == 3
    assert found.low <= found.image_low < 0.8 < found.image_high <= found.high
    single = statistics.over_seeds(seeds[:1], "accuracy")
    assert np.isnan(single.sd)
    assert (single.low, single.high) == (single.image_low, single.image_high)


def test_splits_by_seed_get_the_corrected_interval_by_hand():
    truth = np.zeros(100, int)
    seeds = [
        run(
            truth,
            np.arange(100) < wrong,
            paths=[f"{wrong}-{index}" for index in range(100)],
            num_train=300,
        )
        for wrong in (10, 20, 30)
    ]
    found = statistics.over_seeds(seeds, "accuracy")
    assert found.method.startswith("corrected resampled t")
    error = np.sqrt((1 / 3 + 100 / 300) * 0.1**2)
    assert found.seed_error == pytest.approx(error)
    assert found.low == pytest.approx(0.8 - stats.t.ppf(0.975, 2) * error)


def folds(wrong, *, seed=0, num=20):
    """One run a fold: each tests its own `num` images, `wrong[k]` of them wrongly, and trained on
    those of the others.
    """
    return {
        100 * seed + k: run(
            np.zeros(num, int),
            np.arange(num) < bad,
            paths=[f"{k}-{index:02}" for index in range(num)],
            num_train=num * (len(wrong) - 1),
        )
        for k, bad in enumerate(wrong)
    }


def test_folds_of_one_seed_are_resamples_by_hand():
    found = statistics.over_seeds(list(folds([2, 4, 6, 4, 4]).values()), "accuracy")
    assert found.method == "corrected resampled t over 5 folds"
    assert (found.value, found.num_seeds) == (pytest.approx(0.8), 5)
    values = np.array([0.9, 0.8, 0.7, 0.8, 0.8])
    error = np.sqrt((1 / 5 + 20 / 80) * values.var(ddof=1))
    assert (found.image_error, found.seed_error) == (0, pytest.approx(error))
    assert found.value - found.low == pytest.approx(stats.t.ppf(0.975, 4) * error)


def test_folds_that_lie_together_by_chance_are_no_surer_than_their_images():
    found = statistics.over_seeds(list(folds([4, 4, 4]).values()), "accuracy")
    assert (found.sd, found.seed_error) == (pytest.approx(0), 0)
    error = np.sqrt(0.8 * 0.2 / 60)  # sixty images, 80 % of them right
    assert found.image_error == pytest.approx(error, rel=0.08)  # drawn, not computed
    assert found.value - found.low == pytest.approx(stats.norm.ppf(0.975) * found.image_error)


def test_seeds_of_one_fold_are_one_resample_and_pairs_know_folds_too():
    first, second = folds([2, 4, 6, 4]), folds([6, 9, 10, 9])
    again = {1000 + seed: each for seed, each in folds([4, 4, 6, 4]).items()}
    found = statistics.over_seeds([*first.values(), *again.values()], "accuracy")
    assert found.num_seeds == 4
    assert found.value == pytest.approx(np.mean([0.85, 0.8, 0.7, 0.8]))
    assert found.method == "corrected resampled t over 4 folds"
    pair = paired_tests.compare(first, second, names=("A", "B"))
    assert pair.method == "corrected resampled t over 4 folds"
    differences = np.array([0.2, 0.25, 0.2, 0.25])
    assert pair.difference.value == pytest.approx(differences.mean())
    half = stats.t.ppf(0.975, 3) * np.sqrt((1 / 4 + 1 / 3) * differences.var(ddof=1))
    assert pair.difference.high - pair.difference.value >= half - 1e-9
    random = [
        run(np.zeros(9, int), np.zeros(9, int), paths=[f"{(start + k) % 20:02}" for k in range(9)])
        for start in (0, 4)
    ]
    assert statistics.over_seeds(random, "accuracy").method == "corrected resampled t"


def test_mcnemar_and_holm_by_hand():
    assert paired_tests.mcnemar(10, 2) == pytest.approx(stats.binomtest(2, 12).pvalue)
    assert paired_tests.mcnemar(0, 0) == 1.0
    assert paired_tests.mcnemar(4, 4) == 1.0
    assert paired_tests.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired_tests.holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])


def test_the_verdict_says_who_is_better_and_by_how_much():
    truth = np.zeros(1000, int)
    good, bad = run(truth, np.arange(1000) < 100), run(truth, np.arange(1000) < 161)
    found = paired_tests.compare({0: bad}, {0: good}, names=("CNN", "ResNet"))
    assert found.method == "McNemar, exact"
    assert found.verdict.startswith("ResNet is better than CNN (Δ accuracy 6.1 points, 95 % ")
    assert found.difference.low < -0.061 < found.difference.high < 0
    same = paired_tests.compare({0: good}, {0: good}, names=("A", "B"))
    assert same.p == 1.0
    assert same.verdict.startswith("No difference shown between A and B (Δ accuracy 0.0 points")


def test_the_p_value_is_that_of_the_interval_that_reaches_zero():
    made = statistics.resampled(
        "accuracy", np.array([0.05, 0.07, 0.09]), np.zeros((10, 3)), ratio=1 / 3
    )
    error = 0.02 * np.sqrt(1 / 3 + 1 / 3)
    assert made.p_value == pytest.approx(2 * stats.t.sf(0.07 / error, 2))
    alone = statistics.combined("accuracy", np.array([0.03]), np.array([[0.02], [0.04]]))
    assert alone.p_value == pytest.approx(2 * stats.norm.sf(0.03 / np.sqrt(0.0002)))


def test_a_pair_needs_common_seeds_and_the_same_images():
    one = run(np.zeros(10, int), np.zeros(10, int))
    other = run(np.zeros(10, int), np.zeros(10, int), paths=[f"x{index}" for index in range(10)])
    with pytest.raises(DarkroomError, match="no seed in common"):
        paired_tests.compare({0: one}, {1: one})
    with pytest.raises(DarkroomError, match="different images or classes at seed 0"):
        paired_tests.compare({0: one}, {0: other})
    with pytest.raises(DarkroomError, match="different labels at seed 0"):
        paired_tests.compare({0: one}, {0: run(np.arange(10) % 2, np.zeros(10, int))})


def test_many_arms_are_corrected_for_their_number():
    truth = np.zeros(1000, int)
    arms = {f"arm {wrong}": {0: run(truth, np.arange(1000) < wrong)} for wrong in (100, 107, 108)}
    found = {(pair.first, pair.second): pair for pair in paired_tests.compare_all(arms)}
    pair = found["arm 100", "arm 108"]
    assert pair.num_pairs == 3
    assert pair.p < 0.05 / 3 < pair.p_adjusted == pytest.approx(3 * pair.p)
    assert found["arm 107", "arm 108"].p_adjusted == 1.0


def test_ninety_five_percent_intervals_hold():
    generator = np.random.default_rng(7)
    shares = np.array([[0.4, 0.1], [0.15, 0.35]])
    truths = {"accuracy": 0.75, "kappa": float(confusion.kappa(shares))}
    held = {"Wilson": 0, "large sample": 0, "bootstrap": 0}
    num = 500
    for index in range(num):
        counts = generator.multinomial(300, shares.ravel()).reshape(2, 2)
        low, high = analytic.wilson(int(np.trace(counts)), 300)
        held["Wilson"] += low <= truths["accuracy"] <= high
        low, high = analytic.kappa_interval(counts)
        held["large sample"] += low <= truths["kappa"] <= high
        cells = np.repeat(np.arange(4), counts.ravel())
        drawn = bootstrap.of_confusion(
            cells // 2, cells % 2, groups=np.arange(300), num_classes=2, draws=400, seed=index
        )
        low, high = bootstrap.percentile_interval(drawn["kappa"])
        held["bootstrap"] += low <= truths["kappa"] <= high
    assert all(0.93 <= count / num <= 0.97 for count in held.values()), held


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.1), (5, 0.5)])
def test_intervals_over_images_and_seeds_hold(seeds, spread):
    # Every seed shifts the model's skill, every image has its own difficulty; both are drawn anew
    # in each simulation.
    generator = np.random.default_rng(11)
    held, num, images = 0, 600, 300
    for _ in range(num):
        skill = generator.normal(0, spread, size=seeds)
        ease = generator.normal(0.9, 1.2, size=(images, 1))
        right = generator.random((images, seeds)) < stats.norm.cdf(ease + skill)  # (images, seeds)
        kinds, patterns = np.unique(right, axis=0, return_inverse=True)
        weights = generator.multinomial(images, np.bincount(patterns.ravel()) / images, size=300)
        found = statistics.combined("accuracy", right.mean(axis=0), weights @ kinds / images)
        expected = stats.norm.cdf(0.9 / np.sqrt(1 + 1.2**2 + spread**2))
        held += found.low <= expected <= found.high
    assert 0.93 <= held / num <= 0.97, held / num


@pytest.mark.parametrize(("splits", "spread"), [(3, 0.0), (3, 0.03), (5, 0.01), (10, 0.03)])
def test_intervals_over_splits_hold(splits, spread):
    # Trainings that share images err together: their common part has the share ratio / (1 + ratio)
    # of the variance.
    generator = np.random.default_rng(13)
    held, num, images, ratio = 0, 2000, 200, 0.4
    own = np.sqrt(0.8 * 0.2 / images + spread**2)
    for _ in range(num):
        values = 0.8 + own * (np.sqrt(ratio) * generator.normal() + generator.normal(size=splits))
        draws = 0.8 + np.sqrt(0.8 * 0.2 / images) * generator.normal(size=(100, splits))
        found = statistics.resampled("accuracy", values, draws, ratio=ratio)
        held += found.low <= 0.8 <= found.high
    assert 0.93 <= held / num <= 0.97, held / num


def test_a_summary_row_and_its_interval_come_from_the_same_matrix():
    part = run(np.repeat([0, 0, 1, 1], [20, 5, 10, 15]), np.repeat([0, 1, 0, 1], [20, 5, 10, 15]))
    assert metrics.summary(part, "test")["kappa"] == pytest.approx(0.4)
    assert statistics.intervals(part, "test").loc["kappa", "value"] == pytest.approx(0.4)
