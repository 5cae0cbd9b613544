"""Every number against a case worked by hand, and against scikit-learn where it has one."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.errors import DarkroomError
from lib.evaluation import calibration, metrics, predictions, statistics

HAND = np.array([[20, 5], [10, 15]])


def of_probabilities(
    probabilities, truth, *, names=None, kind="probability"
) -> predictions.Predictions:
    names = names or [f"class {index}" for index in range(np.shape(probabilities)[1])]
    num = len(truth)
    frame = predictions.table(
        [f"{index:06d}.png" for index in range(num)],
        splits=["test"] * num,
        labels=[names[index] for index in truth],
        groups=range(num),
        probabilities=probabilities,
        class_names=names,
    )
    return predictions.Predictions(frame, tuple(names), kind=kind)


def of_confusion(counts) -> predictions.Predictions:
    counts = np.asarray(counts)
    rows, columns = np.indices(counts.shape)
    truth, predicted = (np.repeat(place.ravel(), counts.ravel()) for place in (rows, columns))
    return of_probabilities(np.eye(len(counts))[predicted], truth)


def random_predictions(seed=0, num=400, classes=4) -> predictions.Predictions:
    generator = np.random.default_rng(seed)
    truth = generator.integers(classes, size=num)
    scores = (
        np.round(generator.random((num, classes)) * 4) / 4 + 0.5 * np.eye(classes)[truth] + 0.01
    )  # many ties
    return of_probabilities(scores / scores.sum(axis=1, keepdims=True), truth)


def test_the_hand_worked_matrix():
    assert metrics.confusion(of_confusion(HAND)).tolist() == HAND.tolist()
    assert metrics.accuracy(HAND) == pytest.approx(0.7)
    assert metrics.kappa(HAND) == pytest.approx(0.4)
    assert metrics.balanced_accuracy(HAND) == pytest.approx((0.8 + 0.6) / 2)
    assert metrics.precision(HAND).tolist() == pytest.approx([20 / 30, 15 / 20])
    assert metrics.matthews(HAND) == pytest.approx((20 * 15 - 5 * 10) / np.sqrt(25 * 25 * 30 * 20))
    assert metrics.shares(HAND).tolist() == [[0.8, 0.2], [0.4, 0.6]]


def test_a_stack_of_matrices_is_one_call():
    stack = np.stack([HAND, np.eye(2) * 5, [[0, 5], [5, 0]]])
    assert metrics.kappa(stack).tolist() == pytest.approx([0.4, 1.0, -1.0])
    assert metrics.accuracy(stack).tolist() == pytest.approx([0.7, 1.0, 0.0])


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_agrees_with_scikit_learn(weights):
    from sklearn.metrics import cohen_kappa_score

    drawn = random_predictions()
    expected = cohen_kappa_score(drawn.truth, drawn.predicted, weights=weights)
    assert metrics.kappa(metrics.confusion(drawn), weights=weights) == pytest.approx(expected)


def test_weighted_kappa_counts_the_distance_between_classes():
    # One place off among three costs 1/4 of two places off.
    counts = np.array([[4, 0, 0], [2, 2, 0], [0, 0, 4]])
    squares = np.array([[0, 1, 4], [1, 0, 1], [4, 1, 0]])
    margins = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    expected = 1 - (counts * squares).sum() / (margins * squares).sum()
    assert metrics.kappa(counts, weights="quadratic") == pytest.approx(expected)
    other = metrics.kappa(counts[np.ix_([1, 2, 0], [1, 2, 0])], weights="quadratic")
    assert other < expected  # now the confused pair lies two places apart


def test_the_bands_of_landis_and_koch_are_closed_above():
    values = [-0.01, 0.0, 0.2, 0.21, 0.4, 0.6, 0.61, 0.8, 0.81, 1.0]
    bands = ["poor", "slight", "slight", "fair", "fair", "moderate", "substantial", "substantial"]
    assert [metrics.landis_koch(value) for value in values] == [
        *bands,
        "almost perfect",
        "almost perfect",
    ]
    assert metrics.landis_koch_scale().startswith("below 0 poor, 0 to 0.2 slight, 0.2 to 0.4")
    assert metrics.landis_koch_scale().endswith("0.8 to 1 almost perfect")


def test_scikit_learn_agrees_on_everything_it_has():
    from sklearn import metrics as reference

    drawn = random_predictions()
    summary = metrics.summary(drawn, "test")
    truth, predicted, probabilities = (
        drawn.truth,
        drawn.predicted,
        drawn.probabilities.astype(np.float64),
    )
    report = reference.classification_report(truth, predicted, output_dict=True)
    expected = {
        "accuracy": reference.accuracy_score(truth, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
        "matthews": reference.matthews_corrcoef(truth, predicted),
        "macro_f1": report["macro avg"]["f1-score"],
        "weighted_f1": report["weighted avg"]["f1-score"],
        "macro_precision": report["macro avg"]["precision"],
        "weighted_recall": report["weighted avg"]["recall"],
        "macro_roc_auc": reference.roc_auc_score(
            np.eye(4)[truth], drawn.probabilities, average="macro"
        ),
        "macro_average_precision": reference.average_precision_score(
            np.eye(4)[truth], drawn.probabilities
        ),
        "log_loss": reference.log_loss(
            truth, probabilities / probabilities.sum(axis=1, keepdims=True)
        ),
        "brier": np.mean(((drawn.probabilities - np.eye(4)[truth]) ** 2).sum(axis=1)),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert summary["num_images"] == 400


def test_top_k_ranks_equals_by_class_order():
    drawn = of_probabilities(
        [[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]], [0, 1, 1, 2]
    )
    assert [calibration.top_k(drawn, k) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]
    assert calibration.top_k(drawn, 1) == metrics.summary(drawn, "test")["accuracy"]
    with pytest.raises(DarkroomError, match="`k` must be 1 to 3"):
        calibration.top_k(drawn, 4)


def test_what_is_ill_defined_is_nan_in_tables_left_out_of_the_summary_and_never_a_warning():
    drawn = of_confusion(
        [[3, 1, 0], [2, 0, 0], [0, 0, 0]]
    )  # class 1 is never right, class 2 is nowhere
    table = metrics.per_class(drawn)
    assert table["precision"].tolist() == pytest.approx([0.6, 0.0, np.nan], nan_ok=True)
    assert table["recall"].tolist() == pytest.approx([0.75, 0.0, np.nan], nan_ok=True)
    assert table["support"].tolist() == [4, 2, 0]
    assert np.isnan(table["roc_auc"].iloc[2])
    assert metrics.averages(table).loc["macro", "recall"] == pytest.approx(0.375)
    assert all(np.isfinite(value) for value in metrics.summary(drawn, "test").values())
    one_class = metrics.summary(of_confusion([[5, 0], [0, 0]]), "test")
    assert one_class["kappa"] == 0.0
    assert "macro_roc_auc" not in one_class


def test_a_class_that_is_never_predicted_has_precision_zero():
    assert metrics.precision([[4, 0], [2, 0]]).tolist() == pytest.approx([4 / 6, 0.0])


def test_reliability_and_calibration_error_by_hand():
    drawn = of_probabilities([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], [0, 1, 0, 1])
    bins = calibration.reliability(drawn, num_bins=2)
    assert bins["num"].tolist() == [0, 4]
    assert bins.loc[1, ["confidence", "accuracy"]].tolist() == pytest.approx([0.75, 0.75])
    # Ten bins: 0.9 twice with accuracy 0.5, 0.6 twice with accuracy 1.
    assert calibration.calibration_error(drawn, num_bins=10) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_the_temperature_undoes_a_known_sharpening():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3)) * 2
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (honest.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    sharp = honest**3 / (honest**3).sum(axis=1, keepdims=True)
    sure = of_probabilities(sharp, truth)
    found = calibration.temperature(sure)
    assert found == pytest.approx(3, rel=0.05)
    calmed = calibration.scaled(sure, found)
    assert calibration.calibration_error(calmed) < 0.02 < 0.1 < calibration.calibration_error(sure)
    assert (calmed.predicted == sure.predicted).all()
    with pytest.raises(DarkroomError, match="needs rows of kind probability"):
        calibration.temperature(of_probabilities(logits, truth, kind="score"))


def test_risk_coverage_and_the_threshold_for_a_target_accuracy():
    drawn = of_probabilities([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]], [0, 0, 0, 1])
    curve = calibration.risk_coverage(drawn)
    assert curve["num"].tolist() == [1, 2, 4]  # the two at 0.7 cannot be told apart
    assert curve["accuracy"].tolist() == [1.0, 1.0, 0.75]
    assert calibration.threshold(drawn, accuracy=0.9) is None  # four images promise nothing
    assert calibration.images_needed(0.9) == 29
    right = of_probabilities([[0.9, 0.1]] * 29 + [[0.6, 0.4]] * 10, [0] * 29 + [1] * 10)
    chosen = calibration.threshold(right, accuracy=0.9)
    assert chosen["threshold"] == pytest.approx(0.9) and chosen["coverage"] == 29 / 39
    assert chosen["low"] == pytest.approx(0.05 ** (1 / 29))
    fewer = of_probabilities([[0.9, 0.1]] * 28, [0] * 28)
    assert calibration.threshold(fewer, accuracy=0.9) is None
    bound = stats.binomtest(95, 100).proportion_ci(0.9, method="exact").low
    assert calibration.lower_bound(95, 100) == pytest.approx(bound)
    with pytest.raises(DarkroomError, match="must lie in"):
        calibration.threshold(drawn, accuracy=90)


def test_scores_have_no_log_loss_and_multilabel_no_predicted_class():
    scores = of_probabilities([[3.0, -1.0], [0.0, 2.0]], [0, 1], kind="score")
    assert "log_loss" not in metrics.summary(scores, "test")
    with pytest.raises(DarkroomError, match="multilabel"):
        _ = of_probabilities([[1.0, 1.0]], [0], kind="multilabel").predicted


def test_the_overview_has_one_column_a_split():
    drawn = random_predictions()
    drawn.frame.loc[:99, "split"] = "train"
    assert metrics.overview(drawn).loc["num_images", ["train", "test"]].tolist() == [100, 300]


def multilabel_predictions(num=60, seed=0):
    generator = np.random.default_rng(seed)
    names = ["action", "comedy", "noir"]
    truths = generator.random((num, 3)) < [0.5, 0.3, 0.2]
    scores = np.clip(np.round(0.35 * truths + 0.6 * generator.random((num, 3)), 2), 0, 1)
    frame = predictions.table(
        [f"{index:03d}.png" for index in range(num)],
        splits=["test"] * num,
        labels=[[name for name, borne in zip(names, row, strict=True) if borne] for row in truths],
        groups=np.arange(num) // 2,
        probabilities=scores,
        class_names=names,
    )
    return predictions.Predictions(frame, tuple(names), kind="multilabel"), truths, scores


def test_several_labels_an_image_agree_with_scikit_learn(tmp_path):
    from sklearn import metrics as reference

    drawn, truths, _ = multilabel_predictions()
    said = drawn.present
    assert (drawn.truths == truths).all()
    summary = metrics.summary(drawn, "test")
    expected = {
        "exact_match": reference.accuracy_score(truths, said),
        "accuracy": 1 - reference.hamming_loss(truths, said),
        "micro_f1": reference.f1_score(truths, said, average="micro"),
        "macro_f1": reference.f1_score(truths, said, average="macro"),
        "micro_precision": reference.precision_score(truths, said, average="micro"),
        "macro_recall": reference.recall_score(truths, said, average="macro"),
        "macro_average_precision": reference.average_precision_score(truths, drawn.probabilities),
        "macro_roc_auc": reference.roc_auc_score(truths, drawn.probabilities),
        "kappa": np.mean(list(map(reference.cohen_kappa_score, truths.T, said.T))),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert metrics.per_class(drawn)["support"].tolist() == truths.sum(axis=0).tolist()
    values = statistics.headline(drawn)
    assert values["micro_f1_low"] < values["micro_f1"] < values["micro_f1_high"]
    path = tmp_path / "predictions.parquet"
    about = {"class_names": list(drawn.class_names), "data_hash": "h", "kind": "multilabel"}
    predictions.write(path, drawn.frame, about)
    assert (predictions.read(path).truths == truths).all()
    with pytest.raises(DarkroomError, match="has a label that is no class"):
        predictions.write(path, drawn.frame.assign(label=[["western"]] * 60), about)


def test_what_a_threshold_makes_of_one_class_by_hand():
    drawn = of_probabilities([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]], [0, 1, 0, 1])
    found = calibration.counts_at_thresholds(drawn, 0, np.array([0.0, 0.5, 0.95]))
    assert found["true_positives"].tolist() == [2, 1, 0]
    assert found["false_positives"].tolist() == [2, 1, 0]
    assert found["false_negatives"].tolist() == [0, 1, 2]
    assert found["precision"].tolist() == [0.5, 0.5, 1.0]
    assert found["recall"].tolist() == [1.0, 0.5, 0.0]


def test_advice_is_chosen_on_validation_and_reported_for_test():
    generator = np.random.default_rng(1)
    truth = generator.integers(2, size=400)
    sure = np.where(
        generator.random(400) < 0.7, 0.97, 0.6
    )  # sure ones are right nine times of ten, unsure ones never
    right = np.where(sure > 0.9, generator.random(400) < 0.95, generator.random(400) < 0.5)
    said = np.where(right, truth, 1 - truth)
    drawn = of_probabilities(
        np.where(np.arange(2) == said[:, None], sure[:, None], 1 - sure[:, None]), truth
    )
    drawn.frame["split"] = np.array(["val", "test"])[np.arange(400) % 2]
    told = calibration.advice(drawn, targets=(0.85, 0.9999))
    assert told["temperature"] == calibration.useful_temperature(drawn.split("val"))
    assert told["not_promised"] == [0.9999] and told["num_validation"] == 200
    assert len(told["thresholds"]) == 1  # nothing reaches 99.99 %
    (chosen,) = told["thresholds"]
    scale = 1 / told["temperature"]  # the threshold is one of the scaled probability
    assert chosen["threshold"] == pytest.approx(0.97**scale / (0.97**scale + 0.03**scale), abs=1e-5)
    test = drawn.split("test")
    assert chosen["coverage"] == pytest.approx((test.confidence > 0.9).mean())
    assert chosen["accuracy"] == pytest.approx(
        (test.predicted == test.truth)[test.confidence > 0.9].mean()
    )


def test_thresholds_keep_their_promise():
    generator, kept, promised = np.random.default_rng(0), 0, 0
    for _ in range(200):
        ability = generator.beta(6, 1.2, size=20_000)  # the true probability of being right
        right = generator.random(20_000) < ability
        stated = 0.5 + 0.5 * np.clip(ability + 0.03, 0, 1)  # too sure
        rows = np.column_stack([stated, 1 - stated])
        small = of_probabilities(rows[:400], np.where(right[:400], 0, 1))
        chosen = calibration.threshold(small, accuracy=0.95)
        if chosen is not None:
            promised += 1
            kept += right[stated >= chosen["threshold"] - 1e-7].mean() >= 0.95
    assert promised > 50
    assert kept / promised >= 0.93


def test_a_temperature_that_does_not_help_is_not_used():
    generator = np.random.default_rng(3)
    stated = generator.uniform(0.5, 1, size=600)
    truth = np.where(generator.random(600) < stated, 0, 1)
    calm = of_probabilities(np.column_stack([stated, 1 - stated]), truth)
    sure = calibration.scaled(calm, 0.3)
    assert calibration.useful_temperature(sure) == pytest.approx(1 / 0.3, rel=0.25)
    assert 0.8 < calibration.useful_temperature(calm) < 1.25


def test_the_squared_calibration_error_of_honest_probabilities_is_small():
    generator = np.random.default_rng(4)
    stated = generator.uniform(0.5, 1, size=300)
    truth = np.where(generator.random(300) < stated, 0, 1)
    honest = of_probabilities(np.column_stack([stated, 1 - stated]), truth)
    squared, *_ = calibration.squared_calibration_error(honest)
    assert squared < calibration.calibration_error(honest) ** 2


def test_one_mistake_among_the_surest_does_not_end_every_promise():
    shares = np.linspace(0.99, 0.6, 400)
    rows, wrong = np.column_stack([shares, 1 - shares]), np.zeros(400, int)
    wrong[[3, 7, 11]] = 1
    chosen = calibration.threshold(of_probabilities(rows, wrong), accuracy=0.9)
    assert chosen["coverage"] == 1
    expected = calibration.lower_bound(397, 400, 0.975)
    assert chosen["low"] == pytest.approx(expected)


@pytest.mark.parametrize("is_test_alike", [False, True])
def test_a_temperature_is_chosen_by_validation_whatever_it_gives_on_test(is_test_alike):
    generator = np.random.default_rng(3)
    stated = generator.uniform(0.5, 1, size=600)
    truth = np.where(generator.random(600) < stated, 0, 1)
    calm = of_probabilities(np.column_stack([stated, 1 - stated]), truth)
    sure = calibration.scaled(calm, 0.3)  # far too sure
    test = (sure if is_test_alike else calm).frame.assign(split="test")
    both = pd.concat([sure.frame.assign(split="val"), test])
    found = calibration.advice(dataclasses.replace(calm, frame=both))
    assert found["temperature"] == pytest.approx(1 / 0.3, rel=0.25)
    is_better = found["calibration_error_scaled"] < found["calibration_error"]
    assert is_better == is_test_alike
