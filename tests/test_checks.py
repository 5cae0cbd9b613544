"""Each guard finds its mistake, in miniature, and stays silent on a healthy run."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.errors import DarkroomError
from lib.evaluation import checks, paired_tests, test_set_log
from lib.evaluation.arm_model import Uncertainty
from lib.evaluation.checks import RunFacts
from lib.evaluation.outcomes import remarks, require, unjudged
from lib.evaluation.predictions import Predictions, table
from lib.evaluation.run_records import RunRecord
from lib.evaluation.statistics import Estimate


def run(*, accuracy=0.9, num=400, groups=None, predicted=None, seed=0, skew=0.5) -> Predictions:
    generator = np.random.default_rng(seed)
    truth = (generator.random(num) > skew).astype(int)
    said = (
        np.where(generator.random(num) < accuracy, truth, 1 - truth)
        if predicted is None
        else np.full(num, predicted)
    )
    splits = np.array(["train", "train", "val", "test"])[np.arange(num) % 4]
    frame = table(
        [f"{index:04d}.png" for index in range(num)],
        splits=splits,
        labels=np.array(["a", "b"])[truth],
        groups=np.arange(num) if groups is None else groups,
        probabilities=np.eye(2)[said],
        class_names=["a", "b"],
    )
    return Predictions(frame, ("a", "b"))


def history(value):
    return pd.DataFrame({"epoch": [1, 2, 3], "val_accuracy": [0.5, value, 0.4]})


def accuracy_of(predictions, split="test"):
    part = predictions.split(split)
    return float((part.truth == part.predicted).mean())


def outcomes(findings):
    return {finding["check"]: finding["outcome"] for finding in findings}


def messages(findings):
    return " ".join(finding["message"] for finding in findings if finding["outcome"] != "held")


def test_a_healthy_run_raises_no_alarm():
    for seed in range(20):
        healthy = run(seed=seed)
        facts = RunFacts(
            healthy,
            history(accuracy_of(healthy, "val")),
            kept_epoch=2,
            reported={"accuracy": accuracy_of(healthy)},
            settings={"monitor": "val_accuracy", "class_weights": "none"},
            test_openings=3,
            diverged=False,
        )
        found = checks.of_run(facts)
        assert set(outcomes(found).values()) == {"held"}, found
        require(found)


def test_a_two_test_sets_under_one_table_stop_the_result():
    found = checks.of_run(RunFacts(run(), reported={"accuracy": 0.7158}))
    assert outcomes(found)["one_prediction_table"] == "stops"
    with pytest.raises(
        DarkroomError, match="accuracy was reported as 0.715800.*two sets under one result"
    ):
        require(found)


def test_d_validation_that_moved_after_training_is_flagged():
    moved = checks.of_run(RunFacts(run(), history(0.5), kept_epoch=2))
    assert outcomes(moved)["validation_unchanged"] == "flagged"
    assert "at the kept epoch 2" in messages(moved)
    assert "no epoch 9" in messages(checks.of_run(RunFacts(run(), history(0.5), kept_epoch=9)))


def test_j_near_duplicates_across_splits_are_flagged():
    found = checks.of_run(RunFacts(run(groups=np.arange(400) // 2)))
    assert outcomes(found)["duplicate_leakage"] == "flagged"
    assert "100 groups of near-duplicates lie in more than one split, 100 test images" in messages(
        found
    )


def test_m_openings_are_counted_for_each_split_over_all_runs(tmp_path):
    assert test_set_log.count(tmp_path, "s0") == 0
    assert [test_set_log.times(number) for number in (0, 1, 2, 5)] == [
        "never",
        "once",
        "twice",
        "5 times",
    ]
    assert test_set_log.record(tmp_path, "s0", "study/train/a-s0").num_reads == 1
    assert test_set_log.record(tmp_path, "s0", "study/train/猫-s0").num_reads == 2
    assert test_set_log.record(tmp_path, "s1", "study/train/a-s1").num_reads == 1
    with (tmp_path / test_set_log.LOG).open("a") as file:
        file.write('{"split": "s')  # a power cut while writing
    assert test_set_log.count(tmp_path, "s0") == 3
    found = checks.of_run(RunFacts(run(), test_openings=0))
    assert outcomes(found)["test_access_recorded"] == "flagged"


def test_q_one_class_for_all_is_flagged():
    found = checks.of_run(RunFacts(run(predicted=1)))
    assert outcomes(found)["several_classes_predicted"] == "flagged"
    assert "All 100 images were given one class, b." in messages(found)


def test_y_no_better_than_chance_or_than_the_largest_class_is_flagged():
    assert "Not shown to beat chance" in messages(checks.of_run(RunFacts(run(accuracy=0.5))))
    skewed = RunFacts(run(accuracy=0.72, skew=0.93, num=4000))
    assert "Worse than always predicting the largest class" in messages(checks.of_run(skewed))


def estimate(value, num_seeds=3):
    known = Uncertainty(1e-4, 1e-4, 2.0)
    return Estimate("accuracy", value, value, value, value, value, 0.0, num_seeds, "test", known)


def pair(value, p):
    return paired_tests.Pair("a", "b", estimate(value), p, p, 1.0, value, value, 0.02, "test")


def test_k_and_w_a_mean_of_few_and_a_lead_within_noise_are_flagged():
    lead = pair(0.01, 0.2)
    found = checks.of_comparison({"a": estimate(0.8), "b": estimate(0.79, num_seeds=1)}, [lead])
    assert outcomes(found)["enough_trainings"] == "flagged"
    assert outcomes(found)["lead_is_significant"] == "note"
    assert "Fewer than three trainings: b (1)" in messages(found)
    assert "do not differ significantly on test: neither is the winner" in messages(found)
    found = checks.of_comparison({"a": estimate(0.9), "b": estimate(0.8)}, [pair(0.1, 0.001)])
    assert outcomes(found)["enough_trainings"] == outcomes(found)["lead_is_significant"] == "held"
    found = checks.of_comparison({"a": estimate(0.9), "b": estimate(0.8)}, [])
    assert outcomes(found)["lead_is_significant"] == "not_judged"
    found = checks.of_comparison({"a": estimate(0.9)}, [])
    assert outcomes(found)["lead_is_significant"] == "not_judged"


def test_what_was_not_looked_at_is_not_held():
    found = outcomes(checks.of_run(RunFacts(run())))
    assert {name for name, outcome in found.items() if outcome == "not_judged"} == {
        "one_prediction_table",
        "validation_unchanged",
        "kept_epoch_is_best",
        "training_stayed_finite",
        "test_access_recorded",
        "class_weights_applied",
    }
    lines = unjudged(checks.of_run(RunFacts(run())))
    assert "test_access_recorded: not judged, no ledger of test access was given" in lines


def test_where_nothing_can_be_seen_the_check_is_not_judged():
    lost = pd.DataFrame({"epoch": [1, 2], "val_loss": [np.nan, np.nan]})
    facts = RunFacts(run(), lost, kept_epoch=1, settings={"monitor": "val_loss"})
    assert outcomes(checks.of_run(facts))["kept_epoch_is_best"] == "not_judged"
    same = labelled(lambda generator, truths: np.full(truths.shape, 0.9))
    same.frame["label"] = [["a", "b", "c"]] * len(same)
    assert outcomes(checks.of_run(RunFacts(same)))["several_classes_predicted"] == "not_judged"
    none = checks.of_comparison({}, [], opened=["s/train/a-s0"])
    assert outcomes(none)["trainings_complete"] == "not_judged"


def test_a_lead_over_the_largest_class_counts_groups_not_images():
    # Of 50 films of ten images 30 are of one class and 36 are right: 72 % against 60 %.
    films = np.repeat(np.arange(50), 10)
    truth, right = (films < 30).astype(int), (films % 30 < 14) | (films < 22)
    rows = {"splits": ["test"] * 500, "class_names": ["a", "b"]}
    rows |= {"labels": np.array(["a", "b"])[truth], "probabilities": None}
    rows["probabilities"] = np.eye(2)[np.where(right, truth, 1 - truth)]
    names = [f"{index:04d}.png" for index in range(500)]
    images, grouped = (
        checks.beats_chance(RunFacts(Predictions(table(names, groups=groups, **rows), ("a", "b"))))
        for groups in (np.arange(500), films)
    )
    assert images[0] == "held"
    assert grouped[0] == "note" and "not shown to exceed" in grouped[1]


def test_an_earlier_phase_that_was_better_is_flagged():
    phases = pd.DataFrame(
        {"epoch": [1, 2, 3], "phase": ["head", "train", "train"], "val_accuracy": [0.9, 0.7, 0.8]}
    )
    facts = RunFacts(run(), phases, kept_epoch=3, settings={"monitor": "val_accuracy"})
    found = checks.of_run(facts)
    assert outcomes(found)["kept_epoch_is_best"] == "flagged"
    assert "epoch 1 of phase 'head' reached 0.9000" in messages(found)


def test_a_loss_that_left_the_finite_numbers_is_flagged():
    found = checks.of_run(RunFacts(run(), diverged=True))
    assert outcomes(found)["training_stayed_finite"] == "flagged"


def labelled(predicted, *, num=200, seed=0):
    generator = np.random.default_rng(seed)
    truths = generator.random((num, 3)) < 0.4
    frame = table(
        [f"{index:04d}.png" for index in range(num)],
        splits=["test"] * num,
        labels=[[name for name, there in zip("abc", row, strict=True) if there] for row in truths],
        groups=np.arange(num),
        probabilities=predicted(generator, truths),
        class_names=["a", "b", "c"],
    )
    return Predictions(frame, ("a", "b", "c"), kind="multilabel")


def test_a_model_of_several_labels_that_predicts_nothing_is_flagged():
    nothing = labelled(lambda generator, truths: np.full(truths.shape, 0.1))
    found = outcomes(checks.of_run(RunFacts(nothing)))
    assert found["several_classes_predicted"] == found["beats_chance"] == "flagged"
    luck = labelled(lambda generator, truths: generator.random(truths.shape))
    assert outcomes(checks.of_run(RunFacts(luck)))["beats_chance"] == "flagged"
    good = labelled(lambda generator, truths: 0.2 + 0.6 * truths * generator.random(truths.shape))
    assert outcomes(checks.of_run(RunFacts(good)))["beats_chance"] == "held"


def test_a_coin_for_each_film_does_not_beat_chance():
    generator, passed = np.random.default_rng(0), 0
    for _ in range(100):
        films = np.repeat(np.arange(24), 20)
        truth, coin = (generator.integers(2, size=24)[films] for _ in range(2))
        frame = table(
            [f"{index:04d}.png" for index in range(480)],
            splits=["test"] * 480,
            labels=np.array(["a", "b"])[truth],
            groups=films,
            probabilities=np.eye(2)[coin],
            class_names=["a", "b"],
        )
        part = Predictions(frame, ("a", "b"))
        if len(set(truth)) == 2:
            passed += checks.beats_chance(RunFacts(part))[0] == "held"
    assert passed <= 7


def test_a_class_never_predicted_and_few_images_are_flagged():
    truth = np.arange(60) % 3
    frame = table(
        [f"{index:04d}.png" for index in range(60)],
        splits=["test"] * 60,
        labels=np.array(["a", "b", "c"])[truth],
        groups=np.arange(60),
        probabilities=np.eye(3)[np.where(truth == 2, 0, truth)],
        class_names=["a", "b", "c"],
    )
    part = Predictions(frame, ("a", "b", "c"))
    found = checks.of_run(RunFacts(part))
    assert outcomes(found)["every_class_predicted"] == "flagged"
    assert "Never predicted, although there are test images of them: c." in messages(found)
    few = Predictions(frame.head(8), ("a", "b", "c"))
    assert "Only 8 test images" in messages(checks.of_run(RunFacts(few)))


def test_findings_of_earlier_runs_are_read_under_their_names():
    old = [{"guard": "J", "outcome": "flagged", "message": "torn"}]
    assert remarks(old) == ["duplicate_leakage: torn"]


@pytest.mark.parametrize(
    ("kept", "study", "outcome"),
    [
        (range(10), "s", "held"),
        ((1, 4, 8), "s", "flagged"),  # the best three, or the others were deleted
        ((1, 4, 8), "chosen", "flagged"),  # copied to a study of their own
    ],
)
def test_chosen_seeds_are_noticed(kept, study, outcome):
    runs = [
        SimpleNamespace(
            folder=Path("logs", study, "train", f"a-s{seed}"),
            predictions=SimpleNamespace(run=f"s/train/a-s{seed}"),
        )
        for seed in kept
    ]
    others = ["s/train/b-s0", "s/train/a-b-s0", "other/train/a-s3", "s/tune/a-s1"]
    opened = [f"s/train/a-s{seed}" for seed in range(10)] + others
    found = checks.trainings_complete(SimpleNamespace(runs={"a": runs}, opened=opened))
    assert found[0] == outcome
    assert (f"{10 - len(runs)} trainings of these arms" in found[1]) == (outcome == "flagged")
    assert checks.trainings_complete(SimpleNamespace(runs={}, opened=()))[0] == "not_judged"


@pytest.mark.parametrize(
    ("arms", "outcome", "message"),
    [
        ({"a": ["1", "2"], "b": ["3", "4"]}, "held", "no two trainings predict the same"),
        ({"a": ["1", "1"], "b": ["3", "4"]}, "note", "count as one training: a (2)."),
        ({"a": ["1", "1'", "1''"], "b": ["2", "4"]}, "note", "count as one training: a (3)."),
        ({"a": ["1", "2"], "b": ["1", "2"]}, "note", "Arms with the same predictions: a and b."),
        ({"a": ["1"]}, "not_judged", "there is one training"),
    ],
)
def test_copies_of_a_training_are_noted_within_an_arm_and_between_two(arms, outcome, message):
    def trained(mark):
        probability = {"1": 0.2, "2": 0.4, "3": 0.6, "4": 0.8}[mark[0]] + 1e-6 * mark.count("'")
        part = run(num=40, predicted=0)
        part.frame[["p_a", "p_b"]] = np.float32([probability, 1 - probability])
        return RunRecord(Path(mark), "a", 0, part)

    runs = {arm: [trained(one) for one in some] for arm, some in arms.items()}
    found = checks.trainings_differ(SimpleNamespace(runs=runs))
    assert found[0] == outcome
    assert message in found[1]
