"""Each guard finds its mistake, in miniature, and stays silent on a healthy run."""

import numpy as np
import pandas as pd
import pytest

from lib.errors import DarkroomError
from lib.evaluation import audit, paired_tests, published_tables, test_access
from lib.evaluation.checks import RunFacts
from lib.evaluation.linear_model import Uncertainty
from lib.evaluation.predictions import Predictions, table
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
    return {finding["guard"]: finding["outcome"] for finding in findings}


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
        )
        found = audit.run(facts)
        assert set(outcomes(found).values()) == {"held"}, found
        audit.require(found)


def test_a_two_test_sets_under_one_table_stop_the_result():
    found = audit.run(RunFacts(run(), reported={"accuracy": 0.7158}))
    assert outcomes(found)["A"] == "stops"
    with pytest.raises(
        DarkroomError, match="accuracy was reported as 0.715800.*two sets under one result"
    ):
        audit.require(found)


def test_a_printed_kappa_that_cannot_go_with_its_accuracy_is_told():
    # The Simpsons source: 19 balanced classes, 950 images, 71.58 % and kappa 0.2297.
    assert published_tables.kappa_range(0.7158, [50] * 19) == pytest.approx(
        ((0.7158 - 1 / 19) / (1 - 1 / 19),) * 2
    )
    found = audit.figures_of_others(accuracy=0.7158, kappa=0.2297, support=[50] * 19)
    assert found["outcome"] == "stops"
    assert "a kappa of 0.700 to 0.700, not with 0.2297" in found["message"]
    assert (
        audit.figures_of_others(accuracy=0.7158, kappa=0.7, support=[50] * 19)["outcome"] == "held"
    )
    assert audit.figures_of_others(accuracy=0.7, kappa=0.4, support=[25, 25])["outcome"] == "held"


def test_d_validation_that_moved_after_training_is_flagged():
    moved = audit.run(RunFacts(run(), history(0.5), kept_epoch=2))
    assert outcomes(moved)["D"] == "flagged"
    assert "at the kept epoch 2" in messages(moved)
    assert "no epoch 9" in messages(audit.run(RunFacts(run(), history(0.5), kept_epoch=9)))


def test_j_near_duplicates_across_splits_are_flagged():
    found = audit.run(RunFacts(run(groups=np.arange(400) // 2)))
    assert outcomes(found)["J"] == "flagged"
    assert "100 groups of near-duplicates lie in more than one split, 100 test images" in messages(
        found
    )


def test_m_openings_are_counted_for_each_split_over_all_runs(tmp_path):
    assert test_access.count(tmp_path, "s0") == 0
    assert [test_access.times(number) for number in (0, 1, 2, 5)] == [
        "never",
        "once",
        "twice",
        "5 times",
    ]
    assert test_access.open_test(tmp_path, "s0", "study/train/a-s0") == 1
    assert test_access.open_test(tmp_path, "s0", "study/train/猫-s0") == 2
    assert test_access.open_test(tmp_path, "s1", "study/train/a-s1") == 1
    with (tmp_path / test_access.LEDGER).open("a") as file:
        file.write('{"split": "s')  # a power cut while writing
    assert test_access.count(tmp_path, "s0") == 3
    found = audit.run(RunFacts(run(), test_openings=0))
    assert outcomes(found)["M"] == "flagged"


def test_q_one_class_for_all_is_flagged():
    found = audit.run(RunFacts(run(predicted=1)))
    assert outcomes(found)["Q"] == "flagged"
    assert "All 100 images were given one class, b." in messages(found)


def test_y_no_better_than_chance_or_than_the_largest_class_is_flagged():
    assert "Not shown to beat chance" in messages(audit.run(RunFacts(run(accuracy=0.5))))
    skewed = RunFacts(run(accuracy=0.72, skew=0.93, num=4000))
    assert "Worse than always saying the largest class" in messages(audit.run(skewed))


def estimate(value, num_seeds=3):
    known = Uncertainty(1e-4, 1e-4, 2.0)
    return Estimate("accuracy", value, value, value, value, value, 0.0, num_seeds, "test", known)


def pair(value, p):
    return paired_tests.Pair("a", "b", estimate(value), p, p, 1.0, value, value, 0.02, "test")


def test_k_and_w_a_mean_of_few_and_a_lead_within_noise_are_flagged():
    lead = pair(0.01, 0.2)
    found = audit.comparison({"a": estimate(0.8), "b": estimate(0.79, num_seeds=1)}, [lead])
    assert outcomes(found) == {"K": "flagged", "W": "flagged"}
    assert "Fewer than three seeds: b (1)" in messages(found)
    assert "The lead of a over b is within the noise" in messages(found)
    lead = pair(0.1, 0.001)
    assert outcomes(audit.comparison({"a": estimate(0.9), "b": estimate(0.8)}, [lead])) == {
        "K": "held",
        "W": "held",
    }
    assert "no seed in common" in messages(
        audit.comparison({"a": estimate(0.9), "b": estimate(0.8)}, [])
    )
    assert outcomes(audit.comparison({"a": estimate(0.9)}, [])) == {"K": "held", "W": "held"}
