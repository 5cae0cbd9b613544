import re

import numpy as np
import pandas as pd
import pytest

from lib.cleaning import label_issues
from lib.cleaning.label_issues import EmbeddingConfig
from lib.data.dataset import Dataset
from lib.errors import DarkroomError


def test_the_confident_joint_by_hand():
    """Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 (0.7 + 0.9 + 0.5) / 3 = 0.7."""
    truth = np.array([0, 0, 0, 1, 1, 1])
    of_zero = np.array([0.9, 0.8, 0.1, 0.3, 0.1, 0.5])
    told = label_issues.confident(truth, np.stack([of_zero, 1 - of_zero], axis=1))
    assert told["wrong"].tolist() == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]  # the last reaches neither threshold
    assert told["suggested"].tolist() == [0, 0, 1, 1, 1, 1]
    assert told["score"].tolist() == pytest.approx([0.9, 0.8, 0.1, 0.7, 0.9, 0.5])


def test_a_picture_that_reaches_two_thresholds_is_of_the_likelier_class():
    truth = np.array([0, 0, 1, 1])
    of_zero = np.array([0.6, 0.2, 0.5, 0.5])  # thresholds 0.4 and 0.5
    assert label_issues.confident(truth, np.stack([of_zero, 1 - of_zero], axis=1))[
        "suggested"
    ].tolist() == [0, 1, 0, 0]


def clusters(count=40, *, seed=0):
    """Three classes of `count` points around three directions of 16."""
    random = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], count)
    return np.eye(16)[truth * 5] * 4 + random.normal(0, 0.5, (3 * count, 16)) + 5, truth


def test_flipped_labels_come_first():
    rows, truth = clusters()
    given = truth.copy()
    given[[3, 50, 90]] = [1, 2, 0]
    told = label_issues.confident(
        given, label_issues.out_of_fold(rows, given, groups=np.arange(len(given)))
    )
    assert set(np.flatnonzero(told["wrong"])) == {3, 50, 90}
    assert set(np.argsort(told["score"])[:3]) == {3, 50, 90}
    assert told["suggested"][[3, 50, 90]].tolist() == [0, 1, 2]


def test_a_twin_with_the_same_wrong_label_does_not_vouch_for_it():
    rows, truth = clusters(10)
    given, groups = truth.copy(), np.arange(len(truth))
    rows[:6], given[:6], groups[:6] = rows[0], 1, 0  # six copies, all mislabelled
    apart = label_issues.out_of_fold(rows, given, groups=groups)[:6, 1]
    together = label_issues.out_of_fold(rows, given, groups=np.arange(len(truth)))[:6, 1]
    assert apart.max() < 0.3 < together.min()


def test_a_class_of_one_cannot_be_judged():
    with pytest.raises(ValueError, match="at least two pictures"):
        label_issues.out_of_fold(np.eye(3), np.array([0, 0, 1]), groups=np.arange(3))


def test_distances_by_hand():
    angles = np.deg2rad([0, 60, 60, 180])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 7  # length does not count
    one = np.zeros(4, int)
    far = label_issues.distances(rows, labels=one, groups=np.arange(4), neighbours=1)
    assert far == pytest.approx(
        [1, 0, 0, 3**0.5], abs=1e-3
    )  # the chord of 60 degrees is 1, of 120 the root of 3
    twins = label_issues.distances(rows, labels=one, groups=np.array([0, 1, 1, 2]), neighbours=1)
    assert twins == pytest.approx([1, 1, 1, 3**0.5], abs=1e-3)  # a twin is no company
    classes = label_issues.distances(
        rows, labels=np.array(["a", "b", "a", "c"]), groups=np.arange(4)
    )
    assert classes == pytest.approx(
        [1, np.nan, 1, np.nan], abs=1e-3, nan_ok=True
    )  # nor is another class


def test_deviations_by_hand():
    far = np.exp([0.0, 1.0, 2.0, 3.0, 4.0])  # median 2, median absolute deviation 1
    assert label_issues.deviations(far, labels=np.zeros(5))[4] == pytest.approx(2 / 1.4826)
    assert label_issues.deviations(np.ones(5), labels=np.zeros(5)).tolist() == [0] * 5
    assert label_issues.deviations(np.array([np.nan, 1.0]), labels=np.arange(2)).tolist() == [0, 0]


def test_a_class_that_is_spread_more_is_judged_by_itself_as_far_as_it_is_large():
    far, labels = np.exp(np.repeat([0.0, 2.0], 20)), np.repeat(["tight", "spread"], 20)
    # Twenty pictures and twenty in reserve: the classes' usual distances are drawn half way to the
    # median of all, 1.
    assert label_issues.deviations(far, labels=labels)[[0, 20]] == pytest.approx(
        [-1 / 1.4826, 1 / 1.4826]
    )


def test_findings_name_both_classes_and_the_distance(tmp_path, monkeypatch):
    rows, truth = clusters()
    given = truth.copy()
    given[3] = 1
    rows[100] = -rows[100]
    monkeypatch.setattr(label_issues, "features", lambda *_, **__: rows)
    table = pd.DataFrame(
        {
            "path": [f"{at:03}.png" for at in range(120)],
            "pixels": "p",
            "group": np.arange(120),
            "label": np.array(["bird", "cat", "dog"])[given],
        }
    )
    found = label_issues.find(
        Dataset("d", tmp_path, tmp_path), table, EmbeddingConfig(), outlier=3.0
    )
    told = {(path, reason): detail for path, reason, _, detail in found}
    assert re.fullmatch(
        r"labelled cat \(\d+ %\), looks like bird \(\d+ %\)", told[("003.png", "wrong_label")]
    )
    assert "deviations farther than usual" in told[("100.png", "outlier")]
    assert all(0 <= score <= 1 for _, _, score, _ in found)
    assert (
        label_issues.find(
            Dataset("d", tmp_path, tmp_path), table.head(10), EmbeddingConfig(), outlier=3.0
        )
        == []
    )


def test_a_network_without_pretrained_weights_cannot_look(tmp_path):
    table = pd.DataFrame({"path": ["a"], "pixels": ["p"], "group": [0], "label": ["x"]})
    with pytest.raises(DarkroomError, match="Only a pretrained network"):
        label_issues.features(Dataset("d", tmp_path, tmp_path), table, EmbeddingConfig("custom"))
