"""Intervals and verdicts of studies with real learners, in few replicates of small designs."""

from benchmarks import verdicts


def test_a_false_verdict_is_rare_and_intervals_hold():
    design = verdicts.Design("sgd", 400, 3, 3)
    found = verdicts.simulate(design, 40, of_truth=40)
    # Of 40 studies at 5 % more than 6 false verdicts come once in a hundred times.
    assert found["accuracy false verdicts"] <= 6 / 40
    assert found["accuracy mean covered"] >= 0.88
    assert found["accuracy difference covered"] >= 0.88


def test_seeds_on_one_split_hold_too():
    found = verdicts.simulate(verdicts.Design("tree", 400, 3, 2, is_fixed=True), 40, of_truth=40)
    assert found["accuracy false verdicts"] <= 6 / 40
    assert found["kappa mean covered"] >= 0.88
