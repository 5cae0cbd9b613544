"""A small network of dense layers in NumPy: on a few hundred inputs a framework's step costs more
than its arithmetic.

All weights lie in one array, so that a step of the optimiser is four calls whatever the layers;
losses of train and validation are taken every epoch from what was computed anyway and from one pass
over the validation images.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

_Layer = tuple[np.ndarray, np.ndarray]  # weights (inputs, units), bias (units,)


class MLP(ClassifierMixin, BaseEstimator):
    """Dense layers of `hidden_layers` units, softmax and cross-entropy, trained for `epochs` in
    float32.

    `optimizer` is `adam`, or `sgd` with Nesterov's `momentum`. The arithmetic is scikit-learn's
    MLPClassifier's, without its early end. After `fit`: `history_`, one row an epoch, where
    validation images were given; `snapshots_`, the weights at the epochs of `marks`.
    """

    def __init__(
        self,
        hidden_layers: Sequence[int] = (32,),
        learning_rate: float = 0.001,
        epochs: int = 200,
        batch_size: int = 200,
        optimizer: str = "adam",
        activation: str = "relu",
        momentum: float = 0.9,
        l2: float = 1e-4,
        seed: int = 0,
    ) -> None:
        self.hidden_layers = hidden_layers
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.activation = activation
        self.momentum = momentum
        self.l2 = l2
        self.seed = seed

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        marks: Sequence[int] = (),
    ) -> MLP:
        """Trains on (images, features) and class numbers; validation images are looked at, never
        learnt from.
        """
        X = np.ascontiguousarray(X, np.float32)
        self.classes_, codes = np.unique(y, return_inverse=True)
        rng = np.random.default_rng(self.seed)
        self.sizes_ = [X.shape[1], *map(int, self.hidden_layers), len(self.classes_)]
        self.weights_ = self._first_weights(rng)
        self.n_features_in_ = X.shape[1]
        self.history_: list[dict[str, float]] = []
        self.snapshots_: dict[int, np.ndarray] = {}
        worker = _Worker(self, X, codes)
        for epoch in range(1, self.epochs + 1):
            loss, right = worker.epoch(rng)
            if validation is not None:
                row = {"epoch": epoch, "loss": loss / len(X), "accuracy": right / len(X)}
                self.history_.append(row | self._validated(*validation))
            if epoch in marks:
                self.snapshots_[epoch] = self.weights_.copy()
        return self

    def at(self, epoch: int) -> MLP:
        """Returns the network as it was at a marked epoch."""
        found = copy.copy(self)
        found.weights_, found.epochs, found.snapshots_ = self.snapshots_[epoch], epoch, {}
        found.history_ = self.history_[:epoch]
        return found

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Returns float32 (images, classes)."""
        return _softmax(self._outputs(np.asarray(X, np.float32)))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        return self.classes_[self._outputs(np.asarray(X, np.float32)).argmax(axis=1)]

    def layers(self, flat: np.ndarray | None = None) -> list[_Layer]:
        """Returns weights and bias of each layer as views of one array, the network's own where
        none is given.
        """
        flat, found, start = self.weights_ if flat is None else flat, [], 0
        for inputs, units in zip(self.sizes_[:-1], self.sizes_[1:], strict=True):
            middle, end = start + inputs * units, start + (inputs + 1) * units
            found.append((flat[start:middle].reshape(inputs, units), flat[middle:end]))
            start = end
        return found

    def _first_weights(self, rng: np.random.Generator) -> np.ndarray:
        flat = np.empty(
            sum((a + 1) * b for a, b in zip(self.sizes_[:-1], self.sizes_[1:], strict=True)),
            np.float32,
        )
        for weights, bias in self.layers(flat):
            bound = np.sqrt(6 / sum(weights.shape))  # Glorot and Bengio 2010
            weights[:] = rng.uniform(-bound, bound, weights.shape)
            bias[:] = rng.uniform(-bound, bound, bias.shape)
        return flat

    def _outputs(self, values: np.ndarray) -> np.ndarray:
        *hidden, last = self.layers()
        for weights, bias in hidden:
            values = values @ weights + bias
            values = (
                np.tanh(values, out=values)
                if self.activation == "tanh"
                else np.maximum(values, 0, out=values)
            )
        return values @ last[0] + last[1]

    def _validated(self, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
        outputs = self._outputs(np.asarray(X, np.float32))
        codes = np.searchsorted(self.classes_, y)
        losses = _log_sum(outputs) - outputs[np.arange(len(y)), codes]
        return {
            "val_loss": float(losses.mean()),
            "val_accuracy": float((outputs.argmax(axis=1) == codes).mean()),
        }

    def __getstate__(self) -> dict[str, Any]:
        """What is kept of a network: not its snapshots."""
        return {**self.__dict__, "snapshots_": {}}


class _Worker:
    """The arrays of a training in progress; they are made once, since small steps would spend their
    time making them.
    """

    def __init__(self, model: MLP, X: np.ndarray, codes: np.ndarray) -> None:
        self.model, self.X, self.codes = model, X, codes
        self.size = min(model.batch_size, len(X))
        self.gradient = np.zeros_like(model.weights_)
        self.layers, self.gradients = model.layers(), model.layers(self.gradient)
        self.velocity, self.square = np.zeros_like(self.gradient), np.zeros_like(self.gradient)
        self.spare, self.steps = np.empty_like(self.gradient), 0
        self.images = np.empty((self.size, X.shape[1]), np.float32)

    def epoch(self, rng: np.random.Generator) -> tuple[float, int]:
        """One pass over the images; returns the sum of their losses and how many were right, as
        they were met.
        """
        loss, right = 0.0, 0
        for batch in self._batches(rng):
            X = np.take(self.X, batch, axis=0, out=self.images[: len(batch)], mode="clip")
            told = self._gradients(X, self.codes[batch])
            loss, right = loss + told[0], right + told[1]
            self._step(len(batch))
        return loss, right

    def _batches(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        order = rng.permutation(len(self.X))
        for start in range(0, len(order), self.size):
            yield order[start : start + self.size]

    def _gradients(self, X: np.ndarray, codes: np.ndarray) -> tuple[float, int]:
        tanh, seen = self.model.activation == "tanh", [X]
        for weights, bias in self.layers[:-1]:
            values = seen[-1] @ weights
            values += bias
            seen.append(np.tanh(values, out=values) if tanh else np.maximum(values, 0, out=values))
        outputs = seen[-1] @ self.layers[-1][0]
        outputs += self.layers[-1][1]
        places = np.arange(len(X)), codes
        right = int((outputs.argmax(axis=1) == codes).sum())
        outputs -= outputs.max(axis=1, keepdims=True)
        at_truth = outputs[places].sum()
        error = np.exp(outputs, out=outputs)
        total = error.sum(axis=1, keepdims=True)
        loss = float(np.log(total).sum() - at_truth)
        error /= total
        error[places] -= 1
        error /= len(X)
        for place in range(len(self.layers) - 1, -1, -1):
            np.matmul(seen[place].T, error, out=self.gradients[place][0])
            np.sum(error, axis=0, out=self.gradients[place][1])
            if place:
                error = error @ self.layers[place][0].T
                error *= 1 - seen[place] ** 2 if tanh else seen[place] > 0
        return loss, right

    def _step(self, num: int) -> None:
        model, gradient, spare = self.model, self.gradient, self.spare
        if model.l2:
            for (weights, _), (of_weights, _) in zip(self.layers, self.gradients, strict=True):
                of_weights += np.float32(model.l2 / num) * weights
        rate = np.float32(model.learning_rate)
        if model.optimizer == "sgd":
            np.multiply(gradient, rate, out=gradient)
            self.velocity *= np.float32(model.momentum)
            self.velocity -= gradient
            np.multiply(self.velocity, np.float32(model.momentum), out=spare)
            spare -= gradient
            model.weights_ += spare
            return
        self.steps += 1  # Kingma and Ba 2015, with scikit-learn's order of the corrections
        self.velocity *= np.float32(0.9)
        self.velocity += np.multiply(gradient, np.float32(0.1), out=spare)
        self.square *= np.float32(0.999)
        np.multiply(gradient, gradient, out=spare)
        self.square += np.multiply(spare, np.float32(0.001), out=spare)
        np.sqrt(self.square, out=spare)
        spare += np.float32(1e-8)
        np.divide(self.velocity, spare, out=spare)
        spare *= np.float32(
            model.learning_rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        )
        model.weights_ -= spare


def _log_sum(outputs: np.ndarray) -> np.ndarray:
    highest = outputs.max(axis=1)
    return highest + np.log(np.exp(outputs - highest[:, None]).sum(axis=1))


def _softmax(outputs: np.ndarray) -> np.ndarray:
    found = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)
