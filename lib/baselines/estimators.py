"""Estimators around scikit-learn's: kernel SVMs by the median distance, RBF networks, an MLP."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg, special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC

from lib.errors import DarkroomError

_SAMPLE = 1000
_MAX_IMAGES = 20_000


def median_gamma(X: np.ndarray, *, seed: int = 0) -> float:
    """Returns 1 / the median squared distance of two images, from at most 1,000 images.

    Source: the median heuristic; Garreau, Jitkrittum and Kanagawa, arXiv 1707.07269 (2017).
    """
    rows = np.random.default_rng(seed).permutation(len(X))[:_SAMPLE]
    squares = euclidean_distances(np.asarray(X[rows], np.float64), squared=True)[
        np.triu_indices(len(rows), 1)
    ]
    median = float(np.median(squares)) if len(squares) else 0.0
    return 1 / median if median > 0 else 1 / X.shape[1]


class KernelSVM(ClassifierMixin, BaseEstimator):
    """An SVM with an `rbf` or `poly` kernel; gamma is `gamma_scale` times `median_gamma`.

    `degree` is of the polynomial kernel. After `fit`, `svc_` is scikit-learn's SVM.
    """

    def __init__(
        self,
        kernel: str = "rbf",
        C: float = 1.0,
        gamma_scale: float = 1.0,
        degree: int = 3,
        seed: int = 0,
    ) -> None:
        self.kernel = kernel
        self.C = C
        self.gamma_scale = gamma_scale
        self.degree = degree
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> KernelSVM:
        """Fits (images, features) to class numbers."""
        self.gamma_ = self.gamma_scale * median_gamma(X, seed=self.seed)
        self.svc_ = SVC(
            C=self.C,
            kernel=self.kernel,
            gamma=self.gamma_,
            degree=self.degree,
            coef0=1.0,
            cache_size=500,
        )
        self.svc_.fit(X, y)
        self.classes_, self.n_features_in_ = self.svc_.classes_, X.shape[1]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Returns (images, classes), or (images,) for two classes: above 0 is the second."""
        return self.svc_.decision_function(X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        return self.svc_.predict(X)


class RBFNetwork(ClassifierMixin, BaseEstimator):
    """Radial basis functions around `centres` k-means centres, weighted by ridge regression.

    0 `centres` puts one on every image; with `alpha`, the ridge penalty, near 0 the network then
    interpolates the training images.
    """

    def __init__(
        self, centres: int = 100, gamma_scale: float = 1.0, alpha: float = 0.01, seed: int = 0
    ) -> None:
        self.centres = centres
        self.gamma_scale = gamma_scale
        self.alpha = alpha
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> RBFNetwork:
        """Fits (images, features) to class numbers.

        Raises DarkroomError for more than 20,000 images with a centre on each.
        """
        X = np.asarray(X, np.float64)
        self.classes_, codes = np.unique(y, return_inverse=True)
        targets = -np.ones((len(X), len(self.classes_)))
        targets[np.arange(len(X)), codes] = 1.0
        self.gamma_ = self.gamma_scale * median_gamma(X, seed=self.seed)
        self.n_features_in_ = X.shape[1]
        if self.centres:
            kmeans = KMeans(min(self.centres, len(X)), n_init=1, random_state=self.seed)
            self.centres_ = kmeans.fit(X).cluster_centers_
            kernel = self._kernel(X)  # (images, centres)
            squares = kernel.T @ kernel + self.alpha * np.eye(kernel.shape[1])
            self.weights_ = linalg.solve(squares, kernel.T @ targets, assume_a="pos")
            return self
        if len(X) > _MAX_IMAGES:
            raise DarkroomError(
                f"An RBF network around every image takes at most {_MAX_IMAGES:,} images, because "
                f"its matrix is quadratic in them. Received: {len(X):,}. Use rbf_network, which "
                "finds centres by k-means."
            )
        self.centres_ = X
        self.weights_ = linalg.solve(
            self._kernel(X) + self.alpha * np.eye(len(X)), targets, assume_a="pos", overwrite_a=True
        )
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Returns (images, classes), or (images,) for two classes: above 0 is the second."""
        outputs = self._kernel(np.asarray(X, np.float64)) @ self.weights_
        return (outputs[:, 1] - outputs[:, 0]) / 2 if outputs.shape[1] == 2 else outputs

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        outputs = self.decision_function(X)
        chosen = outputs.argmax(axis=1) if outputs.ndim == 2 else (outputs > 0).astype(int)
        return self.classes_[chosen]

    def _kernel(self, X: np.ndarray) -> np.ndarray:
        return np.exp(-self.gamma_ * euclidean_distances(X, self.centres_, squared=True))


class MLP(ClassifierMixin, BaseEstimator):
    """Dense layers of `hidden_layers` units with softmax: scikit-learn's network, for all `epochs`.

    `optimizer` is `adam`, or `sgd` with Nesterov `momentum`. After `fit`, `coefs_` and
    `intercepts_` hold the weights of each layer, and `history_` one row an epoch if validation
    images were given.
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
    ) -> MLP:
        """Trains on (images, features) and class numbers; `validation` is only evaluated."""
        X = np.asarray(X, np.float32)
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        self.history_: list[dict[str, float]] = []
        network = MLPClassifier(
            self.hidden_layers,
            activation=self.activation,
            solver=self.optimizer,
            alpha=self.l2,
            batch_size=min(self.batch_size, len(X)),
            learning_rate_init=self.learning_rate,
            momentum=self.momentum,
            random_state=np.random.RandomState(self.seed),  # a number would order all epochs alike
        )
        for epoch in range(1, self.epochs + 1):
            network.partial_fit(X, y, classes=self.classes_)
            self.coefs_, self.intercepts_ = network.coefs_, network.intercepts_
            if validation is not None:
                row = {"epoch": epoch, **self._scores(X, y)}
                scores = self._scores(*validation)
                self.history_.append(row | {f"val_{name}": scores[name] for name in scores})
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Returns float32 (images, classes)."""
        values = np.asarray(X, np.float32)
        for weights, bias in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            values = values @ weights + bias
            values = np.tanh(values) if self.activation == "tanh" else np.maximum(values, 0)
        outputs = values @ self.coefs_[-1] + self.intercepts_[-1]
        if outputs.shape[1] == 1:  # of two classes the second
            outputs = np.hstack([np.zeros_like(outputs), outputs])
        return special.softmax(outputs, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _scores(self, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
        shares = self.predict_proba(X)
        codes = np.searchsorted(self.classes_, y)
        of_truth = np.maximum(shares[np.arange(len(y)), codes], np.finfo(np.float32).tiny)
        accuracy = (shares.argmax(axis=1) == codes).mean()
        return {"loss": float(-np.log(of_truth).mean()), "accuracy": float(accuracy)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a model; those of earlier versions had all weights in one array."""
        self.__dict__.update(state)
        if (flat := self.__dict__.pop("weights_", None)) is None:
            return
        self.coefs_, self.intercepts_ = [], []
        for inputs, units in itertools.pairwise(self.sizes_):
            weights, bias, flat = np.split(flat, [inputs * units, (inputs + 1) * units])
            self.coefs_.append(weights.reshape(inputs, units))
            self.intercepts_.append(bias)


class LinearSVM(LinearSVC):
    """The linear SVM of models that earlier versions have saved."""
