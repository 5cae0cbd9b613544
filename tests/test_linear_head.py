import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import linear_head
from lib.training import plots

KINDS = tuple(linear_head.KINDS)


def clouds(n, *, seed, apart=3.0):
    """Three classes of unequal size, two useful features and six of noise on other scales."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 6 % 4 % 3
    centres = apart * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    useful = centres[labels] + rng.normal(size=(n, 2))
    noise = rng.normal(size=(n, 6)) * np.array([1e-3, 1, 10, 100, 1, 1])
    return np.hstack([useful, noise]).astype(np.float32), labels


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_tells_clouds_apart_and_is_calibrated(kind):
    train, val, test = (clouds(240, seed=seed, apart=4.0) for seed in range(3))
    head, table = linear_head.select(train, val, num_classes=3, kinds=(kind,))
    logits = head.logits(test[0])
    assert (logits.argmax(axis=1) == test[1]).mean() > 0.9
    assert linear_head.temperature(head.logits(val[0]), val[1]) == pytest.approx(1, abs=0.02)
    assert set(table["kind"]) == {kind} and table["val_loss"].min() == pytest.approx(
        linear_head.log_loss(head.logits(val[0]), val[1]), abs=1e-5
    )


def test_the_smallest_validation_loss_wins_over_all_kinds():
    train, val = clouds(120, seed=0, apart=2.0), clouds(120, seed=1, apart=2.0)
    head, table = linear_head.select(train, val, num_classes=3)
    best = table.loc[table["val_loss"].idxmin()]
    assert (head.kind, head.strength) == (best["kind"], best["strength"])
    assert list(dict.fromkeys(table["kind"])) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_refitted_on_the_same_images_it_is_the_same(kind):
    train, val = clouds(120, seed=0), clouds(120, seed=1)
    head, _ = linear_head.select(train, val, num_classes=3, kinds=(kind,))
    again = linear_head.refit(head, *train, num_classes=3)
    difference = np.abs(again.logits(val[0]) - head.logits(val[0])).max()
    assert difference < (1e-3 if kind == "lda" else 1.0)  # the others start from another strength
    assert again.temperature == head.temperature


def test_two_points_of_each_class_put_the_boundary_half_way():
    features = np.array([[-3.0], [-1.0], [1.0], [3.0]], np.float32)
    labels = np.array([0, 0, 1, 1])
    head, _ = linear_head.select(
        (features, labels), (features, labels), num_classes=2, kinds=("lda",)
    )
    low, high = head.logits(np.array([[0.0]], np.float32))[0]
    assert low == pytest.approx(high, abs=1e-5)


def test_balanced_gives_a_rare_class_its_place():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (190, 1)), rng.normal(2, 1, (10, 1))]).astype("f4")
    labels = np.repeat([0, 1], [190, 10])
    shares = {}
    for balanced in (False, True):
        head, _ = linear_head.select(
            (features, labels), (features, labels), num_classes=2, kinds=("lda",), balanced=balanced
        )
        shares[balanced] = (head.logits(features).argmax(axis=1) == 1).mean()
    assert shares[True] > 2 * shares[False]


def test_unknown_kinds_and_missing_classes_are_refused():
    train = clouds(30, seed=0)
    with pytest.raises(DarkroomError, match="one of lda, logistic, svm. Received: 'lad'.*'lda'"):
        linear_head.select(train, train, num_classes=3, kinds=("lad",))
    with pytest.raises(DarkroomError, match="no image of class number 3"):
        linear_head.select(train, train, num_classes=4)


def test_every_kind_has_its_name_in_the_figure():
    assert set(plots.LINEAR_HEADS) == set(linear_head.KINDS)
