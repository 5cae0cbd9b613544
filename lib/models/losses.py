"""The loss and the accuracy of each kind of head, computed from logits, and class weights."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from lib.errors import DarkroomError
from lib.models import heads


def loss(
    model: keras.Model,
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    one_vs_rest: bool = False,
) -> keras.losses.Loss:
    """Returns the loss that fits the model's head, computed from logits.

    Truth is a class index (n,) or (n, 1), or one share a class (n, num_classes), as MixUp makes it;
    for multilabel only the latter. `focal_gamma` above 0 gives the focal loss. Source: Lin et al.
    2017, equation 4. `one_vs_rest` has a softmax head learn each class against the rest by binary
    cross-entropy, as PyTorch's BCEWithLogitsLoss does with one-hot truth.
    """
    head = heads.of(model)
    return HeadLoss(
        _wiring(head),
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        one_vs_rest=one_vs_rest,
    )


def accuracy(model: keras.Model) -> keras.metrics.Metric:
    """Returns the metric `accuracy` that fits the model's head; it takes truth as `loss` does, and
    logits.
    """
    return HeadAccuracy(_wiring(heads.of(model)))


@keras.saving.register_keras_serializable("darkroom")
class HeadLoss(keras.losses.Loss):
    """Cross-entropy from logits for any head, with label smoothing and focal weighting. Made by
    `loss`.
    """

    def __init__(
        self,
        wiring: dict,
        *,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        one_vs_rest: bool = False,
        name: str = "cross_entropy",
        reduction: str = "sum_over_batch_size",
        **base: object,
    ):
        super().__init__(name=name, reduction=reduction, **base)
        if not 0 <= label_smoothing < 1:
            raise DarkroomError(
                f"`label_smoothing` must be at least 0 and below 1. Received: {label_smoothing}."
            )
        if focal_gamma < 0:
            raise DarkroomError(f"`focal_gamma` must not be negative. Received: {focal_gamma}.")
        self.wiring, self.label_smoothing, self.focal_gamma = wiring, label_smoothing, focal_gamma
        self.one_vs_rest = one_vs_rest

    def call(self, y_true, y_pred):
        """Returns one loss an image, (n,)."""
        truth = _shares(self.wiring, y_true)  # (n, units)
        if self.wiring["kind"] == "softmax" and not self.one_vs_rest:
            truth = (
                truth * (1 - self.label_smoothing)
                + self.label_smoothing / self.wiring["num_classes"]
            )
            return ops.sum(self._terms(truth, ops.log_softmax(y_pred)), axis=-1)
        truth = truth * (1 - self.label_smoothing) + self.label_smoothing / 2
        terms = self._terms(truth, ops.log_sigmoid(y_pred)) + self._terms(
            1 - truth, ops.log_sigmoid(-y_pred)
        )
        return ops.mean(terms, axis=-1)

    def _terms(self, truth, log_probability):
        terms = -truth * log_probability
        return (
            terms * (1 - ops.exp(log_probability)) ** self.focal_gamma
            if self.focal_gamma
            else terms
        )

    def get_config(self) -> dict:
        """Returns what rebuilds the loss."""
        own = {
            name: getattr(self, name)
            for name in ("wiring", "label_smoothing", "focal_gamma", "one_vs_rest")
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("darkroom")
class HeadAccuracy(keras.metrics.Mean):
    """The share of images whose class is right; for multilabel of image-class pairs. Made by
    `accuracy`.
    """

    def __init__(self, wiring: dict, *, name: str = "accuracy", dtype: object = None):
        super().__init__(name=name, dtype=dtype)
        self.wiring = wiring

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds one batch; an image of weight 0 does not count, and any other counts as one."""
        truth = _shares(self.wiring, y_true)
        if self.wiring["kind"] == "softmax":
            hits = ops.equal(ops.argmax(truth, axis=-1), ops.argmax(y_pred, axis=-1))
        else:
            hits = ops.mean(
                ops.cast(ops.equal(truth > 0.5, ops.convert_to_tensor(y_pred) >= 0), "float32"),
                axis=-1,
            )
        counted = (
            None
            if sample_weight is None
            else ops.cast(ops.convert_to_tensor(sample_weight) > 0, "float32")
        )
        return super().update_state(ops.cast(hits, "float32"), counted)

    def get_config(self) -> dict:
        """Returns what rebuilds the metric."""
        return {"name": self.name, "dtype": self.dtype, "wiring": self.wiring}


def _wiring(head: heads.Head) -> dict:
    positive = head.positive_index if head.kind == "sigmoid" else None
    return {"kind": head.kind, "num_classes": len(head.class_names), "positive": positive}


def _shares(wiring: dict, truth):
    truth = ops.convert_to_tensor(truth)
    by_index = len(truth.shape) == 1 or truth.shape[-1] == 1
    if wiring["kind"] == "multilabel" or not by_index:
        if len(truth.shape) != 2 or truth.shape[-1] not in (None, wiring["num_classes"]):
            raise DarkroomError(
                f"The truth of a {wiring['kind']} head must have the shape (n, "
                f"{wiring['num_classes']}), one share a class"
                f"{'' if wiring['kind'] == 'multilabel' else ', or (n,), an index each'}. "
                f"Received: {tuple(truth.shape)}."
            )
        shares = ops.cast(truth, "float32")
        place = wiring["positive"]
        return shares[:, place : place + 1] if wiring["kind"] == "sigmoid" else shares
    index = ops.cast(ops.reshape(truth, (-1,)), "int32")
    if wiring["kind"] == "sigmoid":
        return ops.cast(ops.equal(index, wiring["positive"]), "float32")[:, None]
    return ops.one_hot(index, wiring["num_classes"], dtype="float32")


def class_weights(
    labels: np.ndarray, class_names: tuple[str, ...], *, mode: str
) -> dict[str, float] | None:
    """Returns a loss weight a class, `n / (classes · n of the class)`, whose mean over the images
    is 1; None for `none`.
    """
    if mode == "none":
        return None
    if labels.ndim == 2:
        raise DarkroomError(
            "Class weights need one class an image, and this target gives it several. Received: "
            f"class_weights = {mode!r}. Use 'none'."
        )
    counts = np.bincount(labels, minlength=len(class_names))  # (classes,)
    return {
        name: len(labels) / (len(class_names) * max(1, count))
        for name, count in zip(class_names, counts, strict=True)
    }
