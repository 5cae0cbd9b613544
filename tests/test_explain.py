"""Maps whose values one can compute, on models of every build; both backends give the same ones."""

import itertools
import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.explain import METHODS, attribution_methods, explain, heat_maps
from lib.explain.model_wrapper import NetworkWrapper
from lib.models import build
from lib.models.heads import Head

SIDE = 16
QUICK = {
    "rise": {"samples": 64},
    "lime": {"samples": 64, "segments": 9},
    "kernel_shap": {"samples": 64, "segments": 9},
}


def weighted(weights: np.ndarray) -> keras.Model:
    """Scores of three classes: class 1 is the sum of the pixels times `weights` (side, side), over
    all channels.
    """
    kernel = np.zeros((SIDE, SIDE, 3, 3), np.float32)
    kernel[..., 1] = weights[..., None]
    layer = Head(["a", "b", "c"])
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), layer])
    layer.set_weights([kernel.reshape(-1, 3), np.zeros(3, np.float32)])
    return model


def several_builds() -> dict[str, keras.Model]:
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(6, 3, activation="relu", name="inside"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
        ]
    )
    images = keras.Input((SIDE, SIDE, 3))
    pooled = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(inner(images)))
    flat = keras.layers.Flatten()(inner(images))
    one = [keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    return {
        "custom": build(
            "custom",
            class_names="abc",
            image_side=SIDE,
            weights="none",
            filters=(4, 8),
            pool_after=(1,),
        ),
        "nested": keras.Model(images, keras.layers.Dense(4, activation="softmax")(pooled)),
        "sequential": keras.Sequential([keras.Input((SIDE, SIDE, 3)), inner, *one]),
        "separate_softmax": keras.Model(
            images, keras.layers.Softmax()(keras.layers.Dense(3)(flat))
        ),
    }


@pytest.fixture(scope="module")
def models():
    return several_builds()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["custom", "nested", "sequential", "separate_softmax"])
def test_every_method_explains_every_build(models, images, name, method):
    first = explain(models[name], images, method=method, **QUICK.get(method, {}))
    assert first.shape == (3, SIDE, SIDE) and first.dtype == np.float32 and np.isfinite(first).all()
    alone = explain(models[name], images[1:2], method=method, **QUICK.get(method, {}))
    np.testing.assert_allclose(
        alone[0], first[1], atol=1e-5 * np.abs(first[1]).max() + 1e-9
    )  # no matter what it came with
    assert method in ("gradcam", "gradcam_plus_plus") or first.std() > 0


def test_a_linear_model_is_explained_exactly(images):
    weights = np.zeros((SIDE, SIDE), np.float32)
    weights[4:8, 4:8], weights[10:12, 10:12] = 0.01, -0.02
    model, pixels = weighted(weights), images.astype(np.float32)
    exact = weights * (pixels - 127.5).sum(axis=-1)  # what each pixel adds, seen instead of grey
    wanted = {"target": "b", "baseline": "grey"}
    found = explain(model, images, method="integrated_gradients", steps=2, **wanted)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    hidden = explain(model, images, method="occlusion", patch=2, **wanted)
    blocks = exact.reshape(3, 8, 2, 8, 2).sum(
        axis=(2, 4)
    )  # a patch of four pixels takes what the four add
    np.testing.assert_allclose(hidden, np.kron(blocks, np.ones((2, 2))), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        explain(model, images, method="smoothgrad", **wanted), exact, rtol=1e-4, atol=1e-4
    )
    sensitive = explain(model, images, method="smoothgrad", target="b", times_input=False)
    np.testing.assert_allclose(sensitive, np.abs(weights)[None].repeat(3, 0), atol=1e-6)
    pieces = attribution_methods.superpixels(pixels[0], num=4)
    shap = explain(model, images[:1], method="kernel_shap", segments=4, samples=64, **wanted)[0]
    for piece in range(pieces.max() + 1):
        assert shap[pieces == piece].sum() == pytest.approx(
            exact[0][pieces == piece].sum(), rel=1e-3, abs=1e-2
        )


def test_integrated_gradients_and_shap_sum_to_the_change_of_the_score(models, images):
    scored = NetworkWrapper(models["custom"])
    targets = scored.targets(images, None)
    for method, fill in (("integrated_gradients", "blur"), ("kernel_shap", "mean")):
        change = scored.scores(images, targets) - scored.scores(
            heat_maps.fill(images, fill), targets
        )
        sums = explain(models["custom"], images, method=method).sum(axis=(1, 2))
        np.testing.assert_allclose(sums, change, rtol=0.03, atol=2e-3)


def test_gradcam_is_the_weighted_sum_of_maps_by_hand():
    images = keras.Input((SIDE, SIDE, 3))
    maps = keras.layers.Conv2D(2, 1, use_bias=False, name="maps")(images)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(images, Head(["a", "b"], name="head")(pooled))
    model.get_layer("maps").set_weights(
        [np.array([[1, 0], [0, 1], [0, 0]], np.float32)[None, None]]
    )
    model.get_layer("head").set_weights(
        [np.array([[2, 0], [-1, 0]], np.float32), np.zeros(2, np.float32)]
    )
    picture = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8)
    red, green = (
        picture[0, ..., 0] / 256,
        picture[0, ..., 1] / 256,
    )  # the pool's gradient is 1 / 256 everywhere
    found = explain(model, picture, target="a")[0]
    np.testing.assert_allclose(found, np.maximum(2.0 * red - green, 0), atol=1e-5)
    plus = explain(model, picture, target="a", method="gradcam_plus_plus")[0]
    assert (plus[red > 0] >= 0).all() and np.corrcoef(plus.ravel(), red.ravel())[
        0, 1
    ] > 0.999  # no weight for the green map


def test_a_layer_inside_a_nested_model_is_found_by_name(models, images):
    inside = explain(models["nested"], images, layer="inside")
    assert not np.allclose(inside, explain(models["nested"], images))
    assert attribution_methods.find_layer(models["nested"]).__class__.__name__ == "Conv2D"
    with pytest.raises(DarkroomError, match="Did you mean 'inside'"):
        explain(models["nested"], images, layer="insid")
    with pytest.raises(DarkroomError, match="has no feature maps"):
        explain(models["custom"], images, layer="logits")
    with pytest.raises(DarkroomError, match="needs a layer with maps of at least 2 x 2"):
        explain(weighted(np.zeros((SIDE, SIDE), np.float32)), images)


def test_tapping_leaves_the_model_as_it_was(models, images):
    model = models["nested"]
    before = model.predict_on_batch(images.astype(np.float32))
    explain(model, images)
    assert "call" not in vars(attribution_methods.find_layer(model))
    assert model.layers[-1].activation is keras.activations.softmax
    np.testing.assert_array_equal(model.predict_on_batch(images.astype(np.float32)), before)


def test_the_maps_follow_changed_weights_without_a_new_build(images):
    model = build(
        "custom", class_names="ab", image_side=SIDE, weights="none", filters=(4,), pool_after=()
    )
    before = explain(model, images, method="integrated_gradients", target=0)
    head = model.get_layer("logits")
    head.set_weights([weight * 2 for weight in head.get_weights()])
    after = explain(model, images, method="integrated_gradients", target=0)
    np.testing.assert_allclose(after, 2 * before, rtol=1e-3, atol=1e-6)


def test_a_sigmoid_head_speaks_for_both_of_its_classes(images):
    model = build(
        "custom",
        class_names=["no", "yes"],
        head="sigmoid",
        positive="yes",
        image_side=SIDE,
        weights="none",
        filters=(4,),
        pool_after=(),
    )
    yes = explain(model, images, method="occlusion", target="yes")
    np.testing.assert_allclose(
        explain(model, images, method="occlusion", target="no"), -yes, atol=1e-6
    )
    assert set(NetworkWrapper(model).targets(images, None)) <= {0, 1}


def test_scores_of_one_class_in_three_currencies():
    logits = np.array([[1.0, 2.0, 0.0]], np.float32)
    model = weighted(np.zeros((SIDE, SIDE), np.float32))
    model.layers[-1].set_weights([np.zeros((SIDE * SIDE * 3, 3), np.float32), logits[0]])
    black, target = np.zeros((1, SIDE, SIDE, 3), np.float32), np.array([1], np.int32)
    share = math.exp(2) / (math.exp(1) + math.exp(2) + 1)
    expected = {"logit": 2.0, "log_odds": math.log(share / (1 - share)), "probability": share}
    for score, value in expected.items():
        assert NetworkWrapper(model, score).scores(black, target)[0] == pytest.approx(
            value, rel=1e-5
        )


def test_shapley_values_equal_the_sum_over_all_orders():
    rng = np.random.default_rng(3)
    game = {
        subset: rng.random()
        for size in range(5)
        for subset in itertools.combinations(range(4), size)
    }
    seen = attribution_methods.subsets(4, samples=16, seed=0)
    assert len(np.unique(seen, axis=0)) == 16
    found = attribution_methods.shapley(
        seen, np.array([game[tuple(np.flatnonzero(row))] for row in seen])
    )
    orders = list(itertools.permutations(range(4)))
    for player in range(4):
        gains = []
        for order in orders:
            before = tuple(sorted(order[: order.index(player)]))
            gains.append(game[tuple(sorted((*before, player)))] - game[before])
        assert found[player] == pytest.approx(np.mean(gains), abs=1e-9)


def test_sampled_subsets_come_in_pairs_with_their_complement():
    seen = attribution_methods.subsets(12, samples=42, seed=0)
    assert not seen[0].any() and seen[1].all() and len(seen) == 42
    np.testing.assert_array_equal(seen[2:22], ~seen[22:])


def test_patches_cover_every_pixel_to_the_edge():
    hidden = attribution_methods.patches((10, 10), patch=4, stride=4)
    assert len(hidden) == 9 and hidden.any(axis=0).all() and (hidden.sum(axis=(1, 2)) == 16).all()
    with pytest.raises(
        DarkroomError, match="`patch` must be 1 to 10 pixels and `stride` 1 to the patch"
    ):
        attribution_methods.patches((10, 12), patch=4, stride=5)


def test_segments_follow_a_border_of_colour():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 13:] = 255
    pieces = attribution_methods.superpixels(picture, num=16)
    assert not set(pieces[:, :13].ravel()) & set(pieces[:, 13:].ravel())
    assert sorted(np.unique(pieces)) == list(range(pieces.max() + 1))


def test_seeds_repeat_and_differ(models, images):
    for method, each in METHODS.items():
        options = QUICK.get(method, {})
        first, again, other = (
            explain(models["custom"], images[:1], method=method, seed=seed, **options)
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert each.seeded == (not np.array_equal(first, other)), method


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"method": "grad_cam"}, "Did you mean 'gradcam'"),
        (
            {"method": "rise", "patch": 3},
            "rise: `option` must be one of samples, grid, visible, baseline. Received: 'patch'",
        ),
        ({"target": "d"}, "`target` must be a class name or its number: a, b, c. Received: 'd'"),
        ({"target": 3}, "Received: 3"),
        ({"target": [0, 1]}, "one for each of 3 images. Received 2"),
        ({"score": "loss"}, "`score` must be one of logit, log_odds, probability"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        (
            {"method": "occlusion", "baseline": "white"},
            "`baseline` must be one of mean, blur, grey, black",
        ),
    ],
)
def test_other_requests_are_refused(models, images, wishes, message):
    with pytest.raises(DarkroomError, match=message):
        explain(models["custom"], images, **wishes)
    with pytest.raises(
        DarkroomError, match="of the shape \\(n, 16, 16, 3\\). Received: \\(3, 16, 16\\)"
    ):
        explain(models["custom"], images[..., 0])


_OTHER_BACKEND = """
import os, sys, numpy as np
if os.environ["KERAS_BACKEND"] == "jax":
    import importlib.abc
    class Gone(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.split(".")[0] == "tensorflow":
                raise ImportError("as if it were not installed")
    sys.meta_path.insert(0, Gone())
from tests import test_explain as here
from lib.explain import METHODS, explain
folder = sys.argv[1]
images, found = np.load(folder + "/images.npy"), {}
models = here.several_builds()
for name in ("custom", "nested"):
    models[name].set_weights(list(np.load(f"{folder}/{name}.npz").values()))
    for method in METHODS:
        found[f"{name} {method}"] = explain(models[name], images, method=method, target=1, **here.QUICK.get(method, {}))
np.savez(folder + "/found.npz", **found)
"""


def test_the_other_backend_gives_the_same_maps(models, images, tmp_path):
    pytest.importorskip("jax")
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    np.save(tmp_path / "images.npy", images)
    for name in ("custom", "nested"):
        np.savez(tmp_path / f"{name}.npz", *models[name].get_weights())
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_BACKEND, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": other},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for key, theirs in np.load(tmp_path / "found.npz").items():
        name, method = key.split()
        ours = explain(models[name], images, method=method, target=1, **QUICK.get(method, {}))
        if ours.std() or theirs.std():
            assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999, key


class Thumbnail:
    """A black box of 6 x 9 pixels that is sure of class 1 by how bright the pixel in row 2, column
    7 is.
    """

    class_names, size, kind = ("dark", "bright"), (6, 9), "mine"

    def predict_proba(self, images):
        assert images.dtype == np.uint8
        share = 0.05 + 0.9 * images[:, 2, 7].mean(axis=-1) / 255
        return np.stack([1 - share, share], axis=1).astype(np.float32)


def test_a_black_box_that_is_not_square_is_explained_by_hiding():
    images = np.zeros((2, 6, 9, 3), np.uint8)
    images[:, 2, 7] = 255
    for method, options in {
        "occlusion": {"patch": 1},
        "rise": {},
        "lime": {},
        "kernel_shap": {"samples": 600},
    }.items():
        heat = explain(Thumbnail(), images, method=method, target="bright", **options)
        assert heat.shape == (2, 6, 9)
        assert heat[0, 2, 7] == heat[0].max() > 0, method
    exact = explain(
        Thumbnail(), images, method="occlusion", patch=1, baseline="black", score="probability"
    )
    assert exact[0, 2, 7] == pytest.approx(0.9) and np.count_nonzero(np.abs(exact[0]) > 1e-6) == 1
    with pytest.raises(
        DarkroomError, match="has no gradients. Use occlusion, rise, lime or kernel_shap"
    ):
        explain(Thumbnail(), images)
