"""Which parameters act only beside a certain choice. Beside another they are refused: nobody tunes
what does nothing.

Pure data and no Keras: a study is checked by it before anything runs, and a tuner builds its
conditional space from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.errors import DarkroomError

_CUSTOM = ("architecture", ("custom",))
CONDITIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd",)),
    "weight_decay": ("optimizer", ("adamw", "sgd")),
    "warm_up": ("schedule", ("cosine",)),
    "decay_every": ("schedule", ("step",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "decay_factor": ("schedule", ("step", "plateau")),
    "focal_gamma": ("loss", ("focal", "binary_focal")),
    "fine_tune_fraction": ("training", ("fine_tune",)),
    "engine": ("training", ("frozen", "fine_tune", "full")),
    "augmentation": ("training", ("scratch", "fine_tune", "full")),
    "mix": ("training", ("scratch", "fine_tune", "full")),
    "mix_alpha": ("mix", ("mixup", "cutmix")),
    "alpha": ("architecture", ("mobilenet", "mobilenet_v2")),
    **dict.fromkeys(
        (
            "preset",
            "filters",
            "kernel",
            "first_stride",
            "padding",
            "pooling",
            "summary",
            "dense_units",
            "activation",
        ),
        _CUSTOM,
    ),
    **dict.fromkeys(("batch_normalization", "block_dropout", "l2", "initializer"), _CUSTOM),
}
"""A parameter, the choice it hangs on, and the values of that choice beside which it acts."""


def acts(name: str, parameters: Mapping[str, Any]) -> bool:
    """Returns whether a parameter changes anything beside the others; a choice that is not among
    them does not count.
    """
    choice, values = CONDITIONS.get(name, ("", ()))
    return choice not in parameters or parameters[choice] in values


def acting(values: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `values` that change anything, beside each other and the rest of the
    parameters.
    """
    return {name: value for name, value in values.items() if acts(name, {**parameters, **values})}


def check(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises DarkroomError for a parameter that differs from its default and has no effect beside
    the others.
    """
    for name, value in parameters.items():
        if name in CONDITIONS and value != defaults.get(name, value) and not acts(name, parameters):
            choice, values = CONDITIONS[name]
            raise DarkroomError(
                f"`{name}` acts only with {choice} = {' or '.join(map(repr, values))}. Received: "
                f"{name} = {value!r} beside "
                f"{choice} = {parameters[choice]!r}. Leave it at {defaults[name]!r}, or change "
                f"{choice}."
            )
