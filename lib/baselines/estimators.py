"""Estimators that scikit-learn lacks or has slower: SVMs, RBF networks, a multilayer perceptron."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC

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
        copied = self._kernel(np.asarray(X, np.float64)) @ self.weights_
        return (copied[:, 1] - copied[:, 0]) / 2 if copied.shape[1] == 2 else copied

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        copied = self.decision_function(X)
        return self.classes_[
            (copied > 0).astype(int) if copied.ndim == 1 else copied.argmax(axis=1)
        ]

    def _kernel(self, X: np.ndarray) -> np.ndarray:
        return np.exp(-self.gamma_ * euclidean_distances(X, self.centres_, squared=True))


_Layer = tuple[np.ndarray, np.ndarray]  # weights (inputs, units), bias (units,)


class MLP(ClassifierMixin, BaseEstimator):
    """Dense layers of `hidden_layers` units with softmax, trained for `epochs` in float32.

    Computes what `MLPClassifier` computes without early stopping. Kept because a step on a few
    hundred inputs takes a third of its CPU time (benchmarks), and it records validation losses.
    `optimizer` is `adam`, or `sgd` with Nesterov `momentum`. After `fit`, `history_` has one row an
    epoch if validation images were given, `snapshots_` the weights after `snapshot_epochs`.
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
        snapshot_epochs: Sequence[int] = (),
    ) -> MLP:
        """Trains on (images, features) and class numbers; `validation` is only evaluated."""
        X = np.ascontiguousarray(X, np.float32)
        self.classes_, codes = np.unique(y, return_inverse=True)
        rng = np.random.default_rng(self.seed)
        self.sizes_ = [X.shape[1], *map(int, self.hidden_layers), len(self.classes_)]
        self.weights_ = self._initial_weights(rng)
        self.n_features_in_ = X.shape[1]
        self.history_: list[dict[str, float]] = []
        self.snapshots_: dict[int, np.ndarray] = {}
        trainer = _Trainer(self, X, codes)
        for epoch in range(1, self.epochs + 1):
            loss, num_correct = trainer.epoch(rng)
            if validation is not None:
                row = {"epoch": epoch, "loss": loss / len(X), "accuracy": num_correct / len(X)}
                self.history_.append(row | self._validate(*validation))
            if epoch in snapshot_epochs:
                self.snapshots_[epoch] = self.weights_.copy()
        return self

    def at_epoch(self, epoch: int) -> MLP:
        """Returns the network as it was after one of the snapshot epochs."""
        copied = copy.copy(self)
        copied.weights_, copied.epochs, copied.snapshots_ = self.snapshots_[epoch], epoch, {}
        copied.history_ = self.history_[:epoch]
        return copied

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Returns float32 (images, classes)."""
        return _softmax(self._outputs(np.asarray(X, np.float32)))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        return self.classes_[self._outputs(np.asarray(X, np.float32)).argmax(axis=1)]

    def layers(self, flat: np.ndarray | None = None) -> list[_Layer]:
        """Returns weights and bias of each layer as views of `flat`, by default all weights."""
        flat, copied, start = self.weights_ if flat is None else flat, [], 0
        for inputs, units in zip(self.sizes_[:-1], self.sizes_[1:], strict=True):
            middle, end = start + inputs * units, start + (inputs + 1) * units
            copied.append((flat[start:middle].reshape(inputs, units), flat[middle:end]))
            start = end
        return copied

    def _initial_weights(self, rng: np.random.Generator) -> np.ndarray:
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

    def _validate(self, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
        outputs = self._outputs(np.asarray(X, np.float32))
        codes = np.searchsorted(self.classes_, y)
        losses = _log_sum(outputs) - outputs[np.arange(len(y)), codes]
        return {
            "val_loss": float(losses.mean()),
            "val_accuracy": float((outputs.argmax(axis=1) == codes).mean()),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the snapshots."""
        return {**self.__dict__, "snapshots_": {}}


class _Trainer:
    """The arrays of a training, allocated once, because small steps would spend their time on it.

    All weights lie in one array, so that a step of the optimizer is four calls for any depth.
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
        loss, num_correct = 0.0, 0
        for batch in self._batches(rng):
            X = np.take(self.X, batch, axis=0, out=self.images[: len(batch)], mode="clip")
            batch_result = self._gradients(X, self.codes[batch])
            loss, num_correct = loss + batch_result[0], num_correct + batch_result[1]
            self._step(len(batch))
        return loss, num_correct

    def _batches(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        order = rng.permutation(len(self.X))
        for start in range(0, len(order), self.size):
            yield order[start : start + self.size]

    def _gradients(self, X: np.ndarray, codes: np.ndarray) -> tuple[float, int]:
        tanh, inputs = self.model.activation == "tanh", [X]
        for weights, bias in self.layers[:-1]:
            values = inputs[-1] @ weights
            values += bias
            inputs.append(
                np.tanh(values, out=values) if tanh else np.maximum(values, 0, out=values)
            )
        outputs = inputs[-1] @ self.layers[-1][0]
        outputs += self.layers[-1][1]
        places = np.arange(len(X)), codes
        num_correct = int((outputs.argmax(axis=1) == codes).sum())
        outputs -= outputs.max(axis=1, keepdims=True)
        at_truth = outputs[places].sum()
        error = np.exp(outputs, out=outputs)
        total = error.sum(axis=1, keepdims=True)
        loss = float(np.log(total).sum() - at_truth)
        error /= total
        error[places] -= 1
        error /= len(X)
        for place in range(len(self.layers) - 1, -1, -1):
            np.matmul(inputs[place].T, error, out=self.gradients[place][0])
            np.sum(error, axis=0, out=self.gradients[place][1])
            if place:
                error = error @ self.layers[place][0].T
                error *= 1 - inputs[place] ** 2 if tanh else inputs[place] > 0
        return loss, num_correct

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
    copied = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return copied / copied.sum(axis=1, keepdims=True)


_MAX_STEPS = 200
_HARD_C = 1e8  # as hard a margin as 64-bit numbers allow
_SLACK = 1e-3  # by how much a hard margin may be missed
_REMAINING, _START_C = 0.9, 100.0


class LinearSVM(ClassifierMixin, BaseEstimator):
    """A linear SVM with soft margin `C`, or a hard margin if `C` is infinite.

    Minimises the function of `LinearSVC`, |w|²/2 + C Σ max(0, 1 - y f)², by Newton's method in the
    primal, where a step is one linear solve. Kept because over 40 values of C it needs a tenth of
    the CPU time (benchmarks), and it has a hard margin.

    Source: Keerthi and DeCoste, JMLR 6 (2005); Chapelle, Neural Computation 19 (2007).

    After `fit`, `coef_` (classes, features) and `intercept_` (classes,) have one row for two
    classes, as in scikit-learn. `separable_` (rows,) tells which rows have all training images
    outside the margin, `converged_` whether all rows reached `tol`.
    """

    def __init__(self, C: float = 1.0, tol: float = 1e-4) -> None:
        self.C = C
        self.tol = tol

    def fit(self, X: np.ndarray, y: np.ndarray) -> LinearSVM:
        """Fits (images, features) to class numbers."""
        fitted = fit_path(X, y, [self.C], tol=self.tol)[0]
        self.__dict__.update(fitted.__dict__)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Returns (images, classes), or (images,) for two classes: above 0 is the second."""
        models = X @ self.coef_.T + self.intercept_
        return models[:, 0] if len(self.coef_) == 1 else models

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        models = self.decision_function(X)
        return self.classes_[
            (models > 0).astype(int) if models.ndim == 1 else models.argmax(axis=1)
        ]


def fit_path(
    X: np.ndarray, y: np.ndarray, costs: Sequence[float], *, tol: float = 1e-4
) -> list[LinearSVM]:
    """Returns a fitted model for each C of `costs`, each started from the next smaller one."""
    order = np.argsort(costs, kind="stable")
    classes = np.unique(y)
    problem = _Problem(np.hstack([np.asarray(X, np.float64), np.ones((len(X), 1))]))
    models = [LinearSVM(C=cost, tol=tol) for cost in costs]
    for model in models:
        model.classes_, model.converged_ = classes, True
        model.n_features_in_ = X.shape[1]
    rows: list[list[np.ndarray]] = [[] for _ in costs]
    separable: list[list[bool]] = [[] for _ in costs]
    for positive in classes if len(classes) > 2 else classes[1:]:
        signs = np.where(y == positive, 1.0, -1.0)
        weights = np.zeros(problem.images.shape[1])
        for index in order:
            hard, before = np.isinf(costs[index]), np.inf
            for cost in _ladder(costs[index]):
                weights, converged = problem.solve(signs, cost, weights, tol)
                missed = 1 - signs * (problem.images @ weights)
                outside, loss = (
                    bool((missed <= _SLACK).all()),
                    float((np.maximum(missed, 0) ** 2).sum()),
                )
                # Ten times the cost leaves a hundredth of the loss if the classes are separable,
                # and all of it otherwise.
                if hard and (outside or loss > _REMAINING * before):
                    break
                before = loss if cost >= _START_C else np.inf
            models[index].converged_ &= converged or hard
            rows[index].append(weights)
            separable[index].append(outside)
    for model, fitted_rows, outside in zip(models, rows, separable, strict=True):
        stacked = np.array(fitted_rows)
        model.coef_, model.intercept_, model.separable_ = (
            stacked[:, :-1],
            stacked[:, -1],
            np.array(outside),
        )
    return models


def _ladder(cost: float) -> list[float]:
    return (
        [cost]
        if np.isfinite(cost)
        else [float(power) for power in 10.0 ** np.arange(0, np.log10(_HARD_C) + 1)]
    )


class _Problem:
    """The images with a column of ones, and their products, which all classes and C share.

    Between two steps, and from one C to the next, few images cross the margin, so the products of
    features of those inside are updated by the images that crossed.
    """

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        num, features = images.shape
        self.kernel = images @ images.T if num <= 2 * features else None
        self.inside = np.ones(num, bool)
        self.squares = images.T @ images if num >= features else None  # of the images `inside`

    def solve(
        self, signs: np.ndarray, cost: float, weights: np.ndarray, tol: float
    ) -> tuple[np.ndarray, bool]:
        """Returns the weights of the minimum, and whether liblinear's tolerance was reached."""
        outputs = self.images @ weights
        rarer = min(int((signs > 0).sum()), int((signs < 0).sum()))
        initial = 2 * cost * np.linalg.norm(signs @ self.images)  # gradient norm at weights of 0
        goal = tol * max(rarer, 1) / len(signs) * initial
        for _ in range(_MAX_STEPS):
            inside = signs * outputs < 1
            gradient = weights - 2 * cost * ((signs - outputs)[inside] @ self.images[inside])
            if np.linalg.norm(gradient) <= goal:
                return weights, True
            step = self._minimum(signs, cost, inside) - weights
            along = self.images @ step
            length = _length(signs, outputs, along, cost, (weights @ step, step @ step))
            if length == 0:  # no way down within the precision of the numbers
                return weights, True
            weights, outputs = weights + length * step, outputs + length * along
        return weights, False

    def _minimum(self, signs: np.ndarray, cost: float, inside: np.ndarray) -> np.ndarray:
        """The weights that were best if exactly the images `inside` the margin counted."""
        some = self.images[inside]
        num, features = some.shape
        if num <= features:  # the smaller system
            kernel = some @ some.T if self.kernel is None else self.kernel[np.ix_(inside, inside)]
            kernel[np.diag_indices_from(kernel)] += 1 / (2 * cost)
            return linalg.solve(kernel, signs[inside], assume_a="pos", overwrite_a=True) @ some
        system = 2 * cost * self._squares_of(inside)
        system[np.diag_indices_from(system)] += 1
        return linalg.solve(
            system, 2 * cost * (signs[inside] @ some), assume_a="pos", overwrite_a=True
        )

    def _squares_of(self, inside: np.ndarray) -> np.ndarray:
        added, removed = self.images[inside & ~self.inside], self.images[self.inside & ~inside]
        if len(added) + len(removed) < inside.sum():
            self.squares += added.T @ added - removed.T @ removed
        else:
            some = self.images[inside]
            self.squares = some.T @ some
        self.inside = inside
        return self.squares


def _length(
    signs: np.ndarray,
    outputs: np.ndarray,
    along: np.ndarray,
    cost: float,
    squares: tuple[float, float],
) -> float:
    """Step size: the first of 1, ½, ¼, … that decreases the objective enough; 0 if none does."""
    slope_of_weights, square_of_step = squares
    gap = 1 - signs * outputs
    before = cost * (np.maximum(gap, 0) ** 2).sum()
    slope = slope_of_weights - 2 * cost * (np.maximum(gap, 0) @ (signs * along))
    length = 1.0
    for _ in range(40):
        after = cost * (np.maximum(gap - length * signs * along, 0) ** 2).sum()
        change = after - before + length * slope_of_weights + 0.5 * length**2 * square_of_step
        if change <= 1e-4 * length * slope:
            return length
        length /= 2
    return 0.0
