"""The linear SVM, one class against the rest, by Newton's method in the primal, warm along a path
of C.

It minimises what LinearSVC minimises, |w|²/2 + C Σ max(0, 1 - y f)² with the bias among the
weights, to the same tolerance. The squared hinge is a parabola over the images within the margin,
so a step is one solve, and the weights of one C are a few steps from those of the next. Source:
Keerthi and DeCoste, JMLR 6 (2005); Chapelle, Neural Computation 19 (2007).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, ClassifierMixin

_MOST_STEPS = 200
_HARDEST, _SLACK = (
    1e8,
    1e-3,
)  # C at which a margin is as hard as 64-bit numbers allow, and how much it may be missed
_LEFT, _FROM = 0.9, 100.0


class LinearMargin(ClassifierMixin, BaseEstimator):
    """A linear SVM with soft margin `C`, or a hard one where `C` is infinite.

    After `fit`: `coef_` (classes, features) and `intercept_` (classes,), with one row for two
    classes as scikit-learn has it; `separable_` (rows,) says which rows have every training image
    beyond the margin; `converged_` whether all reached `tol`.
    """

    def __init__(self, C: float = 1.0, tol: float = 1e-4) -> None:
        self.C = C
        self.tol = tol

    def fit(self, X: np.ndarray, y: np.ndarray) -> LinearMargin:
        """Fits (images, features) to class numbers."""
        fitted = path(X, y, [self.C], tol=self.tol)[0]
        self.__dict__.update(fitted.__dict__)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Returns (images, classes), or (images,) for two classes: above 0 is the second."""
        found = X @ self.coef_.T + self.intercept_
        return found[:, 0] if len(self.coef_) == 1 else found

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        found = self.decision_function(X)
        return self.classes_[(found > 0).astype(int) if found.ndim == 1 else found.argmax(axis=1)]


def path(
    X: np.ndarray, y: np.ndarray, costs: Sequence[float], *, tol: float = 1e-4
) -> list[LinearMargin]:
    """Returns a fitted model for each C of `costs`, in their order; each is begun where the next
    smaller one ended.
    """
    order = np.argsort(costs, kind="stable")
    classes = np.unique(y)
    problem = _Problem(np.hstack([np.asarray(X, np.float64), np.ones((len(X), 1))]))
    found = [LinearMargin(C=cost, tol=tol) for cost in costs]
    for model in found:
        model.classes_, model.converged_ = classes, True
        model.n_features_in_ = X.shape[1]
    rows: list[list[np.ndarray]] = [[] for _ in costs]
    met: list[list[bool]] = [[] for _ in costs]
    for positive in classes if len(classes) > 2 else classes[1:]:
        signs = np.where(y == positive, 1.0, -1.0)
        weights = np.zeros(problem.images.shape[1])
        for place in order:
            hard, before = np.isinf(costs[place]), np.inf
            for cost in _ladder(costs[place]):
                weights, converged = problem.solve(signs, cost, weights, tol)
                missed = 1 - signs * (problem.images @ weights)
                beyond, loss = (
                    bool((missed <= _SLACK).all()),
                    float((np.maximum(missed, 0) ** 2).sum()),
                )
                # Ten times the cost leaves a hundredth of the loss where the classes can be parted,
                # and all of it elsewhere.
                if hard and (beyond or loss > _LEFT * before):
                    break
                before = loss if cost >= _FROM else np.inf
            found[place].converged_ &= converged or hard
            rows[place].append(weights)
            met[place].append(beyond)
    for model, each, beyond in zip(found, rows, met, strict=True):
        stacked = np.array(each)
        model.coef_, model.intercept_, model.separable_ = (
            stacked[:, :-1],
            stacked[:, -1],
            np.array(beyond),
        )
    return found


def _ladder(cost: float) -> list[float]:
    return (
        [cost]
        if np.isfinite(cost)
        else [float(each) for each in 10.0 ** np.arange(0, np.log10(_HARDEST) + 1)]
    )


class _Problem:
    """The images with a column of ones, and what all classes and C share: their products with one
    another and of features.

    Between two steps, and from one C to the next, few images cross the margin; the products of
    features of those inside are mended by what crossed.
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
        """Returns the weights of the minimum, and whether the gradient fell as far as liblinear
        asks.
        """
        outputs = self.images @ weights
        rarer = min(int((signs > 0).sum()), int((signs < 0).sum()))
        first = (
            2 * cost * np.linalg.norm(signs @ self.images)
        )  # the gradient's length at weights of 0
        goal = tol * max(rarer, 1) / len(signs) * first
        for _ in range(_MOST_STEPS):
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
