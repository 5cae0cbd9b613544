"""From the flat parameters of a training, as notebook, study or tuner gives them, to its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lib import models, notebooks
from lib.data import pixel_cache, targets
from lib.errors import DarkroomError
from lib.models import cnn
from lib.training import conditions
from lib.training.settings import LOSSES
from lib.training.strategies import Material

OWN = "preset"
"""What a word says that leaves a field as the preset has it; numbers say it by 0 or a negative one,
lists by being empty.
"""
NAMES = (
    "architecture",
    "normalization",
    "preset",
    "filters",
    "kernel",
    "first_stride",
    "padding",
    "pooling",
    "summary",
    "alpha",
    "dense_units",
    "activation",
    "batch_normalization",
    "block_dropout",
    "l2",
    "initializer",
    "dropout",
)
"""The parameters that a network follows from, beside its loss, its classes and its side."""
_WORDS = ("padding", "pooling", "summary", "activation", "initializer")
_NORMALIZED = {
    "none": (),
    "block": ("block",),
    "flat": ("flat",),
    "all": ("block", "flat", "dense"),
}


def build(parameters: Mapping[str, Any], material: Material) -> keras.Model:
    """Returns the network that `3_train`'s parameters describe, for the classes and the side of the
    material.

    Of the parameters only those that stand in `parameters` are used; the others keep their
    defaults. The loss decides the head: a binary one takes the sigmoid, for two classes alone, and
    its positive class is that of target = "label:CLASS" (the second name elsewhere).

    Raises:
        DarkroomError: for whatever cannot be built, and for a parameter that has no effect beside
            the others.
    """
    split, array = material.split, material.pixels.array
    numbers = {}
    if parameters.get("normalization") == "zscore":
        numbers["mean"], numbers["std"] = pixel_cache.statistics(
            array, material.examples("train").rows
        )
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
    defaults = notebooks.find("3_train").defaults()
    given = {**defaults, **parameters}
    conditions.check(given, defaults)
    architecture = given["architecture"]
    options = _custom(given) if architecture == "custom" else _backbone(given)
    if given["normalization"] != "auto":
        options["normalization"] = given["normalization"]
    if given["normalization"] == "zscore":
        options |= {"mean": mean, "std": std}
    return models.build(
        architecture,
        class_names=class_names,
        image_side=image_side,
        weights=given["weights"],
        **_head(given["loss"], target, class_names),
        **options,
    )


def _custom(given: Mapping[str, Any]) -> dict[str, Any]:
    preset = cnn.describe(given["preset"])
    changes: dict[str, Any] = {
        name: given[name] for name in _WORDS if given[name] not in (OWN, "none")
    }
    changes |= {name: given[name] for name in ("kernel", "first_stride", "filters") if given[name]}
    if given["dense_units"]:
        changes["dense_units"] = [units for units in given["dense_units"] if units]
    if given["l2"] >= 0:
        changes["l2"] = given["l2"]
    if given["batch_normalization"] != OWN:
        changes["batch_normalization"] = _NORMALIZED[given["batch_normalization"]]
    if "activation" in changes:
        changes["dense_activation"] = None  # one word for all layers
    if given["pooling"] == "none":
        changes["pool_after"] = ()
    elif given["pooling"] != OWN and not preset.pool_after:
        changes["pool_after"] = tuple(range(1, len(given["filters"] or preset.filters)))
    changes["dropout"] = _dropout(
        given, preset, cnn.describe(given["preset"], **{**changes, "dropout": {}})
    )
    return {"preset": given["preset"], **changes}


def _dropout(given: Mapping[str, Any], preset: cnn.Cnn, described: cnn.Cnn) -> dict[str, float]:
    """Rates by place; the last layer of a network without dense ones follows the summary, so its
    rate stands there.
    """
    blocks = [f"block{number}" for number in range(1, len(described.filters) + 1)]
    places = {
        place: rate
        for place, rate in preset.dropout.items()
        if not place.startswith("block") or place in blocks
    }
    if given["block_dropout"] >= 0:
        places |= dict.fromkeys(blocks, given["block_dropout"])
    if given["dropout"] >= 0:
        places["dense" if described.dense_units else "flat"] = given["dropout"]
    return places


def _backbone(given: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {} if given["dropout"] < 0 else {"dropout": given["dropout"]}
    return options | ({"alpha": given["alpha"]} if given["alpha"] != 1.0 else {})


def _head(loss: str, target: str, class_names: list[str]) -> dict[str, Any]:
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
