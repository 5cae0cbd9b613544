import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import build, preprocessing
from lib.models.backbones import BACKBONES

IMAGE = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3) * 20


@pytest.mark.parametrize(
    ("method", "mode"), [("symmetric", "tf"), ("caffe", "caffe"), ("imagenet", "torch")]
)
def test_methods_are_those_of_keras_applications(method, mode):
    expected = keras.applications.imagenet_utils.preprocess_input(
        IMAGE.astype(np.float32), mode=mode
    )
    found = preprocessing.Preprocess(method)(IMAGE)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-5)


def test_methods_by_hand():
    pixel = np.array([[[[0, 127, 255]]]], np.uint8)
    assert np.asarray(preprocessing.Preprocess("unit")(pixel)).ravel().tolist() == pytest.approx(
        [0, 127 / 255, 1]
    )
    assert np.asarray(preprocessing.Preprocess("lite")(pixel)).ravel().tolist() == [
        -127 / 128,
        0,
        1,
    ]
    assert np.asarray(preprocessing.Preprocess("none")(pixel)).ravel().tolist() == [0, 127, 255]
    zscore = preprocessing.Preprocess("zscore", mean=(0, 120, 255), std=(1, 7, 1))
    assert np.asarray(zscore(pixel)).ravel().tolist() == [0, 1, 0]


def test_it_computes_in_float32_under_every_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("custom", class_names="ab", image_side=16)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("preprocess").compute_dtype == "float32"
    assert model.get_layer("block1_conv").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


def test_every_backbone_names_a_method_of_the_table():
    assert {backbone.normalization for backbone in BACKBONES.values()} <= set(
        preprocessing.NORMALIZATIONS
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"normalization": "units"}, "Did you mean 'unit'"),
        ({"normalization": "zscore"}, "needs `mean` and `std` of the train split"),
        ({"normalization": "zscore", "mean": [1, 2, 3], "std": [0, 1, 1]}, "std above 0"),
        (
            {"mean": [1, 2, 3], "std": [1, 1, 1]},
            "`mean` and `std` belong to normalization='zscore'",
        ),
    ],
)
def test_wrong_normalization_is_refused(wrong, message):
    with pytest.raises(DarkroomError, match=message):
        build("custom", class_names="ab", image_side=16, **wrong)
