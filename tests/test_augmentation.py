import numpy as np
import pytest

from lib.data import augmentation
from lib.data.augmentation import Policy
from lib.errors import DarkroomError

# One row of draws that changes nothing: flips not taken, no quarter turn, every range at its middle.
STILL = np.array([[0.9, 0.9, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])


def numbered(height: int = 4, width: int = 4) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(1, height, width, 3)


def test_the_middle_of_every_range_leaves_the_image_as_it_is():
    everything = Policy(True, True, True, rotation=30, zoom=0.2, shift=0.1, brightness=0.2, contrast=0.2)
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
    lighter = augmentation.augment(np.full((1, 2, 2, 3), 100, np.uint8), Policy(brightness=0.2), drawn)
    assert (lighter == 151).all()  # 100 + 0.2 · 255


def test_draws_depend_on_seed_and_epoch_only():
    first = augmentation.draws(5, seed=3, epoch=2)
    assert np.array_equal(first, augmentation.draws(5, seed=3, epoch=2))
    assert not np.array_equal(first, augmentation.draws(5, seed=3, epoch=3))
    assert not np.array_equal(first, augmentation.draws(5, seed=4, epoch=2))


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(DarkroomError, match="flip_bot.*Did you mean 'flip_both'"):
        augmentation.policy("flip_bot")
