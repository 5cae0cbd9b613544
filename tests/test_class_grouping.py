"""Many classes judged as few: probabilities add up, and the folded model is compared on the very
same images.
"""

import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.evaluation import predictions
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
    folded = predictions.fold(one, {"photo": "photo"}, rest="rest")
    assert folded.class_names == ("photo", "rest")
    assert folded.probabilities == pytest.approx(np.array([[0.4, 0.6], [0.6, 0.4]]))
    assert folded.frame["label"].tolist() == ["rest", "photo"]
    assert one.predicted.tolist() == [1, 1]  # photo led, but the rest together is likelier
    assert folded.predicted.tolist() == [1, 0]
    assert folded.data_hash != one.data_hash


def test_what_cannot_be_folded_is_refused():
    one = run([0], np.eye(5)[:1], FIVE)
    with pytest.raises(DarkroomError, match="Without one: painting, schematic, sketch, text"):
        predictions.fold(one, {"photo": "photo"})
    with pytest.raises(DarkroomError, match="Unknown: foto.*Did you mean 'photo'"):
        predictions.fold(one, {"foto": "photo"}, rest="rest")
    with pytest.raises(DarkroomError, match="two groups at least"):
        predictions.fold(one, dict.fromkeys(FIVE, "all"))
    scores = Predictions(one.frame, one.class_names, kind="score")
    with pytest.raises(DarkroomError, match="Only probabilities"):
        predictions.fold(scores, {"photo": "photo"}, rest="rest")
