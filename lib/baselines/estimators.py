"""The table of baseline models, fitting one of them, and the estimators that scikit-learn lacks."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl
from scipy import linalg, optimize, special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from lib.baselines.data import Part, parse_sizes
from lib.errors import DarkroomError, check_choice

_MIN_PROBABILITY = 1e-7
_TEMPERATURES = (1e-3, 1e3)
_MAX_UNITS = 100_000
_HARD_MARGIN = 1e8
"""The cost of an image inside the margin, as high as 64-bit numbers allow."""
_CHOICES = {
    "optimizer": ("adam", "sgd"),
    "activation": ("relu", "tanh"),
    "weights": ("uniform", "distance"),
}


@dataclass(frozen=True)
class ModelType:
    """One type of model: `build(seed, **parameters)` makes it, `grid` holds every parameter with
    the values that are searched by default.
    """

    title: str
    build: Callable[..., Any]
    grid: dict[str, list[Any]]


@dataclass(frozen=True)
class Fit:
    """A fitted pipeline, the seconds it took, and whether its optimizer converged."""

    pipeline: Pipeline
    parameters: dict[str, Any]
    seconds: float
    converged: bool


def model_type(name: str) -> ModelType:
    """Returns a type of model by its name. Raises DarkroomError if there is none."""
    check_choice("classifier", name, MODELS)
    return MODELS[name]


def parameter_grid(name: str, values: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Returns the values to try, `values` in place of the defaults.

    Raises DarkroomError for a parameter or value that the model does not have.
    """
    default, own = model_type(name).grid, {}
    for parameter, choices in (values or {}).items():
        check_choice("parameter", parameter, default, where=name)
        own[parameter] = choices if isinstance(choices, list) else [choices]
        for value in own[parameter]:
            _check_value(name, parameter, value, default[parameter][0])
    return default | own


def check_parameters(values: Mapping[str, Any]) -> None:
    """Raises DarkroomError for sizes or a grid of `5_thumbnails` that cannot be fitted."""
    parse_sizes(values["sizes"])
    parameter_grid(values["classifier"], values["grid"])


def fit(
    name: str, parameters: Mapping[str, Any], train: Part, *, seed: int, val: Part | None = None
) -> Fit:
    """Returns one fitted model; with `val`, networks record its loss after every epoch.

    The pipeline standardises pixels by the mean and deviation of the train split.
    """
    start = time.perf_counter()
    scaler = StandardScaler().fit(train.X)
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()
    }
    model, y, options = model_type(name).build(seed, **values), train.y, {}
    if y.ndim == 2:
        model, y = OneVsRestClassifier(model), y.astype(np.int64)
    elif val is not None and isinstance(model, MLP):
        options["validation"] = scaler.transform(val.X), val.y
    # Several BLAS threads on such small matrices wait for each other longer than they compute.
    with threadpoolctl.threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Label .* is present in all training", UserWarning)
        model.fit(scaler.transform(train.X), y, **options)
    return Fit(
        Pipeline([("scale", scaler), ("model", model)]),
        dict(parameters),
        round(time.perf_counter() - start, 4),
        all(map(_converged, getattr(model, "estimators_", [model]))),
    )


def _converged(model: Any) -> bool:
    iterates = isinstance(model, LogisticRegression | Perceptron | LinearSVC)
    return not iterates or bool(np.max(model.n_iter_) < model.max_iter)


def outputs(pipeline: Pipeline, X: np.ndarray) -> np.ndarray:
    """Returns float64 (images, classes): log probabilities if the model has them, else decisions.

    For a multilabel model they are logits, or decision values, of each class.
    """
    if hasattr(pipeline, "predict_proba"):
        shares = np.asarray(pipeline.predict_proba(X), np.float64)
        shares = np.clip(shares, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        multilabel = isinstance(pipeline[-1], OneVsRestClassifier) and pipeline[-1].multilabel_
        return np.log(shares) - (np.log1p(-shares) if multilabel else 0)
    decisions = np.asarray(pipeline.decision_function(X), np.float64)
    if decisions.ndim == 2:
        return decisions
    return np.stack([-decisions / 2, decisions / 2], axis=1)


def fit_temperature(pipeline: Pipeline, val: Part) -> float:
    """Returns the temperature with the least log loss on validation; 1 for probabilities."""
    if hasattr(pipeline, "predict_proba"):
        return 1.0
    logits = outputs(pipeline, val.X)
    low, high = map(math.log, _TEMPERATURES)
    best = optimize.minimize_scalar(
        lambda value: log_loss(logits, val.y, math.exp(value)), bounds=(low, high), method="bounded"
    )
    return float(math.exp(best.x))


def probabilities(
    logits: np.ndarray, temperature: float, *, multilabel: bool = False
) -> np.ndarray:
    """Returns float32 (images, classes): softmax of logits / temperature, or sigmoids."""
    scaled = logits / temperature
    if multilabel:
        return special.expit(scaled).astype(np.float32)
    return special.softmax(scaled, axis=1).astype(np.float32)


def is_correct(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns bool (images,): whether the predicted class, or the whole set of labels, is true."""
    return ((logits > 0) == y).all(axis=1) if y.ndim == 2 else logits.argmax(axis=1) == y


def log_loss(logits: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """Returns the mean log loss; over all image-class pairs if multilabel."""
    shares = probabilities(logits, temperature, multilabel=y.ndim == 2).astype(np.float64)
    of_truth = np.where(y, shares, 1 - shares) if y.ndim == 2 else shares[np.arange(len(y)), y]
    return float(-np.log(np.maximum(of_truth, _MIN_PROBABILITY)).mean())


def _check_value(name: str, parameter: str, value: Any, example: Any) -> None:
    is_integer = type(value) is int
    if isinstance(example, list):
        units = value if isinstance(value, list) else []
        valid = bool(units) and all(type(n) is int and 1 <= n <= _MAX_UNITS for n in units)
        expected = "a list of units a layer, such as [16, 16]"
    elif type(example) is int:
        valid, expected = is_integer and value >= 1, "a whole number of at least 1"
    elif isinstance(example, float):
        low = 0 if parameter in ("alpha", "l2") else math.ulp(0.0)
        valid = (is_integer or isinstance(value, float)) and low <= value < math.inf
        expected = f"a finite number {'of at least' if low == 0 else 'above'} 0"
    else:
        valid = value in _CHOICES[parameter]
        expected = f"one of {', '.join(map(str, _CHOICES[parameter]))}"
    if not valid:
        raise DarkroomError(f"`{parameter}` of {name} must be {expected}. Received: {value!r}.")


def _linear_svm(cost: float) -> LinearSVC:
    return LinearSVC(C=cost, dual=False, tol=1e-3, max_iter=1000)


MODELS = {
    "majority": ModelType(
        "always the most frequent class of train",
        lambda seed: DummyClassifier(strategy="prior"),
        {},
    ),
    "least_squares": ModelType(
        "linear regression on classes of 1 and -1",
        lambda seed, alpha: RidgeClassifier(alpha=alpha, solver="svd"),
        {"alpha": [0.0, 100.0, 10000.0]},
    ),
    "logistic": ModelType(
        "linear classifier with softmax",
        lambda seed, C: LogisticRegression(C=C, max_iter=2000),
        {"C": [0.00001, 0.0001, 0.001, 0.01]},
    ),
    "perceptron": ModelType(
        "linear classifier, Rosenblatt's rule",
        lambda seed, l2: Perceptron(penalty="l2", alpha=l2, random_state=seed, max_iter=200),
        {"l2": [0.00001, 0.001]},
    ),
    "mlp": ModelType(
        "dense layers",
        lambda seed, **values: MLP(seed=seed, **values),
        {
            "hidden_layers": [[8], [32], [16, 16]],
            "learning_rate": [0.001],
            "epochs": [50, 200],
            "batch_size": [200],
            "optimizer": ["adam"],
            "activation": ["relu"],
            "l2": [0.0001],
        },
    ),
    "rbf_network": ModelType(
        "radial basis functions around k-means centres",
        lambda seed, **values: RBFNetwork(seed=seed, **values),
        {"centres": [50, 200], "gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "rbf_exact": ModelType(
        "radial basis functions around every image",
        lambda seed, **values: RBFNetwork(seed=seed, centres=0, **values),
        {"gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "svm_linear": ModelType(
        "linear SVM, soft margin",
        lambda seed, C: _linear_svm(C),
        {"C": [0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1]},
    ),
    "svm_hard": ModelType("linear SVM, hard margin", lambda seed: _linear_svm(_HARD_MARGIN), {}),
    "svm_rbf": ModelType(
        "SVM with a radial kernel",
        lambda seed, **values: KernelSVM(kernel="rbf", seed=seed, **values),
        {"C": [0.5, 1.0, 2.0, 5.0], "gamma_scale": [0.5, 1.0, 2.0]},
    ),
    "svm_poly": ModelType(
        "SVM with a polynomial kernel",
        lambda seed, **values: KernelSVM(kernel="poly", seed=seed, **values),
        {"C": [0.1, 1.0, 10.0], "gamma_scale": [1.0], "degree": [2, 3]},
    ),
    "boosting": ModelType(
        "gradient-boosted trees on histograms",
        lambda seed, **values: HistGradientBoostingClassifier(
            random_state=seed, early_stopping=False, **values
        ),
        {"max_iter": [100], "learning_rate": [0.1], "max_leaf_nodes": [8, 31]},
    ),
    "neighbours": ModelType(
        "nearest training images",
        lambda seed, neighbours, weights: KNeighborsClassifier(neighbours, weights=weights),
        {"neighbours": [1, 5, 15, 45], "weights": ["distance"]},
    ),
}


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
