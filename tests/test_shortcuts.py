import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.explain import faithfulness
from lib.models.heads import Head
from tools.synthetic import marks

SIDE = 32


def looks_at(rows: slice, columns: slice, *, colour: tuple[float, float, float]) -> keras.Model:
    """Class "marked" where the pixels there have the colour's direction, else "plain"; nothing else
    is looked at.
    """
    kernel = np.zeros((SIDE, SIDE, 3, 2), np.float32)
    kernel[rows, columns, :, 1] = np.array(colour) / 100
    layer = Head(["plain", "marked"])
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), layer])
    layer.set_weights([kernel.reshape(-1, 2), np.array([0, -6], np.float32)])
    return model


def two_classes(mark: str) -> tuple[np.ndarray, np.ndarray]:
    plain, marked = (
        marks.pictures(20, side=SIDE, seed=0),
        marks.pictures(20, side=SIDE, seed=1, mark=mark),
    )
    return np.concatenate([plain.images, marked.images]), np.repeat([0, 1], 20)


def test_a_model_that_looks_at_the_corner_is_found_out():
    images, classes = two_classes("corner")
    # The mark is magenta and yellow: red stands above the mean of green and blue there, and hardly
    # anywhere else.
    found = faithfulness.detect_shortcuts(
        looks_at(slice(28, 32), slice(28, 32), colour=(1, -0.5, -0.5)), images, classes
    )
    by_region = found[found["class"] == "marked"].set_index("region")
    assert (
        by_region.loc["bottom right corner", "suspected"]
        and by_region.loc["bottom right corner", "evidence"] > 0.5
    )
    assert by_region.loc["bottom right corner", "turned"] > 0.9
    assert not by_region.loc[
        ["top left corner", "top right corner", "bottom left corner"], "suspected"
    ].any()
    assert "bottom right corner (2 % of the pixels)" in faithfulness.shortcuts_sentence(found)


def test_an_honest_model_is_not_accused():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (40, SIDE, SIDE, 3)).astype(np.float32)
    images[20:] += rng.uniform(80, 120, (20, 1, 1, 1))  # the whole picture is brighter
    kernel = np.full((SIDE * SIDE * 3, 2), 0.0, np.float32)
    kernel[:, 1] = 1 / SIDE**2
    layer = Head(["dark", "bright"])
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), layer])
    layer.set_weights([kernel, np.array([180, 0], np.float32)])
    found = faithfulness.detect_shortcuts(model, images, np.repeat([0, 1], 20))
    assert not found["suspected"].any() and len(found) == 2 * 7
    assert faithfulness.shortcuts_sentence(found).startswith(
        "No shortcut found: at most 0 % of transplants"
    )


def test_too_little_to_compare_is_reported():
    images, classes = two_classes("corner")
    model = looks_at(slice(28, 32), slice(28, 32), colour=(1, -0.5, -0.5))
    found = faithfulness.detect_shortcuts(model, images, 0 * classes)
    assert found.empty and faithfulness.shortcuts_sentence(found).startswith(
        "Not judged: fewer than two classes"
    )


def test_marks_are_where_they_are_reported_to_lie():
    drawn = marks.pictures(8, side=64, seed=3, mark="anywhere")
    again = marks.pictures(8, side=64, seed=3, mark="anywhere")
    np.testing.assert_array_equal(drawn.images, again.images)
    assert (drawn.inside.sum(axis=(1, 2)) == 64).all() and len(
        {int(each.argmax()) for each in drawn.inside}
    ) > 4
    colours = {tuple(pixel) for pixel in drawn.images[drawn.inside]}
    assert colours == {(250, 30, 200), (250, 240, 40)}
    corner = marks.pictures(1, side=64, seed=3, mark="corner").inside[0]
    assert corner[56:, 56:].all() and corner.sum() == 64
    with pytest.raises(
        DarkroomError, match="`mark` one of corner, border, anywhere, or None; `ground`"
    ):
        marks.pictures(1, side=64, seed=0, mark="centre")
