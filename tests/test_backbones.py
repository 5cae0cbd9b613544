import json
import os
import re
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from lib import cli
from lib.errors import DarkroomError
from lib.models import backbones, build, keras_hub_backbones, predictor, pretrained_weights, timing


@pytest.mark.parametrize(
    "architecture",
    [
        "resnet50v2",
        "resnet18",
        "mobilenet_v2",
        "efficientnetv2_b0",
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "densenet121",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "convnext_tiny",
    ],
)
def test_the_table_tells_the_truth(architecture):
    backbone = backbones.BACKBONES[architecture]
    model = build(architecture, class_names="ab", image_side=32, weights="none")
    maps = pretrained_weights.last_maps(model)
    assert keras.Model(model.inputs, maps).count_params() == backbone.num_parameters
    assert maps.shape[1:3] == (1, 1)  # halved five times
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert not nested or architecture == "convnext_tiny"  # one graph
    assert model.get_layer("preprocess").method == backbone.normalization


def test_joined_backbones_give_the_features_of_each():
    names = ("mobilenet", "efficientnet_lite0")
    joined = build("+".join(names), class_names="ab", image_side=32, weights="none")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    together = predictor.features(joined, images)
    assert together.shape == (2, 1024 + 1280)
    single = build("efficientnet_lite0", class_names="ab", image_side=32)
    for layer in single.layers:
        if layer.weights and layer.name != "logits":
            joined.get_layer(f"efficientnet_lite0_{layer.name}").set_weights(layer.get_weights())
    again = predictor.features(joined, images)
    np.testing.assert_allclose(again[:, 1024:], predictor.features(single, images), atol=1e-4)
    with pytest.raises(DarkroomError, match="Each backbone is joined once"):
        build("mobilenet+mobilenet", class_names="ab", image_side=32)


def test_every_named_class_exists_in_keras():
    for backbone in backbones.BACKBONES.values():
        assert backbone.build is not None or hasattr(keras.applications, backbone.title)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"architecture": "resnet101v2", "image_side": 16},
            "`image_side` must be at least 32 px for ResNet101V2. "
            "Received: 16. "
            "Use architecture='custom' or a larger side.",
        ),
        (
            {"architecture": "inception_v3", "image_side": 74},
            "`image_side` must be at least 75 px for InceptionV3",
        ),
        (
            {"architecture": "resnet_101"},
            "must be one of custom, efficientnet_lite0, .*Did you mean 'resnet101'",
        ),
        ({"normalization": "unit"}, "EfficientNet-Lite0 brings its own preprocessing, 'lite'"),
        (
            {"alpha": 0.5},
            "`option` must be one of feature_maps, normalization, positive, average_mirrored. Received: 'alpha'",
        ),
        (
            {"architecture": "mobilenet_v2", "alpha": 0.4},
            "`alpha` of MobileNetV2 must be one of 0.35",
        ),
        ({"image_side": 7}, "`image_side` must be a whole number of at least 8 px. Received: 7"),
        ({"image_side": 64.0}, "`image_side` must be a whole number"),
        ({"dropout": 1.0}, "`dropout` must be a rate from 0 to below 1"),
        ({"dropout": {"flat": 0.1}}, "must be one rate, before the head"),
        ({"class_names": ["a"]}, "two or more names"),
        (
            {"weights": "nowhere.h5"},
            "`weights` must be 'imagenet', 'none' or a file that exists. Received: 'nowhere.h5'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    sound = {
        "architecture": "efficientnet_lite0",
        "class_names": "ab",
        "image_side": 64,
        "weights": "none",
    }
    with pytest.raises(DarkroomError, match=message):
        build(**{**sound, **arguments})


def test_a_weights_file_of_keras_gives_its_weights_and_not_the_heads(tmp_path):
    source = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    source.save_weights(tmp_path / "own.weights.h5")
    model = build(
        "mobilenet",
        alpha=0.25,
        class_names="ab",
        image_side=64,
        weights=tmp_path / "own.weights.h5",
    )
    for name in ("conv1", "conv_dw_7", "conv_pw_13_bn"):
        for one, other in zip(
            source.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_model_of_ours_gives_its_body_to_another_head(tmp_path):
    first = build("custom", class_names="ab", image_side=16)
    first.save(tmp_path / "first.keras")
    second = build("custom", class_names="abc", image_side=16, weights=tmp_path / "first.keras")
    np.testing.assert_array_equal(
        first.get_layer("block5_conv").get_weights(), second.get_layer("block5_conv").get_weights()
    )
    with pytest.raises(DarkroomError, match="first.keras does not fit the model"):
        build(
            "custom",
            class_names="ab",
            image_side=16,
            filters=[8, 8],
            weights=tmp_path / "first.keras",
        )


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    source = keras.applications.MobileNet(
        alpha=0.5, include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    source.save_weights(tmp_path / "wide.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights at all")
    for name in ("wide.weights.h5", "text.weights.h5"):
        with pytest.raises(DarkroomError, match=f"{name} does not fit mobilenet"):
            build("mobilenet", alpha=0.25, class_names="ab", image_side=32, weights=tmp_path / name)
    (tmp_path / "weights.bin").write_bytes(b"0")
    with pytest.raises(DarkroomError, match="must end in .h5, .weights.h5 or .keras"):
        build("mobilenet", class_names="ab", image_side=32, weights=tmp_path / "weights.bin")


def test_a_failed_download_is_an_error_and_never_random_weights(monkeypatch):
    def offline(*, weights, **_):
        assert weights == "imagenet"
        raise Exception(
            "URL fetch failure on https://example.org: None -- [Errno -2] Name or service not known"
        )

    built = keras.applications.MobileNet
    monkeypatch.setattr(
        keras.applications, "MobileNet", lambda **how: (offline if how["weights"] else built)(**how)
    )
    with pytest.raises(
        DarkroomError,
        match="could not be downloaded \\(URL fetch.*weights='none', a file, or architecture",
    ):
        build("mobilenet", alpha=0.25, class_names="ab", image_side=32)


def test_imagenet_weights_are_copied_below_the_head(monkeypatch):
    built = keras.applications.MobileNet
    sources = []

    def online(*, weights, **how):
        model = built(weights=None, **how)
        sources.extend([model] if weights else [])
        return model

    monkeypatch.setattr(keras.applications, "MobileNet", online)
    model = build("mobilenet", alpha=0.25, class_names="ab", image_side=32)
    np.testing.assert_array_equal(
        sources[0].get_layer("conv_pw_13").get_weights(),
        model.get_layer("conv_pw_13").get_weights(),
    )


def test_resnet18_takes_weights_from_keras_hub_in_its_order(monkeypatch):
    images = keras.Input((32, 32, 3))
    source = keras.Model(images, keras_hub_backbones.resnet18(images))
    for layer in source.layers:
        found = re.fullmatch(r"stage(\d)_block(\d)_(conv|bn)(\d)", layer.name)
        if found:  # stack0_block0_1_conv, as KerasHub names them
            stage, block, kind, number = found.groups()
            layer.name = f"stack{int(stage) - 1}_block{int(block) - 1}_{number}_{kind}"
        layer.name = layer.name.replace("stem_conv", "conv1_conv").replace("stem_bn", "conv1_bn")
    backbone = types.SimpleNamespace(from_preset=lambda name: source)
    hub = types.SimpleNamespace(models=types.SimpleNamespace(ResNetBackbone=backbone))
    monkeypatch.setitem(sys.modules, "keras_hub", hub)
    model = build("resnet18", class_names="ab", image_side=32)
    noise = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    maps = keras.Model(model.get_layer("preprocess").output, pretrained_weights.last_maps(model))
    np.testing.assert_allclose(
        maps.predict(noise, verbose=0), source.predict(noise, verbose=0), atol=1e-5
    )

    backbone.from_preset = lambda name: 1 / 0
    with pytest.raises(
        DarkroomError, match="'resnet_18_imagenet' could not be loaded \\(division by zero\\)"
    ):
        build("resnet18", class_names="ab", image_side=32)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(DarkroomError, match="pip install keras-hub"):
        build("resnet18", class_names="ab", image_side=32)


def test_steps_are_measured():
    model = build("custom", class_names="ab", image_side=16)
    times = timing.steps(model, keras.optimizers.Adam(), image_side=16, batch_size=2, num_steps=1)
    assert 0 < times["predict_ms"] < times["train_ms"] * 100 and times["train_ms"] > 0


def test_table_has_a_row_a_backbone_and_measures_on_request(monkeypatch):
    monkeypatch.setattr(
        timing, "steps", lambda *_, **how: {"predict_ms": how["image_side"], "train_ms": 7.0}
    )
    table = timing.backbone_table(["mobilenet"], image_side=32, batch_size=2, num_steps=1)
    assert list(table.index) == list(backbones.BACKBONES)
    assert table.loc["resnet50", ["top1", "num_parameters"]].tolist() == [74.9, 23_587_712]
    assert table.loc["mobilenet", ["predict_ms", "train_ms"]].tolist() == [32, 7]
    assert table.loc["resnet50", ["predict_ms", "train_ms"]].isna().all()
    with pytest.raises(DarkroomError, match="Did you mean 'mobilenet'"):
        timing.backbone_table(["mobilnet"])


@pytest.mark.skipif(
    "DARKROOM_TEST_WEIGHTS" not in os.environ,
    reason="names the folder of the two real weights files",
)
@pytest.mark.parametrize(
    ("architecture", "alpha", "file"),
    [
        ("mobilenet", 0.75, "mobilenet_7_5_224_tf_no_top.h5"),
        (
            "mobilenet_v2",
            0.35,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5",
        ),
    ],
)
def test_real_weights_files_load_and_refuse_each_other(architecture, alpha, file):
    folder = Path(os.environ["DARKROOM_TEST_WEIGHTS"])
    model = build(architecture, alpha=alpha, class_names="ab", image_side=64, weights=folder / file)
    source = getattr(keras.applications, backbones.BACKBONES[architecture].title)(
        alpha=alpha, include_top=False, weights=str(folder / file), input_shape=(64, 64, 3)
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    maps = keras.Model(model.inputs, pretrained_weights.last_maps(model)).predict(images, verbose=0)
    np.testing.assert_allclose(maps, source.predict(images / 127.5 - 1, verbose=0), atol=1e-4)
    with pytest.raises(DarkroomError, match=f"does not fit {architecture}"):
        build(architecture, alpha=1.0, class_names="ab", image_side=64, weights=folder / file)


def test_stage_pooling_gives_mean_and_deviation_of_each_map():
    maps = np.zeros((1, 2, 2, 2), "float32")
    maps[0, :, :, 0] = [[0, 2], [0, 2]]
    maps[0, :, :, 1] = 5
    numbers = backbones.StagePooling()([maps, maps[:, :1, :1]])
    np.testing.assert_allclose(numbers[0], [1, 5, 1, 0.001, 0, 5, 0.001, 0.001], atol=1e-3)


def test_stages_end_where_the_residual_sums_change_their_channels():
    model = build(
        "mobilenet_v2", class_names=("a", "b"), image_side=64, weights="none", feature_maps="stages"
    )
    ends = [tuple(maps.shape[1:]) for maps in model.get_layer("pool").input]
    # The 1x1 convolution to 1,280 channels is left out.
    assert ends == [(8, 8, 32), (4, 4, 64), (4, 4, 96), (2, 2, 160), (2, 2, 320)]
    assert "Conv_1" not in [layer.name for layer in model.layers]


def test_a_network_without_residual_sums_has_a_stage_for_each_side():
    images = keras.Input((64, 64, 3))
    features = keras.Model(
        images, backbones.pooled(images, "vgg16", feature_maps="stages")
    ).get_layer("pool")
    ends = [tuple(maps.shape[1:]) for maps in features.input]
    assert ends == [(8, 8, 512), (4, 4, 512), (2, 2, 512)]


def test_stages_have_the_same_weights_as_the_whole_backbone():
    options = {"class_names": ("a", "b"), "image_side": 32}
    whole = build("efficientnet_lite0", **options)
    staged = build("efficientnet_lite0", feature_maps="stages", **options)
    for name in ("stem_conv", "block15_project_conv"):
        expected, received = (model.get_layer(name).get_weights()[0] for model in (whole, staged))
        np.testing.assert_array_equal(received, expected)


def test_the_command_line_lists_them(capsys):
    assert cli.main(["list", "backbones", "--json"]) == 0
    rows = {row["architecture"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(backbones.BACKBONES)
    assert (rows["resnet50"]["top1"], rows["resnet50"]["num_parameters"]) == (74.9, 23_587_712)
    assert rows["resnet50"]["offline"] is False
    assert cli.main(["list", "backbones"]) == 0
    assert "efficientnet_lite0" in capsys.readouterr().out
