import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import build, heads, predictor

SIDE = 16


@pytest.fixture(scope="module")
def model():
    return build(
        "custom",
        class_names=["naïve", "漢字", "🙂"],
        image_side=SIDE,
        filters=(4, 8),
        pool_after=(1,),
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (13, SIDE, SIDE, 3), dtype=np.uint8)


def test_rows_are_probabilities(model, images):
    found = predictor.predict_proba(model, images)
    assert found.shape == (13, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert found.std() > 0


def test_batch_size_type_and_storage_do_not_matter(model, images, tmp_path):
    expected = predictor.predict_proba(model, images)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_allclose(
        predictor.predict_proba(model, mapped, batch_size=5), expected, atol=1e-6
    )
    np.testing.assert_allclose(
        predictor.predict_proba(model, images.astype(np.float32), batch_size=1), expected, atol=1e-6
    )


def test_floats_between_bytes_are_not_cut_to_whole_numbers(model):
    images = np.full((1, SIDE, SIDE, 3), 2.9, np.float32)
    cut = predictor.predict_proba(model, np.floor(images))
    assert np.abs(predictor.predict_proba(model, images) - cut).max() > 0


def test_a_nearly_black_float_image_is_not_taken_for_a_scaled_one(model):
    dark = np.zeros((1, SIDE, SIDE, 3), np.float32)
    dark[0, 0, 0] = 1
    assert predictor.predict_proba(model, dark).shape == (1, 3)


def test_no_images_give_no_rows(model):
    assert predictor.predict_proba(model, np.zeros((0, SIDE, SIDE, 3), np.uint8)).shape == (0, 3)


def test_a_head_that_asks_for_it_averages_an_image_and_its_mirror_image(images):
    model = build("custom", class_names="ab", image_side=SIDE, filters=(4,), average_mirrored=True)
    logits = [
        predictor.features(model, view, layer="logits") for view in (images, images[:, :, ::-1])
    ]
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    expected = heads.probabilities(heads.of(model), (logits[0] + logits[1]) / 2)
    probabilities = predictor.predict_proba(model, images)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(
        predictor.predict_proba(model, images[:, :, ::-1]), probabilities, atol=1e-6
    )
    whole = predictor.averaged(model).predict(images, verbose=0)
    np.testing.assert_allclose(
        heads.probabilities(heads.of(model), whole), probabilities, atol=1e-6
    )


def test_features_of_pool_and_of_maps(model, images):
    pooled = predictor.features(model, images)
    maps = predictor.features(model, images, layer="block2_activation")
    assert pooled.shape == (13, 8) and pooled.dtype == np.float32
    np.testing.assert_allclose(maps, pooled, atol=1e-5)  # pool is the mean of these maps
    assert predictor.features(model, images, dtype="float16").dtype == np.float16
    assert predictor.features(model, images, layer="block1_conv").shape == (13, 4)


def test_features_follow_the_weights(images):
    model = build("custom", class_names="ab", image_side=SIDE, filters=(4,), pool_after=())
    before = predictor.features(model, images)
    layer = model.get_layer("block1_conv")
    layer.set_weights([weight * 2 for weight in layer.get_weights()])
    assert not np.allclose(before, predictor.features(model, images))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            np.zeros((1, 8, 8, 3), np.uint8),
            "of the shape \\(n, 16, 16, 3\\). Received: \\(1, 8, 8, 3\\)",
        ),
        (np.zeros((1, SIDE, SIDE), np.uint8), "must be an RGB array"),
        (np.zeros((1, SIDE, SIDE, 4), np.uint8), "must be an RGB array"),
        ([[1]], "Received: list"),
        (
            np.zeros((1, SIDE, SIDE, 3), np.int64),
            "must be uint8, or float of 0 to 255. Received: int64",
        ),
        (np.full((1, SIDE, SIDE, 3), 256.0), "must lie between 0 and 255. Received: 256 to 256"),
        (np.full((1, SIDE, SIDE, 3), np.nan), "must lie between 0 and 255"),
        (np.full((1, SIDE, SIDE, 3), 0.5), "which looks scaled to 0 to 1 already"),
    ],
)
def test_other_images_are_refused(model, wrong, message):
    with pytest.raises(DarkroomError, match=message):
        predictor.predict_proba(model, wrong)


def test_other_requests_are_refused(model, images):
    with pytest.raises(DarkroomError, match="`layer` must name a layer.*Did you mean 'pool'"):
        predictor.features(model, images, layer="pol")
    with pytest.raises(DarkroomError, match="'float32' or 'float16'. Received: 'int8'"):
        predictor.features(model, images, dtype="int8")
    with pytest.raises(DarkroomError, match="`batch_size` must be at least 1"):
        predictor.predict_proba(model, images, batch_size=0)
