"""Intervals and comparisons: against hand-worked cases, a second implementation, and simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lib.errors import DarkroomError
from lib.evaluation import arm_model, metrics, paired_tests, statistics
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
    assert statistics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert statistics.wilson(0, 20)[0] == 0.0
    assert statistics.wilson(20, 20)[1] == 1.0
    with pytest.raises(DarkroomError, match="A proportion needs"):
        statistics.wilson(3, 2)


@pytest.mark.parametrize("counts", [HAND, np.array([[50, 3, 7], [9, 30, 2], [4, 4, 41]])])
def test_the_kappa_interval_against_the_delta_method_by_numbers(counts):
    shares, num, step = counts / counts.sum(), counts.sum(), 1e-6
    slopes = np.empty(counts.size)
    for cell in range(counts.size):
        moved = [shares.copy().ravel(), shares.copy().ravel()]
        moved[0][cell] += step
        moved[1][cell] -= step
        up, down = (
            metrics.kappa((values / values.sum()).reshape(counts.shape)) for values in moved
        )
        slopes[cell] = (up - down) / (2 * step)
    flat = shares.ravel()
    error = np.sqrt(((flat * slopes**2).sum() - (flat * slopes).sum() ** 2) / num)
    low, high = statistics.kappa_interval(counts)
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-4)


def test_a_faultless_matrix_still_has_a_width():
    low, high = statistics.kappa_interval(np.diag([10, 10]))
    assert high == 1.0
    assert low == pytest.approx((statistics.wilson(20, 20)[0] - 0.5) / 0.5)


def test_intervals_resample_groups():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 3)
    truth = generator.integers(3, size=180)
    predicted = np.where(
        np.repeat(generator.random(60) < 0.7, 3), truth, (truth + 1) % 3
    )  # a group errs together
    plain = np.empty(4000)
    for index in range(4000):
        chosen = generator.integers(60, size=60)
        rows = (chosen[:, None] * 3 + np.arange(3)).ravel()
        plain[index] = metrics.kappa(metrics.counts(truth[rows], predicted[rows], 3))
    grouped = statistics.intervals(run(truth, predicted, groups=groups, classes=3), "test")
    low, high = np.quantile(plain, [0.025, 0.975])
    ours = grouped.loc["kappa", "high"] - grouped.loc["kappa", "low"]
    assert ours == pytest.approx(high - low, rel=0.1)
    alone = statistics.intervals(run(truth, predicted, classes=3), "test")
    width = grouped["high"] - grouped["low"]
    assert (width > 1.4 * (alone["high"] - alone["low"])).all()  # sqrt(3): a group is one vote


def test_intervals_hold_the_value_and_stand_in_the_result():
    generator = np.random.default_rng(0)
    truth = generator.integers(2, size=200)
    predicted = np.where(generator.random(200) < 0.8, truth, 1 - truth)
    alone = statistics.intervals(run(truth, predicted), "test")
    counted = metrics.counts(truth, predicted, 2)
    wilson = statistics.wilson(int(np.trace(counted)), 200)
    assert tuple(alone.loc["accuracy", ["low", "high"]]) == pytest.approx(wilson, abs=1e-12)
    kappa = statistics.kappa_interval(counted)
    assert tuple(alone.loc["kappa", ["low", "high"]]) == kappa
    assert ((alone["low"] < alone["value"]) & (alone["value"] < alone["high"])).all()
    values = statistics.headline(run(truth, predicted))
    assert values["kappa_band"] == metrics.landis_koch(values["kappa"])
    assert values["accuracy_low"] == alone.loc["accuracy", "low"]


def test_no_number_is_certain_because_nothing_went_wrong():
    truth = np.arange(40) % 2
    expected = statistics.wilson(40, 40)[0]
    alone = statistics.intervals(run(truth, truth), "test")
    assert alone.loc["macro_f1", "low"] == pytest.approx(expected)
    assert (
        alone.loc["matthews", "low"]
        == pytest.approx((expected - 0.5) / 0.5)
        == alone.loc["kappa", "low"]
    )
    grouped = statistics.intervals(run(truth, truth, groups=np.arange(40) // 4), "test")
    assert grouped.loc["accuracy", "low"] == pytest.approx(statistics.wilson(10, 10)[0])
    assert statistics.over_seeds([run(truth, truth)] * 2, "accuracy").low == pytest.approx(expected)
    rare = (np.arange(40) < 4).astype(int)  # chance agrees on 0.1² + 0.9² = 0.82
    found = statistics.over_seeds([run(rare, rare)], "kappa")
    assert found.low == pytest.approx((expected - 0.82) / 0.18)


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


def test_splits_that_share_no_image_by_hand():
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
    assert found.method == "over images, 3 folds and trainings"
    over_images = np.mean([0.9 * 0.1, 0.8 * 0.2, 0.7 * 0.3]) / 100  # of one run
    # The mean square 0.01 has two degrees of freedom, the one of the images five. No error is
    # made in training, so the learner counts as depending on it as much as one can.
    square = (5 * over_images + 2 * 0.1**2) / 7
    variance = arm_model.shared_training(1) * over_images * 100 / 300 + square / 3
    assert found.uncertainty.image_variance == pytest.approx(over_images / 3)
    assert found.uncertainty.variance == pytest.approx(variance)
    degrees = variance**2 / ((square / 3) ** 2 / 7 + (over_images / 3) ** 2 / 299)
    assert found.uncertainty.degrees_of_freedom == pytest.approx(degrees)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(variance)
    assert found.uncertainty.half_width(0.95) == pytest.approx(half)
    assert (found.low, found.high) == pytest.approx(statistics.bounded_interval(0.8, half, num=300))
    new = stats.t.ppf(0.975, 7) * np.sqrt(square * (1 + 1 / 3))
    assert (found.new_low, found.new_high) == pytest.approx(
        statistics.bounded_interval(0.8, new, num=300)
    )


def test_a_bounded_interval_is_wilsons_and_stays_inside():
    half = 1.959963984540054 * np.sqrt(0.3 * 0.7 / 50)
    assert statistics.bounded_interval(0.3, half, num=50) == pytest.approx(
        statistics.wilson(15, 50)
    )
    assert statistics.bounded_interval(1.0, 0.01, num=50) == pytest.approx(
        statistics.wilson(50, 50)
    )
    low, high = statistics.bounded_interval(0.2, 0.9, num=10)
    assert 0 <= low < 0.2 < high <= 1
    low, high = statistics.bounded_interval(0.9, 0.5, num=10, lowest=-1)
    assert -1 <= low < 0.9 < high <= 1


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


def test_folds_that_are_together_by_chance_are_no_surer_than_their_images():
    found = statistics.over_seeds(list(folds([4, 4, 4]).values()), "accuracy")
    assert found.sd == pytest.approx(0)
    error = np.sqrt(0.8 * 0.2 / 60)  # sixty images, 80 % of them right
    assert found.uncertainty.image_variance == pytest.approx(error**2)
    assert found.uncertainty.half_width(0.95) >= stats.norm.ppf(0.975) * error - 1e-12


def test_seeds_of_one_fold_are_one_resample_and_pairs_know_folds_too():
    first, second = folds([2, 4, 6, 4]), folds([6, 9, 10, 9])
    again = {1000 + seed: part for seed, part in folds([4, 4, 6, 4]).items()}
    found = statistics.over_seeds([*first.values(), *again.values()], "accuracy")
    assert found.num_seeds == 8
    assert found.value == pytest.approx(np.mean([0.85, 0.8, 0.7, 0.8]))
    assert found.method == "over images, 4 folds and trainings"
    pair = paired_tests.compare(first, second, names=("A", "B"))
    assert pair.method == "over images, 4 folds and trainings"
    assert pair.difference.value == pytest.approx(np.mean([0.2, 0.25, 0.2, 0.25]))
    random = [
        run(np.zeros(9, int), np.zeros(9, int), paths=[f"{(start + k) % 20:02}" for k in range(9)])
        for start in (0, 4)
    ]
    method = statistics.over_seeds(random, "accuracy").method
    assert method == "over images, 2 splits and trainings"


@pytest.mark.parametrize("name", list(metrics.HEADLINES))
def test_influences_are_the_numeric_derivatives_of_the_metrics(name):
    function = metrics.HEADLINES[name]
    counts = np.array([[50.0, 3, 7, 0], [9, 30, 2, 1], [4, 4, 41, 0], [0, 0, 0, 0]])
    exact, numeric = metrics.derivative(counts, function), metrics._numeric(counts, function)
    held = counts > 0
    assert exact[held] == pytest.approx(numeric[held], abs=1e-7)
    assert (counts * exact).sum() == pytest.approx(0, abs=1e-12)


def test_the_image_variance_of_accuracy_is_binomial_and_knows_groups():
    part = run(np.zeros(100, int), np.arange(100) < 20)
    found = statistics.over_seeds([part], "accuracy").uncertainty
    assert found.image_variance == pytest.approx(0.2 * 0.8 / 100)
    pairs = run(np.zeros(100, int), np.arange(100) < 20, groups=np.arange(100) // 2)
    found = statistics.over_seeds([pairs], "accuracy").uncertainty
    assert found.image_variance == pytest.approx(0.2 * 0.8 / 50 * 50 / 49)


def test_mean_squares_are_pooled_over_arms_by_hand():
    def arm(wrongs):
        return {
            seed: run(np.zeros(100, int), np.arange(100) < wrong, num_train=300)
            for seed, wrong in enumerate(wrongs)
        }

    arms = {"a": arm((10, 12, 14)), "b": arm((20, 24, 22)), "c": arm((30, 33, 36))}
    pairs = {(pair.first, pair.second): pair for pair in paired_tests.compare_all(arms)}
    found = pairs["a", "b"].difference.uncertainty
    assert found.degrees_each == pytest.approx(3)  # three arms: six degrees of freedom for two
    alone = paired_tests.compare(arms["a"], arms["b"]).difference.uncertainty
    assert alone.degrees_each == pytest.approx(2)


@pytest.mark.parametrize(
    "wrong, wrong_in_training, optimism", [(20, 0, 1.0), (20, 15, 0.75), (20, 90, 0), (0, 0, 0)]
)
def test_errors_that_are_not_made_in_training_are_optimism(wrong, wrong_in_training, optimism):
    # Of 100 test images and 300 training images: 20 and 5 % wrong leave three quarters.
    places = np.arange(400)
    is_wrong = np.where(places < 100, places < wrong, places - 100 < wrong_in_training)
    whole = run(np.zeros(400, int), is_wrong)
    whole = replace(whole, frame=whole.frame.assign(split=np.where(places < 100, "test", "train")))
    for given, expected in ((whole, optimism), (whole.split("test"), 0)):
        scores = arm_model.score({"a": {0: given}}, {"accuracy": metrics.accuracy})
        assert scores["accuracy"].optimism["a"] == pytest.approx(expected)


def test_an_arm_that_scatters_more_keeps_its_own_mean_square():
    generator = np.random.default_rng(0)

    def scores(deviations):
        arms = [f"a{place}" for place in range(len(deviations)) for _ in range(6)]
        values = 0.8 + np.concatenate([generator.normal(0, sd, 6) for sd in deviations])
        same = np.arange(100)
        return arm_model.Scores(
            metric="accuracy",
            arms=tuple(arms),
            seeds=tuple(range(6)) * len(deviations),
            sets=np.tile(np.arange(6), len(deviations)),
            values=values,
            covariance=1e-4 * np.eye(len(arms)),
            ratios=np.full(len(arms), 0.25),
            floors=np.zeros(len(arms)),
            images=tuple(same + 100 * place for place in range(6)),
            groups=tuple(same + 100 * place for place in range(6)),
        )

    wild = arm_model.LinearModel(scores([0.01, 0.01, 0.01, 0.2]))
    assert wild.difference("a0", "a1")[1].degrees_each == pytest.approx(2)
    assert wild.difference("a0", "a3")[1].degrees_each == pytest.approx(1)
    assert wild.difference("a0", "a3")[1].variance > 10 * wild.difference("a0", "a1")[1].variance


def test_arms_without_a_difference_share_a_letter():
    def pair(first, second, p):
        return replace(
            paired_tests.compare(*[{0: run(np.zeros(9, int), np.zeros(9, int))}] * 2),
            first=first,
            second=second,
            p_adjusted=p,
        )

    found = [pair("a", "b", 0.5), pair("a", "c", 0.01), pair("b", "c", 0.5)]
    assert paired_tests.letters(["a", "b", "c"], found) == {"a": "a", "b": "ab", "c": "b"}
    found = [pair("a", "b", 0.5), pair("a", "c", 0.9), pair("b", "c", 0.5)]
    assert paired_tests.letters(["a", "b", "c"], found) == {"a": "a", "b": "a", "c": "a"}


def test_a_design_knows_what_it_can_show():
    def smallest(**design_of):
        known = {"num_test": 656, "num_train": 1574, "is_splits": True}
        return paired_tests.before(**(known | design_of)).difference

    assert smallest(num_arms=3, num_runs=10) < smallest(num_arms=3, num_runs=3)
    assert smallest(num_arms=3, num_runs=3) < smallest(num_arms=3, num_runs=3, num_test=100)
    assert smallest(num_arms=2, num_runs=3) < smallest(num_arms=11, num_runs=3, num_pairs=55)
    known = arm_model.Uncertainty(1e-4, 1e-4, np.inf)
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.01
    assert paired_tests.detectable(known) == pytest.approx(expected, rel=1e-6)
    assert (
        "assumed"
        in paired_tests.before(
            num_arms=3, num_runs=3, num_test=656, num_train=1574, is_splits=True
        ).sentence
    )
    with pytest.raises(DarkroomError, match="takes two arms"):
        paired_tests.before(num_arms=1, num_runs=3, num_test=9, num_train=9, is_splits=True)


def test_the_largest_difference_of_pairs_is_tukeys():
    # The 95th percentile of the range of 3, 5 and 11 means: 3.877 and 4.654 with 10 degrees of
    # freedom, and 4.55 with infinitely many (tables of the studentized range).
    for num_arms, degrees, range_ in ((3, 10.0, 3.877), (5, 10.0, 4.654), (11, np.inf, 4.552)):
        p = 2 * stats.t.sf(range_ / np.sqrt(2), degrees)
        found = paired_tests.tukey([p, 1.0], [degrees, degrees], num_arms)
        assert found == pytest.approx([0.05, 1.0], abs=2e-4)
    assert paired_tests.pairwise_alpha(11, 55) == pytest.approx(
        2 * stats.norm.sf(4.552 / np.sqrt(2)), rel=2e-3
    )
    assert paired_tests.pairwise_alpha(11, 10) == 0.005
    assert paired_tests.pairwise_alpha(2, 1) == 0.05


def test_images_that_are_too_few_show_nothing():
    right, wrong = (run(np.zeros(1, int), np.full(1, place)) for place in (0, 1))
    found = paired_tests.compare({0: right, 1: wrong}, {0: wrong, 1: right})
    assert "too few to show any difference" in found.verdict
    few = [run(np.arange(9) % 3, np.zeros(9, int), classes=3) for _ in range(2)]
    degrees = paired_tests.compare(*[dict(enumerate(few))] * 2).difference.uncertainty
    assert degrees.degrees_of_freedom < 10


def test_the_share_of_training_images_follows_from_the_overlap():
    tables = [
        run(
            np.zeros(30, int),
            np.zeros(30, int),
            paths=[f"{(start + k) % 90:02}" for k in range(30)],
        )
        for start in (0, 20, 60)
    ]
    bare = [
        Predictions(part.frame[part.frame["split"] == "test"], part.class_names) for part in tables
    ]
    # Pairs share 10, 0 and 0 of 30 images: one in nine, as if 30 were drawn of 270.
    assert arm_model.test_train_ratio(bare[0], bare) == pytest.approx(30 / 240)
    assert arm_model.test_train_ratio(bare[0], bare[:1]) == 0.5
    folds_ = [bare[0], bare[2]]
    assert arm_model.test_train_ratio(bare[0], folds_) == pytest.approx(1.0)


def test_mcnemar_and_holm_by_hand():
    assert paired_tests.mcnemar(10, 2) == pytest.approx(stats.binomtest(2, 12).pvalue)
    assert paired_tests.mcnemar(0, 0) == 1.0
    assert paired_tests.mcnemar(4, 4) == 1.0
    assert paired_tests.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired_tests.holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])


def test_the_verdict_says_who_is_better_and_by_how_much():
    truth = np.zeros(1000, int)
    good, bad = run(truth, np.arange(1000) < 100), run(truth, np.arange(1000) < 161)
    one = paired_tests.compare({0: bad}, {0: good}, names=("CNN", "ResNet"))
    right, also = (np.arange(1000) >= wrong for wrong in (161, 100))
    assert one.p == pytest.approx(paired_tests.mcnemar(int((right & ~also).sum()), 61))
    assert one.verdict.startswith(
        "These two trained models, ResNet and CNN, differ: ResNet has the higher accuracy "
        "(accuracy +6.1 points, 95 % "
    )
    low, high = one.interval
    assert low < -0.061 < high < 0
    seeds = [
        {seed: run(truth, np.arange(1000) < wrong + seed) for seed in range(3)}
        for wrong in (161, 100)
    ]
    found = paired_tests.compare(*seeds, names=("CNN", "ResNet"))
    assert found.verdict.startswith("ResNet is better than CNN (accuracy +6.1 points, 95 % ")
    same = paired_tests.compare({0: good}, {0: good}, names=("A", "B"))
    assert same.p == 1.0 and same.is_equivalent
    assert "equivalent, within 2.0 points of each other" in same.verdict


def test_interval_p_and_equivalence_say_the_same():
    generator = np.random.default_rng(5)
    truth, arms = np.zeros(400, int), {}
    for arm, rate in {"a": 0.1, "b": 0.12, "c": 0.15, "d": 0.2, "e": 0.105}.items():
        parts = [run(truth, generator.random(400) < rate, num_train=900) for _ in range(3)]
        arms[arm] = dict(enumerate(parts))
    pairs = paired_tests.compare_all(arms, margin=0.05)
    assert {pair.is_significant for pair in pairs} == {True, False}
    for pair in pairs:
        low, high = pair.interval
        assert pair.is_significant == (low > 0 or high < 0)
        assert low <= pair.difference.low and pair.difference.high <= high
        assert pair.difference.low <= pair.difference.image_low
    wide = paired_tests.compare_all(arms, margin=0.5)
    assert all(pair.is_equivalent for pair in wide)
    with pytest.raises(DarkroomError, match="`margin` must lie between 0 and 1"):
        paired_tests.compare_all(arms, margin=0.0)


def test_a_pair_needs_common_seeds_and_the_same_images():
    one = run(np.zeros(10, int), np.zeros(10, int))
    other = run(np.zeros(10, int), np.zeros(10, int), paths=[f"x{index}" for index in range(10)])
    with pytest.raises(DarkroomError, match="no test images in common"):
        paired_tests.compare({0: one}, {1: other})
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
    assert pair.p < 0.05 / 3 < 2.4 * pair.p < pair.p_adjusted < 3 * pair.p
    assert found["arm 107", "arm 108"].p_adjusted == 1.0


def test_ninety_five_percent_intervals_hold():
    generator = np.random.default_rng(7)
    shares = np.array([[0.4, 0.1], [0.15, 0.35]])
    truths = {"accuracy": 0.75, "kappa": float(metrics.kappa(shares))}
    held = {"Wilson": 0, "large sample": 0, "bounded": 0}
    num = 500
    for _ in range(num):
        counts = generator.multinomial(300, shares.ravel()).reshape(2, 2)
        low, high = statistics.wilson(int(np.trace(counts)), 300)
        held["Wilson"] += low <= truths["accuracy"] <= high
        low, high = statistics.kappa_interval(counts)
        held["large sample"] += low <= truths["kappa"] <= high
        cells = np.repeat(np.arange(4), counts.ravel())
        found = statistics.over_seeds([run(cells // 2, cells % 2)], "kappa")
        held["bounded"] += found.low <= truths["kappa"] <= found.high
    assert all(0.93 <= count / num <= 0.97 for count in held.values()), held


def test_a_summary_row_and_its_interval_come_from_the_same_matrix():
    part = run(np.repeat([0, 0, 1, 1], [20, 5, 10, 15]), np.repeat([0, 1, 0, 1], [20, 5, 10, 15]))
    assert metrics.summary(part, "test")["kappa"] == pytest.approx(0.4)
    assert statistics.intervals(part, "test").loc["kappa", "value"] == pytest.approx(0.4)


def test_arms_with_different_numbers_of_seeds_are_compared():
    def arm(wrongs):
        return {
            seed: run(np.zeros(100, int), np.arange(100) < wrong)
            for seed, wrong in enumerate(wrongs)
        }

    pair = paired_tests.compare(arm([10, 14]), arm([30, 32, 34]))
    assert pair.better == "A" and pair.difference.num_seeds == 2
