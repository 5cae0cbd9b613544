"""Linear classifiers on stored features, selected on validation.

Three kinds, each at several strengths of regularisation: linear discriminant analysis with a
shrunken covariance, multinomial logistic regression, and a linear SVM (squared hinge, one class
against the rest). All are one kernel and one bias, so the chosen one becomes the last layer of a
network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas
from scipy import linalg, optimize

from lib.errors import DarkroomError, check_choice

SHRINKAGES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
_MAX_STEPS = 60


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier: `features @ kernel + bias` are logits whose softmax is calibrated.

    `strength` is its regularisation: the shrinkage of `lda`, the L2 penalty of the others.
    `temperature` is already inside kernel and bias.
    """

    kind: str
    strength: float
    temperature: float
    kernel: np.ndarray
    """(features, classes)"""
    bias: np.ndarray
    """(classes,)"""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes)."""
        return (features @ self.kernel + self.bias).astype(np.float32)


def select(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    num_classes: int,
    kinds: Sequence[str] = ("lda", "logistic", "svm"),
    balanced: bool = False,
) -> tuple[LinearHead, pandas.DataFrame]:
    """Returns the head with the smallest validation log loss after its temperature, and all that
    were tried.

    Args:
        train: features (n, d) and class numbers (n,).
        val: the same of the validation split; it also decides the temperature.
        num_classes: how many classes there are, whether or not all occur.
        kinds: which of `KINDS` compete.
        balanced: whether every class counts alike, however many images it has.

    Returns:
        The head, and one row a candidate: `kind`, `strength`, `loss`, `accuracy`, `val_loss`,
        `val_accuracy`, in the order in which they were fitted.

    Raises:
        DarkroomError: for an unknown kind, or a train split that lacks a class.
    """
    for kind in kinds:
        check_choice("kinds", kind, KINDS)
    problem = _Problem.of(*train, num_classes=num_classes, balanced=balanced)
    best, best_loss, rows = None, np.inf, []
    for kind in kinds:
        lowest = np.inf
        for strength, kernel, bias in KINDS[kind](problem):
            head = _calibrated(kind, strength, problem.unscaled(kernel, bias), val)
            row = {"kind": kind, "strength": strength}
            for prefix, (features, labels) in (("", train), ("val_", val)):
                logits = head.logits(features)
                row[f"{prefix}loss"] = log_loss(logits, labels)
                row[f"{prefix}accuracy"] = float((logits.argmax(axis=1) == labels).mean())
            rows.append(row)
            if row["val_loss"] < best_loss:
                best, best_loss = head, row["val_loss"]
            if row["val_loss"] > lowest:
                break  # weaker ones overfit more and take longest
            lowest = row["val_loss"]
    return best, pandas.DataFrame(rows)


def refit(
    head: LinearHead,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    balanced: bool = False,
) -> LinearHead:
    """Returns the same kind and strength, fitted to other images; the temperature stays."""
    problem = _Problem.of(features, labels, num_classes=num_classes, balanced=balanced)
    fits = KINDS[head.kind](problem, strengths=(head.strength,))
    kernel, bias = problem.unscaled(*next(iter(fits))[1:])
    return replace(head, kernel=kernel / head.temperature, bias=bias / head.temperature)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature, 0.05 to 20, of the smallest log loss; 1 where none is wrong."""
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    best = optimize.minimize_scalar(
        lambda log: log_loss(logits / np.exp(log), labels),
        bounds=np.log([0.05, 20]),
        method="bounded",
    )
    return float(np.exp(best.x))


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean cross-entropy of the softmax of `logits` (n, classes), in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_truth).mean())


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation (d,) of features (n, d) in float64.

    The deviation is at least a thousandth of the largest, and 1e-4 of the feature's mean: what
    varies less is rounding in float32, and a head that magnified it would answer by chance.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    return mean, np.maximum(std, np.maximum(1e-3 * std.max(initial=1e-12), 1e-4 * np.abs(mean)))


@dataclass(frozen=True)
class _Problem:
    """Standardised features (n, d) in float32, class numbers, and one weight an image."""

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    """(n,), with mean 1"""
    num_classes: int
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(
        cls, features: np.ndarray, labels: np.ndarray, *, num_classes: int, balanced: bool
    ) -> _Problem:
        counts = np.bincount(labels, minlength=num_classes)
        if (counts == 0).any():
            raise DarkroomError(
                f"The train split has no image of class number {int(counts.argmin())}; a linear "
                "head needs images of every class."
            )
        weights = (
            (len(labels) / (num_classes * counts))[labels] if balanced else np.ones(len(labels))
        )
        mean, std = moments(features)
        scaled = ((features - mean) / std).astype(np.float32)
        return cls(scaled, labels, weights.astype(np.float32), num_classes, mean, std)

    def unscaled(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernel and bias for the features as they came."""
        kernel = kernel / self.std[:, None]
        return kernel, bias - self.mean @ kernel


_Fits = Iterator[tuple[float, np.ndarray, np.ndarray]]


def _lda(problem: _Problem, strengths: Sequence[float] = SHRINKAGES) -> _Fits:
    """Source: Friedman, Regularized Discriminant Analysis (1989), with one pooled covariance."""
    x, y = problem.features, problem.labels
    share = np.bincount(y, problem.weights, minlength=problem.num_classes) / len(y)  # (classes,)
    means = np.stack([x[y == number].mean(axis=0) for number in range(problem.num_classes)])
    centred = (x - means[y]) * np.sqrt(problem.weights)[:, None]
    covariance = centred.T @ centred / len(y)  # (d, d)
    level = np.trace(covariance) / len(covariance) + 1e-6
    for strength in strengths:
        shrunken = (1 - strength) * covariance
        shrunken[np.diag_indices_from(shrunken)] += strength * level
        kernel = linalg.cho_solve(
            linalg.cho_factor(shrunken, overwrite_a=True, check_finite=False), means.T
        )
        yield strength, kernel, np.log(share) - (means * kernel.T).sum(axis=1) / 2


def _logistic(problem: _Problem, strengths: Sequence[float] = PENALTIES) -> _Fits:
    hot = np.eye(problem.num_classes, dtype=np.float32)[problem.labels]

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        losses = log_sum[:, 0] - (shifted * hot).sum(axis=1)
        return float(losses @ problem.weights), (np.exp(shifted - log_sum) - hot) * problem.weights[
            :, None
        ]

    yield from _by_gradient(problem, strengths, loss)


def _svm(problem: _Problem, strengths: Sequence[float] = PENALTIES) -> _Fits:
    signs = 2 * np.eye(problem.num_classes, dtype=np.float32)[problem.labels] - 1

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        short = np.maximum(0, 1 - signs * logits)  # (n, classes)
        weights = problem.weights[:, None]
        return float((weights * short**2).sum()), -2 * weights * signs * short

    yield from _by_gradient(problem, strengths, loss)


def _by_gradient(
    problem: _Problem,
    strengths: Sequence[float],
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]],
) -> _Fits:
    """Minimises mean loss + penalty · |kernel|² / 2 by L-BFGS; each strength starts from the one
    before.
    """
    x = problem.features
    n, d = x.shape
    flat = np.zeros((d + 1) * problem.num_classes)

    def objective(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        weights = flat.reshape(d + 1, -1).astype(np.float32)
        value, slope = loss(x @ weights[:-1] + weights[-1])
        gradient = np.vstack([x.T @ slope / n + penalty * weights[:-1], slope.sum(axis=0) / n])
        return value / n + penalty * float((weights[:-1] ** 2).sum()) / 2, gradient.ravel().astype(
            np.float64
        )

    for penalty in strengths:
        result = optimize.minimize(
            objective,
            flat,
            args=(penalty,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MAX_STEPS},
        )
        flat = result.x
        weights = flat.reshape(d + 1, -1)
        yield penalty, weights[:-1].copy(), weights[-1].copy()


KINDS: dict[str, Callable[..., _Fits]] = {"lda": _lda, "logistic": _logistic, "svm": _svm}
"""Each kind yields (strength, kernel, bias), from strong regularisation to weak."""


def _calibrated(
    kind: str,
    strength: float,
    fit: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
) -> LinearHead:
    head = LinearHead(kind, strength, 1.0, *fit)
    scale = temperature(head.logits(val[0]), val[1])
    return replace(head, temperature=scale, kernel=head.kernel / scale, bias=head.bias / scale)
