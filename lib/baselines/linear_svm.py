"""A linear SVM, one class against the rest, by Newton's method in the primal along a path of C.

Kept instead of `LinearSVC`: over 40 values of C it needs a tenth of the CPU time (benchmarks), and
it has a hard margin. It minimises the same function, |w|²/2 + C Σ max(0, 1 - y f)² with the bias
among the weights, to the same tolerance. The squared hinge is a parabola over the images within the
margin, so a step is one linear solve, and the weights of one C are a few steps from the next.

Source: Keerthi and DeCoste, JMLR 6 (2005); Chapelle, Neural Computation 19 (2007).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, ClassifierMixin

_MAX_STEPS = 200
_HARD_C = 1e8  # as hard a margin as 64-bit numbers allow
_SLACK = 1e-3  # by how much a hard margin may be missed
_REMAINING, _START_C = 0.9, 100.0


class LinearSVM(ClassifierMixin, BaseEstimator):
    """A linear SVM with soft margin `C`, or a hard margin if `C` is infinite.

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
        came, went = self.images[inside & ~self.inside], self.images[self.inside & ~inside]
        if len(came) + len(went) < inside.sum():
            self.squares += came.T @ came - went.T @ went
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
    """How far to go: the first of 1, ½, ¼, … at which the objective has fallen enough; 0 where none
    has.
    """
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
