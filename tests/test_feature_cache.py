import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lib.models import build, feature_cache, predictor

SIDE = 16


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)


def small(**changes):
    return build(
        "custom",
        class_names="ab",
        image_side=SIDE,
        **{"filters": (4,), "pool_after": (), **changes},
    )


def test_features_are_computed_once(tmp_path, images, monkeypatch):
    model, counted = small(), []
    note = lambda done, total: counted.append((done, total))  # noqa: E731
    first = feature_cache.ensure(
        model, images, images_key="nine", folder=tmp_path, batch_size=4, progress=note
    )
    assert counted == [(4, 9), (8, 9), (9, 9)]
    np.testing.assert_array_equal(first, predictor.features(model, images))
    assert isinstance(first, np.memmap) and not first.flags.writeable
    monkeypatch.setattr(predictor, "feature_batches", None)
    np.testing.assert_array_equal(
        feature_cache.ensure(model, images, images_key="nine", folder=tmp_path), first
    )


def test_the_key_follows_what_matters_and_nothing_else():
    model = small()
    key = feature_cache.key(model, images_key="nine")
    model.get_layer("logits").set_weights(
        [weight + 1 for weight in model.get_layer("logits").get_weights()]
    )
    model.get_layer("block1_conv").trainable = False
    assert feature_cache.key(model, images_key="nine") == key
    assert feature_cache.key(model, images_key="ten") != key
    assert feature_cache.key(model, images_key="nine", layer="block1_conv") != key
    twin = small(normalization="symmetric")
    twin.set_weights(model.get_weights())
    assert (
        feature_cache.key(twin, images_key="nine") != key
    )  # the same weights behind another preprocessing
    model.get_layer("block1_conv").set_weights(
        [weight + 1 for weight in model.get_layer("block1_conv").get_weights()]
    )
    assert feature_cache.key(model, images_key="nine") != key


def test_features_too_small_for_half_precision_are_kept_by_a_scale(tmp_path, images):
    model = small()
    conv = model.get_layer("block1_conv")
    weights = conv.get_weights()
    conv.set_weights([weight * 2.0**-40 for weight in weights])
    exact = predictor.features(model, images)
    kept = feature_cache.ensure(model, images, images_key="nine", folder=tmp_path, dtype="float16")
    scale = feature_cache.facts(Path(kept.filename).parent)["scale"]
    assert np.log2(scale) % 1 == 0 and 0.5 <= np.abs(kept).max() <= 2
    np.testing.assert_allclose(
        kept.astype("float32") / scale, exact, rtol=2**-10, atol=2**-14 / scale
    )
    conv.set_weights(weights)
    kept = feature_cache.ensure(model, images, images_key="nine", folder=tmp_path, dtype="float16")
    assert feature_cache.facts(Path(kept.filename).parent)["scale"] == 1


def test_a_damaged_file_is_computed_again(tmp_path, images):
    model = small()
    whole = np.array(feature_cache.ensure(model, images, images_key="nine", folder=tmp_path))
    file = next(tmp_path.glob("pool-*/features.npy"))
    file.write_bytes(file.read_bytes()[:-8])
    np.testing.assert_array_equal(
        feature_cache.ensure(model, images, images_key="nine", folder=tmp_path), whole
    )


def test_two_at_once_compute_once(tmp_path, images, monkeypatch):
    model, computed = small(), []
    inner = predictor.feature_batches

    def counted(*arguments, **options):
        computed.append(1)
        time.sleep(0.3)  # the other one comes meanwhile
        return inner(*arguments, **options)

    monkeypatch.setattr(predictor, "feature_batches", counted)
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(feature_cache.ensure, model, images, images_key="nine", folder=tmp_path)
            for _ in range(2)
        ]
    assert [waiting.result().shape for waiting in both] == [(9, 4), (9, 4)]
    assert len(computed) == 1
