"""The last layer of every model: logits, class names and probabilities.

Probabilities come from `lib.models.predictor.predict_proba` alone, so a second softmax cannot be
written down.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from scipy import special

from lib.errors import DarkroomError, check_choice

KINDS = ("softmax", "sigmoid", "multilabel")


@keras.saving.register_keras_serializable("darkroom")
class Head(keras.layers.Dense):
    """Logits of named classes, in float32 under every dtype policy.

    softmax: one unit a class, one class an image. sigmoid: two classes and one unit, which stands
        for `positive`. multilabel: one unit a class, each class there or not. `average_mirrored`
        has `predict_proba` average the logits of an image and its mirror image. `card` is what
        the model says about itself, once it is saved.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        kind: str = "softmax",
        positive: str | None = None,
        average_mirrored: bool = False,
        card: dict | None = None,
        **layer: object,
    ):
        class_names = tuple(class_names)
        _check_names(class_names, kind, positive)
        if "activation" in layer:
            raise DarkroomError(
                "A head gives logits and takes no activation; probabilities come from "
                f"predict_proba. Received: activation={layer['activation']!r}."
            )
        super().__init__(
            1 if kind == "sigmoid" else len(class_names), **{**layer, "dtype": "float32"}
        )
        self.class_names, self.kind, self.positive, self.card = class_names, kind, positive, card
        self.average_mirrored = average_mirrored

    @property
    def positive_index(self) -> int:
        """The place of the positive class in `class_names`; only a sigmoid head has one."""
        return self.class_names.index(self.positive)

    def get_config(self) -> dict:
        """Returns what rebuilds the layer."""
        config = super().get_config()
        for owned in ("units", "activation"):
            config.pop(owned)
        own = {
            "class_names": list(self.class_names),
            "kind": self.kind,
            "positive": self.positive,
            "average_mirrored": self.average_mirrored,
            "card": self.card,
        }
        return config | own


def of(model: keras.Model) -> Head:
    """Returns the model's head. Raises DarkroomError for a model that does not end in one."""
    last = model.layers[-1]
    if not isinstance(last, Head):
        raise DarkroomError(
            "The model must end in a head with class names, as lib.models.build makes it. "
            f"Received: {model.name!r}, which ends in {type(last).__name__}."
        )
    return last


def probabilities(head: Head, logits: np.ndarray) -> np.ndarray:
    """Returns float32 (n, num_classes) in the order of `head.class_names`; rows sum to 1, except
    for multilabel.
    """
    logits = np.asarray(logits, np.float64)
    if head.kind == "softmax":
        return special.softmax(logits, axis=1).astype(np.float32)  # (n, num_classes)
    yes = special.expit(logits)
    if head.kind == "multilabel":
        return yes.astype(np.float32)
    columns = [1 - yes, yes] if head.positive_index == 1 else [yes, 1 - yes]
    return np.concatenate(columns, axis=1).astype(np.float32)  # (n, 2)


def _check_names(class_names: tuple[str, ...], kind: str, positive: str | None) -> None:
    check_choice("head", kind, KINDS)
    if len(set(class_names)) != len(class_names) or len(class_names) < (
        1 if kind == "multilabel" else 2
    ):
        raise DarkroomError(
            f"`class_names` must hold two or more names, each once. Received: {list(class_names)}."
        )
    if kind == "sigmoid" and (len(class_names) != 2 or positive not in class_names):
        raise DarkroomError(
            "A sigmoid head needs two class names and `positive`, one of them. Received: "
            f"{list(class_names)}, positive={positive!r}. Use head='softmax' for more classes."
        )
    if kind != "sigmoid" and positive is not None:
        raise DarkroomError(
            f"`positive` belongs to head='sigmoid'. Received: positive={positive!r}, head={kind!r}."
        )
