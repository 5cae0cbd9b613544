"""What compares images instead of weighing pixels: kernels, the networks of radial functions, and
their width from the data.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC

from lib.errors import DarkroomError

_SAMPLE = 1000
_MOST_IMAGES = 20_000


def median_gamma(X: np.ndarray, *, seed: int = 0) -> float:
    """Returns 1 / the median squared distance of two images, over at most 1,000 of them: where
    exp(-gamma d²) tells apart.

    Source: the median heuristic; Garreau, Jitkrittum and Kanagawa, arXiv 1707.07269 (2017).
    """
    rows = np.random.default_rng(seed).permutation(len(X))[:_SAMPLE]
    squares = euclidean_distances(np.asarray(X[rows], np.float64), squared=True)[
        np.triu_indices(len(rows), 1)
    ]
    median = float(np.median(squares)) if len(squares) else 0.0
    return 1 / median if median > 0 else 1 / X.shape[1]


class KernelSVM(ClassifierMixin, BaseEstimator):
    """An SVM with the kernel `rbf`, or `poly` of a `degree`; gamma is `gamma_scale` times the
    median's.

    After `fit`: `gamma_`, and `svc_`, scikit-learn's machine.
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
    """Radial functions around `centres` k-means centres, or around every image where it is 0, then
    least squares.

    `alpha` is the ridge on the weights; with every image a centre and alpha near 0 the network goes
    through each of them.
    """

    def __init__(
        self, centres: int = 100, gamma_scale: float = 1.0, alpha: float = 0.01, seed: int = 0
    ) -> None:
        self.centres = centres
        self.gamma_scale = gamma_scale
        self.alpha = alpha
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> RBFNetwork:
        """Fits (images, features) to class numbers. Raises DarkroomError where every one of too
        many images were a centre.
        """
        X = np.asarray(X, np.float64)
        self.classes_, codes = np.unique(y, return_inverse=True)
        wanted = -np.ones((len(X), len(self.classes_)))
        wanted[np.arange(len(X)), codes] = 1.0
        self.gamma_, self.n_features_in_ = (
            self.gamma_scale * median_gamma(X, seed=self.seed),
            X.shape[1],
        )
        if self.centres:
            self.centres_ = (
                KMeans(min(self.centres, len(X)), n_init=1, random_state=self.seed)
                .fit(X)
                .cluster_centers_
            )
            seen = self._near(X)  # (images, centres)
            squares = seen.T @ seen + self.alpha * np.eye(seen.shape[1])
            self.weights_ = linalg.solve(squares, seen.T @ wanted, assume_a="pos")
            return self
        if len(X) > _MOST_IMAGES:
            raise DarkroomError(
                "An RBF network around every image needs a square of them in memory: at most "
                f"{_MOST_IMAGES:,} images. "
                f"Received: {len(X):,}. Use rbf_network, whose centres are chosen by k-means."
            )
        self.centres_ = X
        self.weights_ = linalg.solve(
            self._near(X) + self.alpha * np.eye(len(X)), wanted, assume_a="pos", overwrite_a=True
        )
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Returns (images, classes), or (images,) for two classes: above 0 is the second."""
        found = self._near(np.asarray(X, np.float64)) @ self.weights_
        return (found[:, 1] - found[:, 0]) / 2 if found.shape[1] == 2 else found

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Returns the class of each image."""
        found = self.decision_function(X)
        return self.classes_[(found > 0).astype(int) if found.ndim == 1 else found.argmax(axis=1)]

    def _near(self, X: np.ndarray) -> np.ndarray:
        return np.exp(-self.gamma_ * euclidean_distances(X, self.centres_, squared=True))
