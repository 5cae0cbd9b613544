import numpy as np
import pytest

from lib.data import augmentation
from lib.data.augmentation import Policy
from lib.errors import DarkroomError

# One row of draws that changes nothing: flips not taken, no quarter turn, every range at its
# middle, nothing cut off.
STILL = np.array([[0.9, 0.9, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5]])


def numbered(height: int = 4, width: int = 4) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(1, height, width, 3)


def test_the_middle_of_every_range_leaves_the_image_as_it_is():
    everything = Policy(
        True, True, True, rotation=30, zoom=0.2, shift=0.1, brightness=0.2, contrast=0.2
    )
    assert np.array_equal(augmentation.augment(numbered(), everything, STILL), numbered())


def test_a_mirror_swaps_the_columns_exactly():
    drawn = STILL.copy()
    drawn[0, 0] = 0.1
    mirrored = augmentation.augment(numbered(), Policy(flip_horizontal=True), drawn)
    assert np.array_equal(mirrored, numbered()[:, :, ::-1])


def test_a_quarter_turn_is_exact():
    drawn = STILL.copy()
    drawn[0, 2] = 0.25
    turned = augmentation.augment(numbered(), Policy(quarter_turns=True), drawn)
    # A turn by 90 degrees with the y axis downwards runs clockwise.
    assert np.array_equal(turned[0], np.rot90(numbered()[0], k=-1))


def test_a_shift_moves_by_a_share_of_the_side():
    drawn = STILL.copy()
    drawn[0, 5] = 0.999999999  # nearly +1: half of four pixels to the right
    moved = augmentation.augment(numbered(), Policy(shift=0.5), drawn)
    assert np.array_equal(moved[0, :, 2:], numbered()[0, :, :2])


def test_brightness_adds_its_share_of_the_range():
    drawn = STILL.copy()
    drawn[0, 7] = 1.0
    lighter = augmentation.augment(
        np.full((1, 2, 2, 3), 100, np.uint8), Policy(brightness=0.2), drawn
    )
    assert (lighter == 151).all()  # 100 + 0.2 · 255


def test_a_cut_takes_a_part_and_stretches_it():
    drawn = STILL.copy()
    drawn[0, 9:] = [1.0, 1.0, 0.0]  # half of the side is kept, from the right end and the top
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, :4, 4:] = 200
    cut = augmentation.augment(image, Policy(crop=0.5), drawn)
    assert (cut[0, :7, 1:] == 200).all()  # the border is blended with what was next to it


def test_draws_depend_on_seed_and_epoch_only():
    first = augmentation.draws(5, seed=3, epoch=2)
    assert np.array_equal(first, augmentation.draws(5, seed=3, epoch=2))
    assert not np.array_equal(first, augmentation.draws(5, seed=3, epoch=3))
    assert not np.array_equal(first, augmentation.draws(5, seed=4, epoch=2))


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(DarkroomError, match="flip_bot.*Did you mean 'flip_both'"):
        augmentation.policy("flip_bot")


FLAT = np.full((4, 4, 3), 100, np.uint8)


@pytest.mark.parametrize(
    ("operation", "signed", "expected"),
    [
        ("invert", 1.0, 155),
        ("solarize", 0.5, 100),  # levels from 128 on are inverted
        ("solarize", 0.7, 155),  # from 76.8 on
        ("posterize", 1.0, 96),  # four bits are left of 0b1100100
        ("brightness", 1.0, 190),  # 100 · 1.9
        ("brightness", -1.0, 10),
        ("contrast", -1.0, 100),  # a flat picture is its own mean
        ("colour", 1.0, 100),  # and grey has no colour
        ("sharpness", 1.0, 100),
        ("rotate", 1.0, 100),
        ("auto_contrast", 1.0, 100),
        ("equalize", 1.0, 100),
        ("identity", 1.0, 100),
    ],
)
def test_operations_by_hand(operation, signed, expected):
    assert (augmentation.apply(FLAT, [(operation, signed)]) == expected).all()


def test_equalising_spreads_levels_and_stretching_takes_the_whole_range():
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., :] = np.array([[10, 20], [30, 40]])[..., None]
    # a quarter of the pixels each; below lie 0, 1, 2, 3 of the 3 that are not at the highest level
    assert augmentation.apply(image, [("equalize", 1.0)])[..., 0].tolist() == [
        [0, 85],
        [170, 255],
    ]
    assert augmentation.apply(image, [("auto_contrast", 1.0)])[..., 0].tolist() == [
        [0, 85],
        [170, 255],
    ]


def test_randaugment_draws_two_operations_and_autoaugment_one_of_its_pairs():
    assert len(augmentation.OPERATIONS) == 14
    row = np.array([0.0, 0.0, 0.99, 0.0, 0.99, 0.0, 0.9])
    assert augmentation.operations(augmentation.RandAugment(strength=5), row) == [
        ("shear_x", -0.5),
        ("identity", 0.5),
    ]
    # the first pair: posterize with 0.4, which 0.0 is below; rotate with 0.6, which 0.99 is not
    assert augmentation.operations(augmentation.AutoAugment(), row) == [("posterize", -0.8)]


@pytest.mark.parametrize("name", augmentation.POLICIES)
def test_every_policy_keeps_shape_and_kind_and_changes_something(name):
    images = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), np.uint8)
    policy = augmentation.policy(name)
    if policy is None:
        return
    changed = augmentation.augment(images, policy, augmentation.draws(20, seed=0, epoch=0))
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert not np.array_equal(changed, images)


def test_mixup_by_hand():
    images = np.stack([np.full((2, 2, 3), 0, np.uint8), np.full((2, 2, 3), 200, np.uint8)])
    mixed, truth, own = augmentation.mix(
        images, np.eye(2, dtype=np.float32), "mixup", np.array([[0.75, 0, 0], [0.5, 0, 0]])
    )
    assert mixed[:, 0, 0, 0].tolist() == [50, 100]
    assert truth.tolist() == [[0.75, 0.25], [0.5, 0.5]]
    assert own.tolist() == [0.75, 0.5]


def test_cutmix_by_hand():
    images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 9, np.uint8)])
    # a quarter of the area about the middle: 2 x 2 pixels; the second about the corner: only a
    # quarter of it is left
    drawn = np.array([[0.75, 0.5, 0.5], [0.75, 0.0, 0.0]])
    mixed, truth, _ = augmentation.mix(images, np.eye(2, dtype=np.float32), "cutmix", drawn)
    assert mixed[0, ..., 0].tolist() == [[0, 0, 0, 0], [0, 9, 9, 0], [0, 9, 9, 0], [0, 0, 0, 0]]
    assert truth[0].tolist() == [0.75, 0.25]
    assert truth[1].tolist() == [1 / 16, 15 / 16]
    assert mixed[1, 0, 0, 0] == 0 and mixed[1, 1, 1, 0] == 9


def test_an_unknown_mix_is_refused():
    with pytest.raises(DarkroomError, match="Did you mean 'mixup'"):
        augmentation.check_mix("mixupp")


@pytest.mark.parametrize("name", ["gentle", "rand_augment"])
def test_threads_change_nothing(name, monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (70, 8, 8, 3), np.uint8)
    given = images, augmentation.policy(name), augmentation.draws(70, seed=0, epoch=0)
    monkeypatch.setattr(augmentation.os, "cpu_count", lambda: 1)
    alone = augmentation.augment(*given)
    monkeypatch.setattr(augmentation.os, "cpu_count", lambda: 5)
    assert np.array_equal(augmentation.augment(*given), alone)
