import math

import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import heads, losses


def model(kind="softmax", names=("a", "b", "c"), positive=None):
    features = keras.Input((2,))
    return keras.Model(features, heads.Head(names, kind=kind, positive=positive)(features))


def test_softmax_loss_by_hand():
    loss = losses.loss(model())
    logits = np.zeros((2, 3), np.float32)
    assert float(loss(np.array([0, 2]), logits)) == pytest.approx(math.log(3))
    shares = np.array([[1, 0, 0], [0, 0.5, 0.5]], np.float32)
    assert float(loss(shares, logits)) == pytest.approx(math.log(3))


def test_label_smoothing_by_hand():
    # p = (3/4, 1/8, 1/8); truth 0.8, 0.1, 0.1
    logits = np.log(np.array([[6, 1, 1]], np.float32))
    expected = -(0.8 * math.log(3 / 4) + 0.2 * math.log(1 / 8))
    assert float(losses.loss(model(), label_smoothing=0.3)(np.array([0]), logits)) == pytest.approx(
        expected, rel=1e-5
    )


def test_focal_loss_by_hand():
    logits = np.log(np.array([[6, 1, 1]], np.float32))  # p of the truth is 3/4
    found = float(losses.loss(model(), focal_gamma=2)(np.array([0]), logits))
    assert found == pytest.approx(-(0.25**2) * math.log(0.75), rel=1e-5)


def test_sigmoid_loss_counts_the_positive_class_wherever_it_is():
    logits = np.array([[math.log(3)]], np.float32)  # p of the positive class is 3/4
    first = losses.loss(model("sigmoid", ("photo", "rest"), "photo"))
    second = losses.loss(model("sigmoid", ("other", "photo"), "photo"))
    assert float(first(np.array([0]), logits)) == pytest.approx(-math.log(0.75), rel=1e-5)
    assert float(first(np.array([1]), logits)) == pytest.approx(-math.log(0.25), rel=1e-5)
    assert float(second(np.array([1]), logits)) == pytest.approx(-math.log(0.75), rel=1e-5)
    assert float(second(np.array([[0.0, 1.0]]), logits)) == pytest.approx(-math.log(0.75), rel=1e-5)


def test_multilabel_loss_is_the_mean_over_classes():
    logits = np.array([[0, math.log(3), 0]], np.float32)
    loss = losses.loss(model("multilabel"))
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.5)) / 3
    assert float(loss(np.array([[1, 1, 0]]), logits)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(
        DarkroomError, match="must have the shape \\(n, 3\\), one share a class. Received: \\(1,\\)"
    ):
        loss(np.array([1]), logits)


@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_the_loss_stays_finite_for_absurd_logits(kind):
    truth = np.array([[0.0, 1.0, 0.0]])
    found = float(
        losses.loss(model(kind), focal_gamma=2)(truth, np.array([[1e4, -1e4, 0]], np.float32))
    )
    assert math.isfinite(found) and found > 1000


def test_accuracy_of_each_kind():
    softmax = losses.accuracy(model())
    softmax.update_state(np.array([0, 1]), np.array([[2.0, 1, 0], [2.0, 1, 0]]))
    assert float(softmax.result()) == 0.5
    sigmoid = losses.accuracy(model("sigmoid", ("photo", "rest"), "photo"))
    sigmoid.update_state(
        np.array([0, 0, 1, 1]), np.array([[0.2], [-0.2], [-0.2], [-5.0]])
    )  # logits, so 0 is the threshold
    assert float(sigmoid.result()) == 0.75
    multilabel = losses.accuracy(model("multilabel"))
    multilabel.update_state(np.array([[1, 0, 1]]), np.array([[0.5, 0.5, -0.5]]))
    assert float(multilabel.result()) == pytest.approx(1 / 3)


def test_probabilities_by_hand_and_in_class_order():
    softmax = heads.of(model())
    np.testing.assert_allclose(
        heads.probabilities(softmax, np.log([[6.0, 1, 1]])), [[0.75, 0.125, 0.125]], rtol=1e-6
    )
    logits = np.array([[math.log(3)], [-800.0]])
    photo_first = heads.of(model("sigmoid", ("photo", "rest"), "photo"))
    np.testing.assert_allclose(
        heads.probabilities(photo_first, logits), [[0.75, 0.25], [0, 1]], rtol=1e-6
    )
    photo_last = heads.of(model("sigmoid", ("other", "photo"), "photo"))
    np.testing.assert_allclose(
        heads.probabilities(photo_last, logits), [[0.25, 0.75], [1, 0]], rtol=1e-6
    )


def test_nineteen_classes_can_reach_certainty():
    # A softmax of a softmax would stop at e / (e + 18) = 13.1 %.
    head = heads.of(model(names=[f"class {number:02}" for number in range(19)]))
    logits = np.zeros((1, 19))
    logits[0, 3] = 20
    assert heads.probabilities(head, logits)[0, 3] > 0.9999


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "softmx"}, "Did you mean 'softmax'"),
        ({"names": ("a", "a")}, "two or more names, each once"),
        ({"names": ("a",)}, "two or more names"),
        ({"kind": "sigmoid", "positive": "a"}, "A sigmoid head needs two class names"),
        ({"kind": "sigmoid", "names": ("a", "b")}, "`positive`, one of them"),
        ({"positive": "a"}, "`positive` belongs to head='sigmoid'"),
    ],
)
def test_a_wrong_head_is_refused(wrong, message):
    with pytest.raises(DarkroomError, match=message):
        model(**wrong)


def test_a_second_softmax_cannot_be_expressed():
    with pytest.raises(
        DarkroomError, match="takes no activation; probabilities come from predict_proba"
    ):
        heads.Head(("a", "b"), activation="softmax")


def test_another_model_has_no_head():
    features = keras.Input((2,))
    with pytest.raises(DarkroomError, match="must end in a head with class names.*ends in Dense"):
        heads.of(keras.Model(features, keras.layers.Dense(3, activation="softmax")(features)))


def test_one_against_the_rest_by_hand():
    """Softplus of each logit with the sign of its truth, the mean over three classes: of 2 for the
    true one, of 0 and -1.
    """
    logits = np.array([[2.0, 0.0, -1.0]], np.float32)
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(0.0)) + np.log1p(np.exp(-1.0))) / 3
    assert float(losses.loss(model(), one_vs_rest=True)(np.array([0]), logits)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(
    ("wrong", "message"), [({"label_smoothing": 1}, "below 1"), ({"focal_gamma": -1}, "negative")]
)
def test_wrong_loss_settings_are_refused(wrong, message):
    with pytest.raises(DarkroomError, match=message):
        losses.loss(model(), **wrong)
