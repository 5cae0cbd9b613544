"""Many classes judged as few: probabilities add up, and the folded model is compared on the very
same images.
"""

import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.evaluation import class_grouping
from lib.evaluation.predictions import Predictions, table

FIVE = ("painting", "photo", "schematic", "sketch", "text")


def run(truth, probabilities, names, *, paths=None, num_train=0) -> Predictions:
    num = len(truth)
    paths = list(paths if paths is not None else [f"{index:04d}.png" for index in range(num)])
    frame = table(
        paths + [f"train{index}" for index in range(num_train)],
        splits=["test"] * num + ["train"] * num_train,
        labels=[names[index] for index in truth] + [names[0]] * num_train,
        groups=range(num + num_train),
        probabilities=np.concatenate(
            [probabilities, np.tile(np.eye(len(names))[0], (num_train, 1))]
        ),
        class_names=names,
    )
    return Predictions(frame, tuple(names), data_hash="h")


def test_a_groups_probability_is_the_sum_of_its_classes():
    one = run([0, 1], np.array([[0.3, 0.4, 0.1, 0.1, 0.1], [0.1, 0.6, 0.1, 0.1, 0.1]]), FIVE)
    folded = class_grouping.fold(one, {"photo": "photo"}, rest="rest")
    assert folded.class_names == ("photo", "rest")
    assert folded.probabilities == pytest.approx(np.array([[0.4, 0.6], [0.6, 0.4]]))
    assert folded.frame["label"].tolist() == ["rest", "photo"]
    assert one.predicted.tolist() == [1, 1]  # photo led, but the rest together is likelier
    assert folded.predicted.tolist() == [1, 0]
    assert folded.data_hash != one.data_hash


def test_what_cannot_be_folded_is_refused():
    one = run([0], np.eye(5)[:1], FIVE)
    with pytest.raises(DarkroomError, match="Without one: painting, schematic, sketch, text"):
        class_grouping.fold(one, {"photo": "photo"})
    with pytest.raises(DarkroomError, match="Unknown: foto.*Did you mean 'photo'"):
        class_grouping.fold(one, {"foto": "photo"}, rest="rest")
    with pytest.raises(DarkroomError, match="two groups at least"):
        class_grouping.fold(one, dict.fromkeys(FIVE, "all"))
    scores = Predictions(one.frame, one.class_names, kind="score")
    with pytest.raises(DarkroomError, match="Only probabilities"):
        class_grouping.fold(scores, {"photo": "photo"}, rest="rest")


def test_five_classes_folded_against_two_paired_on_the_same_images():
    generator = np.random.default_rng(0)
    truth = generator.integers(5, size=1000)
    fine = np.eye(5)[np.where(generator.random(1000) < 0.9, truth, (truth + 1) % 5)]
    binary_truth = (truth != 1).astype(int)  # photo, rest
    binary = np.eye(2)[np.where(generator.random(1000) < 0.8, binary_truth, 1 - binary_truth)]
    many, two = run(truth, fine, FIVE), run(binary_truth, binary, ("photo", "rest"))
    found = class_grouping.compare(
        {0: many}, {0: two}, groups={"photo": "photo"}, rest="rest", names=("five", "two")
    )
    assert found.method == "McNemar, exact"
    assert found.verdict.startswith("These two trained models, five and two, differ: ")
    folded = class_grouping.fold(many, {"photo": "photo"}, rest="rest")
    right = [float((each.predicted == each.truth).mean()) for each in (folded, two)]
    assert found.difference.value == pytest.approx(right[0] - right[1])


def test_only_images_that_both_tested_count():
    exact = np.eye(2)[[0, 1, 0]]
    one = run([0, 1, 0], exact, ("photo", "rest"), paths=["a", "b", "c"], num_train=4)
    other = run([0, 1, 0], exact, ("photo", "rest"), paths=["c", "b", "d"])
    with pytest.raises(DarkroomError, match="two labels"):
        class_grouping.shared(one, run([1, 1, 0], exact, ("photo", "rest"), paths=["c", "b", "d"]))
    cut = class_grouping.shared(one, other)
    assert [list(each.split("test").frame["path"]) for each in cut] == [["b", "c"], ["b", "c"]]
    assert (cut[0].frame["split"] == "train").sum() == 4
    with pytest.raises(DarkroomError, match="no image of test in common"):
        class_grouping.shared(one, run([0], exact[:1], ("photo", "rest"), paths=["z"]))
