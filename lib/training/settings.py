"""The settings of a training, made from `lib.parameter_table` and checked as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lib import parameter_table, parameter_types

LOSSES = {
    "cross_entropy": "softmax",
    "focal": "softmax",
    "one_vs_rest": "softmax",
    "binary_cross_entropy": "sigmoid",
    "binary_focal": "sigmoid",
}
"""Every loss, all computed from logits, with the head that it belongs to."""
_NAMES = (*parameter_table.FIT, "feature_backend", "seed")
_MOST_WHEN_TINY = {"image_side": 32, "limit_per_class": 24, "epochs": 2}
_MOST_FINE_TUNED = 0.1  # share of the layers that a tiny run fine-tunes


class _Checked:
    """Checks and constructors of `Settings`."""

    def __post_init__(self) -> None:
        for name, value in parameter_table.STRATEGY_DEFAULTS["scratch"].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        values = dataclasses.asdict(self)
        parameter_types.check(values, parameter_table.TRAINING, where="A training")
        parameter_types.check_conditions(values, parameter_table.TRAINING)
        parameter_table.check_patience(values)

    @property
    def of_loss(self) -> dict[str, Any]:
        """The arguments of `losses.loss`; the focal exponent acts in focal losses alone."""
        gamma = self.focal_gamma if "focal" in self.loss else 0.0
        return {
            "label_smoothing": self.label_smoothing,
            "focal_gamma": gamma,
            "one_vs_rest": self.loss == "one_vs_rest",
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Returns the settings among the parameters of `3_train`; those that are missing keep their
        defaults.

        Raises:
            DarkroomError: for a parameter of the network or the training that has no effect beside
                the others.
        """
        full = parameter_table.with_strategy_defaults(
            {**parameter_table.find("3_train").defaults(), **values}
        )
        parameter_types.check_conditions(full, parameter_table.TRAINING)
        own = set(parameter_table.STRATEGY_DEFAULTS["scratch"])
        return cls(**{name: full[name] for name in _NAMES if name in values or name in own})


Settings = dataclasses.make_dataclass(
    "Settings",
    [
        (
            name,
            parameter_table.TRAINING[name].type,
            dataclasses.field(default=parameter_table.TRAINING[name].default),
        )
        for name in _NAMES
    ],
    bases=(_Checked,),
    frozen=True,
    namespace={"__module__": __name__},
)
Settings.__doc__ = (
    "How to train. The fields are rows of `lib.parameter_table` (`darkroom list 3_train` explains "
    "them), with its defaults."
)
DEFAULTS = {name: parameter_table.TRAINING[name].default for name in _NAMES}


def effective(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of `3_train` that a run trains with: a tiny one has small images, few
    of them, two epochs, and few layers to fine-tune.
    """
    if not values.get("tiny"):
        return dict(values)
    most = {name: min(values[name] or most, most) for name, most in _MOST_WHEN_TINY.items()}
    if values.get("strategy") == "fine_tune":
        most["fine_tune_fraction"] = min(values["fine_tune_fraction"], _MOST_FINE_TUNED)
    return {**values, **most}
