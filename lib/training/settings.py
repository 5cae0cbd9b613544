"""How to train: one record, checked as a whole before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lib import notebooks
from lib.errors import DarkroomError, suggest
from lib.training import conditions

LOSSES = {
    "cross_entropy": "softmax",
    "focal": "softmax",
    "one_vs_rest": "softmax",
    "binary_cross_entropy": "sigmoid",
    "binary_focal": "sigmoid",
}
"""Each loss, all computed from logits, with the head that it belongs to."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    `patience` counts epochs without a better `monitor` (0: never stop early); `class_weights` is
    `balanced` (each class counts alike in the loss) or `none`; `warm_up` and `decay_every` are
    shares of the whole training, as `optimizers.build` uses them; `engine` computes frozen
    features, see `lib.models.inference`; the other names are those of Keras or of the module they
    go to.

    A value that differs from its default and cannot act beside the others (momentum without SGD) is
    refused.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.004
    gradient_clip: float = 1.0
    schedule: str = "constant"
    warm_up: float = 0.05
    decay_every: float = 0.3
    decay_factor: float = 0.1
    plateau_patience: int = 3
    augmentation: str = "none"
    mix: str = "none"
    mix_alpha: float = 0.4
    class_weights: str = "none"
    loss: str = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    patience: int = 0
    monitor: str = "val_loss"
    engine: str = "keras"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.patience < 0 or self.plateau_patience < 1:
            raise DarkroomError(
                "`epochs`, `batch_size` and `plateau_patience` must be at least 1 and `patience` "
                "at least 0. "
                f"Received: {self.epochs}, {self.batch_size}, {self.plateau_patience}, "
                f"{self.patience}."
            )
        if self.class_weights not in ("none", "balanced") or self.monitor not in (
            "val_loss",
            "val_accuracy",
        ):
            raise DarkroomError(
                "`class_weights` is 'none' or 'balanced' and `monitor` is 'val_loss' or "
                "'val_accuracy'. "
                f"Received: {self.class_weights!r}, {self.monitor!r}."
            )
        if self.loss not in LOSSES:
            raise DarkroomError(
                f"`loss` must be one of {', '.join(LOSSES)}. Received: "
                f"{self.loss!r}.{suggest(self.loss, list(LOSSES))}"
            )
        if self.schedule == "plateau" and 0 < self.patience <= self.plateau_patience:
            raise DarkroomError(
                f"With patience = {self.patience} the training stops before the rate falls at "
                "plateau_patience = "
                f"{self.plateau_patience}. Choose a larger patience."
            )
        conditions.check(dataclasses.asdict(self), DEFAULTS)

    @property
    def of_loss(self) -> dict[str, Any]:
        """What `heads.loss` takes: the focal exponent acts in focal losses alone."""
        gamma = self.focal_gamma if "focal" in self.loss else 0.0
        return {
            "label_smoothing": self.label_smoothing,
            "focal_gamma": gamma,
            "one_vs_rest": self.loss == "one_vs_rest",
        }

    @classmethod
    def of(cls, parameters: Mapping[str, Any], *, tiny: bool = False) -> Settings:
        """Returns the settings among a notebook's parameters; a tiny training has two epochs at
        most.

        Raises:
            DarkroomError: for a parameter of the network or the training that has no effect beside
                the others.
        """
        defaults = notebooks.find("3_train").defaults()
        conditions.check({**defaults, **parameters}, defaults)
        settings = cls(**{name: parameters[name] for name in DEFAULTS if name in parameters})
        return dataclasses.replace(settings, epochs=min(settings.epochs, 2)) if tiny else settings


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}
