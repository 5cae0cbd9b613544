"""Backbones of KerasHub from preset folders that are made here, so that nothing is downloaded."""

import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.explain import attribution_methods
from lib.models import build, compilation, losses, predictor, serialization, transfer

keras_hub = pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """A small residual network with an image converter, and a small transformer without."""
    folder = tmp_path_factory.mktemp("presets")
    residual = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    residual.save_to_preset(str(folder / "residual"))
    converter = keras_hub.layers.ResNetImageConverter(scale=1 / 127.5, offset=-1.0)
    converter.save_to_preset(str(folder / "residual"))
    transformer = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        dropout_rate=0.5,
    )
    transformer.save_to_preset(str(folder / "transformer"))
    return folder


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def made(folder, name, **options):
    return build(f"keras_hub:{folder / name}", class_names="abc", image_side=32, **options)


@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_a_preset_folder_learns_is_saved_and_explained(presets, images, tmp_path, name):
    model = made(presets, name)
    frozen = transfer.freeze(model)
    tuned = transfer.unfreeze_top(model, fraction=0.6)
    assert 0 < frozen < tuned <= transfer.unfreeze(model)
    transfer.unfreeze_top(model, fraction=0.6)
    normalizations = (keras.layers.BatchNormalization,)
    assert not any(
        layer.trainable for layer in model._flatten_layers() if isinstance(layer, normalizations)
    )
    compilation.compile_model(model, keras.optimizers.Adam(0.01), losses.loss(model))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.train_on_batch(images, np.array([0, 1, 2, 0]))
    assert not all(map(np.array_equal, before, model.trainable_weights))
    answers = predictor.predict_proba(model, images)
    serialization.save(model, tmp_path / "model.keras", card={})
    loaded = serialization.load(tmp_path / "model.keras")
    np.testing.assert_allclose(predictor.predict_proba(loaded, images), answers, atol=1e-6)
    maps = attribution_methods.explain(model, images[:1], method="integrated_gradients")
    assert maps.shape == (1, 32, 32) and np.abs(maps).max() > 0


def test_its_weights_and_its_scale_of_pixels_come_with_it(presets, images):
    source = keras_hub.models.Backbone.from_preset(str(presets / "residual"))
    expected = np.asarray(source(images / 127.5 - 1.0)).mean(axis=(1, 2))
    model = made(presets, "residual")
    np.testing.assert_allclose(predictor.features(model, images), expected, atol=1e-4)
    stages = made(presets, "residual", feature_maps="stages")
    assert stages.get_layer("pool").output.shape[-1] == 2 * 64


def test_maps_explain_a_network_with_maps_and_are_refused_for_one_without(presets, images):
    assert attribution_methods.explain(made(presets, "residual"), images[:1]).shape == (1, 32, 32)
    with pytest.raises(DarkroomError, match="Grad-CAM needs a layer with maps"):
        attribution_methods.explain(made(presets, "transformer"), images[:1])


def test_what_is_no_image_preset_or_no_side_of_its_own_is_refused(presets, tmp_path):
    with pytest.raises(DarkroomError, match="`image_side` of .* must be 32 px.* Received: 48"):
        build(f"keras_hub:{presets / 'transformer'}", class_names="ab", image_side=48)
    with pytest.raises(DarkroomError, match="could not be loaded .*local preset folder"):
        build(f"keras_hub:{tmp_path}", class_names="ab", image_side=32)
