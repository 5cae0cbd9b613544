"""The table of baseline models, and fitting one of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl
from scipy import optimize, special
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from lib.baselines import estimators
from lib.baselines.data import Part, parse_sizes
from lib.errors import DarkroomError, suggest

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
    if name not in MODELS:
        raise DarkroomError(
            f"There is no thumbnail model {name!r}. There are: "
            f"{', '.join(MODELS)}.{suggest(name, list(MODELS))}"
        )
    return MODELS[name]


def parameter_grid(name: str, values: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Returns the values to try, `values` in place of the defaults.

    Raises DarkroomError for a parameter or value that the model does not have.
    """
    default, own = model_type(name).grid, {}
    for parameter, choices in (values or {}).items():
        if parameter not in default:
            known = f"It has: {', '.join(default)}." if default else "It has none."
            raise DarkroomError(
                f"{name} has no parameter {parameter!r}. {known}{suggest(parameter, list(default))}"
            )
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
    elif val is not None and isinstance(model, estimators.MLP):
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
        lambda seed, **values: estimators.MLP(seed=seed, **values),
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
        lambda seed, **values: estimators.RBFNetwork(seed=seed, **values),
        {"centres": [50, 200], "gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "rbf_exact": ModelType(
        "radial basis functions around every image",
        lambda seed, **values: estimators.RBFNetwork(seed=seed, centres=0, **values),
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
        lambda seed, **values: estimators.KernelSVM(kernel="rbf", seed=seed, **values),
        {"C": [0.5, 1.0, 2.0, 5.0], "gamma_scale": [0.5, 1.0, 2.0]},
    ),
    "svm_poly": ModelType(
        "SVM with a polynomial kernel",
        lambda seed, **values: estimators.KernelSVM(kernel="poly", seed=seed, **values),
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
