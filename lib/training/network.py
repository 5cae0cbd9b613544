"""Builds the network from the parameters of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import keras

from lib import models, parameter_table
from lib.data import pixel_cache, targets
from lib.errors import DarkroomError
from lib.models import cnn
from lib.parameter_types import check_conditions
from lib.training.settings import LOSSES
from lib.training.strategies import TrainingData

_TRANSLATED = ("batch_normalization", "dropout", "pooling")
"""Fields of a CNN whose parameters have other values."""
_NORMALIZED = {
    "none": (),
    "block": ("block",),
    "flat": ("flat",),
    "all": ("block", "flat", "dense"),
}


def build(parameters: Mapping[str, Any], data: TrainingData) -> keras.Model:
    """Returns the network that the parameters of `3_train` describe, for the split's classes and
    side.

    Parameters that are missing have their defaults. The loss decides the head: a binary one takes
    the sigmoid, for two classes alone, and its positive class is that of target = "label:CLASS"
    (the second name elsewhere).

    Raises:
        DarkroomError: for whatever cannot be built, and for a parameter that has no effect beside
            the others.
    """
    split, array = data.split, data.pixels.array
    numbers = {}
    if parameters.get("normalization") == "zscore":
        numbers["mean"], numbers["std"] = pixel_cache.statistics(array, data.examples("train").rows)
    return describe(
        parameters,
        class_names=split.class_names,
        image_side=array.shape[1],
        target=split.target,
        **numbers,
    )


def describe(
    parameters: Mapping[str, Any],
    *,
    class_names: list[str],
    image_side: int,
    target: str = "label",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Returns the same network from names and side alone; `mean` and `std` of the train split
    belong to `zscore`.
    """
    values = parameter_table.with_strategy_defaults(
        {**parameter_table.find("3_train").defaults(), **parameters}
    )
    check_conditions(values, parameter_table.TRAINING)
    architecture = values["architecture"]
    options = _custom(values) if architecture == "custom" else _backbone(values)
    if values["normalization"] is not None:
        options["normalization"] = values["normalization"]
    if values["normalization"] == "zscore":
        options |= {"mean": mean, "std": std}
    return models.build(
        architecture,
        class_names=class_names,
        image_side=image_side,
        weights=values["weights"],
        average_mirrored=values["average_mirrored"],
        **_head(values["loss"], target, class_names),
        **options,
    )


def _custom(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the preset that the parameters change; None leaves one as the preset has it."""
    preset = cnn.describe(values["preset"])
    names = [field.name for field in fields(cnn.Cnn) if field.name not in _TRANSLATED]
    changes = {name: values[name] for name in names if values.get(name) is not None}
    if values["kernel_size"] is not None:
        changes["kernel"] = values["kernel_size"]
    if values["batch_normalization"] is not None:
        changes["batch_normalization"] = _NORMALIZED[values["batch_normalization"]]
    if "activation" in changes:
        changes["dense_activation"] = None  # one activation for all layers
    if values["pooling"] == "none":
        changes["pool_after"] = ()
    elif values["pooling"] is not None:
        changes["pooling"] = values["pooling"]
        if not preset.pool_after:
            changes["pool_after"] = tuple(range(1, len(values["filters"] or preset.filters)))
    described = cnn.describe(values["preset"], **{**changes, "dropout": {}})
    changes["dropout"] = _dropout(values, preset, described)
    return {"preset": values["preset"], **changes}


def _dropout(values: Mapping[str, Any], preset: cnn.Cnn, described: cnn.Cnn) -> dict[str, float]:
    """Rates by place; the last layer of a network without dense ones follows the summary, so its
    rate stands there.
    """
    blocks = [f"block{number}" for number in range(1, len(described.filters) + 1)]
    places = {
        place: rate
        for place, rate in preset.dropout.items()
        if not place.startswith("block") or place in blocks
    }
    if values["block_dropout"] is not None:
        places |= dict.fromkeys(blocks, values["block_dropout"])
    if values["dropout"] is not None:
        places["dense" if described.dense_units else "flat"] = values["dropout"]
    return places


def _backbone(values: Mapping[str, Any]) -> dict[str, Any]:
    names = ("dropout", "feature_maps")
    options = {name: values[name] for name in names if values[name] is not None}
    return options | ({"alpha": values["alpha"]} if values["alpha"] != 1.0 else {})


def _head(loss: str, target: str, class_names: list[str]) -> dict[str, Any]:
    if targets.parse(target).rule == "all":
        if LOSSES[loss] == "softmax":
            binary = [name for name, head in LOSSES.items() if head != "softmax"]
            raise DarkroomError(
                f"target = {target!r} gives an image several classes, each learned by a binary "
                f"loss: {', '.join(binary)}. Received: loss = {loss!r}."
            )
        return {"head": "multilabel"}
    if LOSSES[loss] == "softmax":
        return {"head": "softmax"}
    if len(class_names) != 2:
        raise DarkroomError(
            f"loss = {loss!r} tells two classes apart. Received {len(class_names)}: "
            f"{', '.join(class_names)}. "
            "Use target = 'label:CLASS' for one class against the rest, or loss = 'cross_entropy'."
        )
    positive = targets.parse(target).positive or class_names[1]
    return {"head": "sigmoid", "positive": positive}
