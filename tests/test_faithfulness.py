import keras
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lib.errors import DarkroomError
from lib.explain import explain, faithfulness, heat_maps, plots
from lib.explain.model_wrapper import Batch, NetworkWrapper
from lib.models import build
from lib.models.heads import Head

SIDE = 12


def of_a_square(weight: float = 0.001) -> keras.Model:
    """Class 1 is the sum of the pixels in rows and columns 2 to 4, nothing else."""
    kernel = np.zeros((SIDE, SIDE, 3, 2), np.float32)
    kernel[2:5, 2:5, :, 1] = weight
    layer = Head(["no", "yes"])
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), layer])
    layer.set_weights([kernel.reshape(-1, 2), np.zeros(2, np.float32)])
    return model


@pytest.fixture(scope="module")
def scored():
    return NetworkWrapper(of_a_square())


@pytest.fixture(scope="module")
def white():
    return np.full((2, SIDE, SIDE, 3), 255, np.float32)


YES = np.array([1, 1], np.int32)


def perfect() -> np.ndarray:
    maps = np.zeros((2, SIDE, SIDE), np.float32)
    maps[:, 2:5, 2:5] = 1
    return maps


def test_deletion_of_what_counts_falls_at_once(scored, white):
    whole = 27 * 255 * 0.001  # nine pixels of three channels
    steps = 16  # 144 pixels, so nine at a step
    best = faithfulness.deletion(
        Batch(scored, white, YES), perfect(), steps=steps, cell=1, baseline="black"
    )
    worst = faithfulness.deletion(
        Batch(scored, white, YES), -perfect(), steps=steps, cell=1, baseline="black"
    )
    np.testing.assert_allclose(
        best, whole * 0.5 / 16, rtol=1e-4
    )  # one trapezium from whole to nothing
    np.testing.assert_allclose(worst, whole * 15.5 / 16, rtol=1e-4)
    shown = faithfulness.insertion(
        Batch(scored, white, YES), perfect(), steps=steps, baseline="black"
    )
    np.testing.assert_allclose(shown, worst, rtol=1e-4)


def test_a_true_map_of_single_pixels_is_not_punished_for_its_grain():
    side, edges = (
        56,
        np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)[:, :, None, None] / 3,
    )
    head, contrast = Head(["no", "yes"]), keras.layers.Conv2D(2, 3, activation="relu")
    model = keras.Sequential(
        [keras.Input((side, side, 3)), contrast, keras.layers.GlobalAveragePooling2D(), head]
    )
    contrast.set_weights([np.tile(edges, (1, 1, 3, 1)) * [1, -1], np.zeros(2)])
    head.set_weights(
        [np.array([[0, 1], [0, 1]], np.float32), np.zeros(2)]
    )  # class 1 is contrast, wherever it is
    images = np.broadcast_to(
        np.linspace(100, 150, side, dtype=np.float32)[None, None, :, None], (1, side, side, 3)
    ).copy()
    images[0, 24:32, 24:32] = 255 * (np.add.outer(np.arange(8), np.arange(8)) % 2)[:, :, None]
    smooth = heat_maps.random_maps(images)
    mark = np.zeros_like(smooth)
    mark[0, 24:32, 24:32] = 2
    dust = (
        np.random.default_rng(0).random(smooth.shape).astype(np.float32)
    )  # the order of all other pixels
    asked, yes = NetworkWrapper(model), np.array([1], np.int32)
    grained, smoothed = (
        faithfulness.deletion(Batch(asked, images, yes), mark + rest)[0] for rest in (dust, smooth)
    )
    random = faithfulness.deletion(Batch(asked, images, yes), smooth)[0]
    assert max(grained, smoothed) < 0.5 * random
    by_pixel = faithfulness.deletion(Batch(asked, images, yes), mark + dust, cell=1)[0]
    assert by_pixel > random  # what single pixels would say of a map that is right


def test_mu_fidelity_is_one_for_a_map_that_adds_up(scored, white):
    found = faithfulness.mu_fidelity(
        Batch(scored, white, YES), perfect(), grid=12, baseline="black"
    )
    np.testing.assert_allclose(found, 1, atol=1e-5)
    opposite = faithfulness.mu_fidelity(
        Batch(scored, white, YES), -perfect(), grid=12, baseline="black"
    )
    np.testing.assert_allclose(opposite, -1, atol=1e-5)
    np.testing.assert_array_equal(
        faithfulness.mu_fidelity(Batch(scored, white, YES), 0 * perfect()), 0
    )


def test_the_table_holds_each_method_against_random(scored):
    images = np.random.default_rng(0).integers(0, 60, (6, SIDE, SIDE, 3)).astype(np.float32)
    images[:, 2:5, 2:5] += 180
    target = np.ones(6, np.int32)
    maps = {
        "good": np.repeat(perfect()[:1], 6, axis=0),
        "bad": -np.repeat(perfect()[:1], 6, axis=0),
    }
    table = faithfulness.table(faithfulness.evaluate_all(Batch(scored, images, target), maps))
    assert list(table.index) == ["good", "bad", "random", "edges"]
    assert table.loc["good", "mu_fidelity_low"] > 0 > table.loc["bad", "mu_fidelity_high"]
    assert table.loc["good", "mu_fidelity_share"] == 1
    assert np.isnan(table.loc["random", "deletion_gain"])
    drawing = plots.faithfulness(table, {"good": "Good"}, measure="mu_fidelity")
    assert "Good +" in drawing.alt and "random" not in drawing.alt.split(":")[1]
    with pytest.raises(DarkroomError, match="`maps` must hold maps of the shape \\(6, 12, 12\\)"):
        faithfulness.evaluate_all(Batch(scored, images, target), {"one": maps["good"][0]})


def test_the_interval_is_student_s():
    found = {"random": pd.DataFrame(dict.fromkeys(faithfulness.MEASURES, [0.0, 0.0, 0.0]))}
    found["one"] = pd.DataFrame(dict.fromkeys(faithfulness.MEASURES, [1.0, 2.0, 3.0]))
    row = faithfulness.table(found).loc["one"]
    assert row["insertion_gain"] == 2 and row["deletion_gain"] == -2 and row["deletion_share"] == 0
    assert row["insertion_high"] == pytest.approx(
        2 + 4.302653 / 3**0.5, abs=1e-5
    )  # t with two degrees of freedom


def test_similarity_of_equal_opposite_and_unrelated_maps():
    heat = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    other = np.random.default_rng(1).random((1, 32, 32)).astype(np.float32)
    assert faithfulness.similarity(heat, heat)[0] == pytest.approx(1)
    assert faithfulness.similarity(heat, 3 * heat)[0] == pytest.approx(1)  # scale is no matter
    assert faithfulness.similarity(heat, 1 - heat)[0] < -0.5
    flat = np.stack([np.full((32, 32), value) for value in (1.0, 0.5)])
    halves = faithfulness._ssim(*flat)  # (2·1·0.5 + C1) / (1 + 0.25 + C1), variances are 0
    assert halves == pytest.approx((1 + 1e-4) / (1.25 + 1e-4), abs=1e-6)
    assert abs(faithfulness.similarity(heat, other)[0]) < 0.2


def test_shuffled_weights_are_the_same_numbers_in_another_model():
    model = build(
        "custom", class_names="ab", image_side=SIDE, weights="none", filters=(4, 6), pool_after=(1,)
    )
    before = [weight.copy() for weight in model.get_weights()]
    copy = faithfulness.shuffled(model)
    for first, other, now in zip(before, copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, now)
        np.testing.assert_array_equal(np.sort(first.ravel()), np.sort(other.ravel()))
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    assert (
        faithfulness.randomisation(model, images, method="occlusion", target=[0, 0], patch=2) < 1
    ).all()
    options = {"samples": 12, "segments": 9}
    stable = faithfulness.stability(
        model, images, method="lime", target=[0, 1], seeds=(0, 1), **options
    )
    maps = [
        explain(model, images, method="lime", target=[0, 1], seed=seed, **options)
        for seed in (0, 1)
    ]
    assert stable.shape == (2,) and (stable < 1).all()
    expected = spearmanr(maps[0][0].ravel(), maps[1][0].ravel()).statistic
    assert stable[0] == pytest.approx(expected)
    assert faithfulness.stability(model, images, method="occlusion", target=[0, 1]).tolist() == [
        1,
        1,
    ]


def test_random_maps_and_edges_know_no_model():
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    images[:, :, 6:] = 255
    edges = heat_maps.edge_maps(images)
    assert edges[0, 6, 5] > 0 and edges[0, 6, 2] == 0
    one, other = heat_maps.random_maps(images, seed=0), heat_maps.random_maps(images, seed=1)
    assert not np.array_equal(one, other) and np.array_equal(
        one, heat_maps.random_maps(images, seed=0)
    )


def test_overlays_show_evidence_for_and_leave_the_rest_grey():
    image = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[3:5, 3:5], heat[8:, 8:] = 1, -5
    drawn = plots.overlay(image, heat)
    assert (
        np.ptp(drawn[9, 9]) == 0 and np.ptp(drawn[3, 3]) > 60
    )  # against the class: grey; for it: colour
    np.testing.assert_array_equal(heat_maps.scaled(np.zeros((4, 4))), 0)
    rows = pd.DataFrame(
        {
            "label": ["cat", "dog"],
            "predicted": ["cat", "cat"],
            "confidence": [0.9, 0.6],
            "correct": [True, False],
        }
    )
    maps = {"Grad-CAM": np.stack([heat, heat])}
    drawing = plots.side_by_side(
        np.stack([image, image]), maps, rows, notes={"Grad-CAM": ["one", "two"]}, title="Two"
    )
    assert (
        drawing.alt.startswith("Two: 2 images, 1 predicted correctly") and len(drawing.png()) > 5000
    )
    averages = plots.averages({"cat": maps["Grad-CAM"]}, title="Mean maps")
    assert "cat: top left" in averages.alt and len(averages.png()) > 3000
    assert (
        plots.averages({}, title="Mean maps").alt.endswith("No images.")
        and plots.averages({}, title="Mean maps").png()
    )
