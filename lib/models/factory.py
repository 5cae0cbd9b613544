"""Builds any model of the suite from checked arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import keras

from lib.errors import DarkroomError, check_choice
from lib.models import backbones, cnn, heads, transfer
from lib.models import pretrained_weights as pretrained
from lib.models.preprocessing import Preprocess, inputs

_CUSTOM_OPTIONS = (
    "preset",
    "normalization",
    "mean",
    "std",
    *(field.name for field in fields(cnn.Cnn)),
)
_HEAD_OPTIONS = ("positive", "average_mirrored")


def build(
    architecture: str,
    *,
    class_names: Sequence[str],
    image_side: int,
    weights: str | Path = "imagenet",
    head: str = "softmax",
    dropout: float | dict[str, float] | None = None,
    **options: object,
) -> keras.Model:
    """Returns a model that takes images of 0 to 255, (batch, image_side, image_side, 3), and gives
    logits (batch, units).

    `architecture` is "custom", a name of `backbones.BACKBONES`, several of them joined by "+", or
    `keras_hub:PRESET`. `weights` is "imagenet", "none" or a file; a custom model has no ImageNet
    weights and starts from random ones. `dropout` is the rate before the head, 0.2 for the last
    maps of a backbone and 0 for those of its stages; a custom model also takes rates by place.
    Options: `positive` for head="sigmoid"; `average_mirrored`, see `heads.Head`; `alpha` for the
    MobileNets; `feature_maps` (last or stages) for every backbone; `preset`, every field of
    `cnn.Cnn`, `normalization`, `mean` and `std` for "custom". Raises DarkroomError for whatever
    cannot be built.
    """
    if not isinstance(image_side, int) or isinstance(image_side, bool) or image_side < 8:
        raise DarkroomError(
            f"`image_side` must be a whole number of at least 8 px. Received: {image_side!r}."
        )
    if architecture != "custom":
        backbones.parts(architecture)
    _check_options(architecture, options)
    pretrained.check(architecture, weights)
    own = {name: options.pop(name) for name in _HEAD_OPTIONS if name in options}
    last = heads.Head(class_names, kind=head, **own, name="logits")
    images = inputs(image_side)
    make = _custom if architecture == "custom" else _transfer
    features, rate = make(images, architecture, dropout=dropout, options=options)
    if rate:
        features = keras.layers.Dropout(_rate(rate), name="head_dropout")(features)
    model = keras.Model(images, last(features), name=_name(architecture))
    if architecture != "custom" or weights != "imagenet":
        pretrained.load(model, architecture, weights, alpha=options.get("alpha", 1.0))
    return model


def _name(architecture: str) -> str:
    return re.sub(r"[^\w.-]+", "-", architecture)  # TensorFlow takes no other names for scopes


def option_names(architecture: str) -> tuple[str, ...]:
    """Returns the options that `build` takes for an architecture."""
    if architecture == "custom":
        return (*(name for name in _CUSTOM_OPTIONS if name != "dropout"), *_HEAD_OPTIONS)
    names = backbones.parts(architecture)
    if len(names) > 1:
        return ("feature_maps", *_HEAD_OPTIONS)
    alpha = ("alpha",) if backbones.named(architecture).alphas else ()
    return (*alpha, "feature_maps", "normalization", *_HEAD_OPTIONS)


def _custom(
    images: keras.KerasTensor, _: str, *, dropout: object, options: dict
) -> tuple[keras.KerasTensor, float]:
    numbers = {name: options.pop(name) for name in ("mean", "std") if name in options}
    method = options.pop("normalization", "unit")
    places = {"dropout": dropout} if isinstance(dropout, dict) else {}
    described = cnn.describe(options.pop("preset", "compact"), **options, **places)
    prepared = Preprocess(method, name="preprocess", **numbers)(images)
    return cnn.graph(prepared, described), 0 if dropout is None or places else dropout


def _transfer(
    images: keras.KerasTensor, architecture: str, *, dropout: object, options: dict
) -> tuple[keras.KerasTensor, float]:
    if isinstance(dropout, dict):
        raise DarkroomError(
            f"`dropout` of {architecture} must be one rate, before the head. Received: {dropout!r}."
        )
    features = backbones.pooled(images, architecture, **options)
    if options.get("feature_maps") != "stages":
        return features, 0.2 if dropout is None else dropout
    return transfer.standardizer()(features), dropout or 0


def _rate(dropout: object) -> float:
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise DarkroomError(f"`dropout` must be a rate from 0 to below 1. Received: {dropout!r}.")
    return float(dropout)


def _check_options(architecture: str, options: dict) -> None:
    known = option_names(architecture)
    for name in options:
        check_choice("option", name, known, where=architecture)
