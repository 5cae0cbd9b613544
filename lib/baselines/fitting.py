"""The table of baseline models, and fitting one of them or a path of values.

`MODELS` holds each model with the values that are searched by default.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from lib.baselines import estimators
from lib.baselines.data import Part, parse_sizes
from lib.errors import DarkroomError, suggest

_MIN_PROBABILITY = 1e-7
_TEMPERATURES = (1e-3, 1e3)
_MAX_UNITS = 100_000
_CHOICES = {
    "optimizer": ("adam", "sgd"),
    "activation": ("relu", "tanh"),
    "weights": ("uniform", "distance"),
}


@dataclass(frozen=True)
class ModelType:
    """One type of model. `build(seed=…, **parameters)` makes it.

    `grid` holds every parameter with its default values. Fits along the parameter `path` continue
    from one another, so many of its values cost little more than one. `uses_processes` is true for
    pure Python code, which threads would run one after the other.
    """

    title: str
    build: Callable[..., Any]
    grid: dict[str, list[Any]]
    path: str | None = None
    uses_processes: bool = False


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
    """Returns one fitted model; with `val`, networks record its loss after every epoch."""
    values = [parameters.get(model_type(name).path)]
    return fit_path(name, parameters, values, train, seed=seed, val=val)[0]


def fit_path(
    name: str,
    parameters: Mapping[str, Any],
    values: Sequence[Any],
    train: Part,
    *,
    seed: int,
    val: Part | None = None,
) -> list[Fit]:
    """Returns a fitted model for each of `values` of the model's path parameter, in their order.

    The pipelines standardise pixels by the mean and deviation of the train split.
    """
    kind, start = model_type(name), time.perf_counter()
    scaler = StandardScaler().fit(train.X)
    scaled = Part(scaler.transform(train.X), train.y)
    rest = {key: _cast(value) for key, value in parameters.items() if key != kind.path}
    scaling_s = time.perf_counter() - start
    # Several BLAS threads on such small matrices wait for each other longer than they compute.
    with threadpoolctl.threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if train.y.ndim == 2:
            fits = [
                _fit_multilabel(kind, {**rest, **_path_value(kind, value)}, scaled, seed)
                for value in values
            ]
        elif kind.path == "epochs":
            scaled_val = None if val is None else (scaler.transform(val.X), val.y)
            fits = _fit_epochs(kind, rest, values, scaled, seed, scaled_val)
        elif name == "svm_linear":
            fits = _fit_costs(values, scaled)
        else:
            fits = _fit_each(kind, rest, values, scaled, seed)
    return [
        Fit(
            Pipeline([("scale", scaler), ("model", model)]),
            {**parameters, **_path_value(kind, value)},
            round(seconds + scaling_s, 4),
            converged,
        )
        for value, (model, seconds, converged) in zip(values, fits, strict=True)
    ]


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
    from scipy.optimize import minimize_scalar

    if hasattr(pipeline, "predict_proba"):
        return 1.0
    logits = outputs(pipeline, val.X)
    low, high = map(math.log, _TEMPERATURES)
    best = minimize_scalar(
        lambda value: log_loss(logits, val.y, math.exp(value)), bounds=(low, high), method="bounded"
    )
    return float(math.exp(best.x))


def probabilities(
    logits: np.ndarray, temperature: float, *, multilabel: bool = False
) -> np.ndarray:
    """Returns float32 (images, classes): softmax of logits / temperature, or sigmoids."""
    scaled = logits / temperature
    if multilabel:
        return (1 / (1 + np.exp(-np.clip(scaled, -60, 60)))).astype(np.float32)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def is_correct(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns bool (images,): whether the predicted class, or the whole set of labels, is true."""
    return ((logits > 0) == y).all(axis=1) if y.ndim == 2 else logits.argmax(axis=1) == y


def log_loss(logits: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """Returns the mean log loss; over all image-class pairs if multilabel."""
    shares = probabilities(logits, temperature, multilabel=y.ndim == 2).astype(np.float64)
    of_truth = np.where(y, shares, 1 - shares) if y.ndim == 2 else shares[np.arange(len(y)), y]
    return float(-np.log(np.maximum(of_truth, _MIN_PROBABILITY)).mean())


_Fitted = tuple[Any, float, bool]  # the model, its seconds, whether it converged


def _path_value(kind: ModelType, value: Any) -> dict[str, Any]:
    return {} if kind.path is None else {kind.path: value}


def _fit_each(
    kind: ModelType, rest: dict[str, Any], values: Sequence[Any], part: Part, seed: int
) -> list[_Fitted]:
    """Fits small values first; a model with `warm_start` continues from the previous weights."""
    fits: dict[int, _Fitted] = {}
    previous = None
    for index in sorted(range(len(values)), key=lambda index: values[index] or 0):
        start = time.perf_counter()
        model = kind.build(seed=seed, **rest, **_path_value(kind, values[index]))
        if previous is not None and getattr(model, "warm_start", False):
            fitted = {key: value for key, value in vars(previous).items() if key.endswith("_")}
            vars(model).update(fitted)
        model.fit(part.X, part.y)
        fits[index] = (model, time.perf_counter() - start, _converged(model))
        previous = model
    return [fits[index] for index in range(len(values))]


def _converged(model: Any) -> bool:
    steps, most = getattr(model, "n_iter_", None), getattr(model, "max_iter", None)
    if steps is None or most is None or not hasattr(model, "tol"):
        return bool(getattr(model, "converged_", True))
    return bool(np.max(steps) < most)


def _fit_costs(values: Sequence[float], part: Part) -> list[_Fitted]:
    start = time.perf_counter()
    models = estimators.fit_path(part.X, part.y, values)
    seconds = (time.perf_counter() - start) / len(values)
    return [(model, seconds, model.converged_) for model in models]


def _fit_epochs(
    kind: ModelType,
    rest: dict[str, Any],
    values: Sequence[int],
    part: Part,
    seed: int,
    val: tuple | None,
) -> list[_Fitted]:
    start = time.perf_counter()
    model = kind.build(seed=seed, epochs=max(values), **rest)
    model.fit(part.X, part.y, validation=val, snapshot_epochs=values)
    epoch_s = (time.perf_counter() - start) / max(values)
    return [(model.at_epoch(value), epoch_s * value, True) for value in values]


def _fit_multilabel(kind: ModelType, parameters: dict[str, Any], part: Part, seed: int) -> _Fitted:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Label .* is present in all training", UserWarning)
        model = OneVsRestClassifier(kind.build(seed=seed, **parameters))
        model.fit(part.X, part.y.astype(np.int64))
    converged = all(_converged(estimator) for estimator in model.estimators_)
    return model, time.perf_counter() - start, converged


def _cast(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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


def _majority(*, seed: int) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def _least_squares(*, seed: int, alpha: float) -> Any:
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(alpha=alpha, solver="svd")


def _logistic(*, seed: int, C: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, max_iter=2000, warm_start=True)


def _perceptron(*, seed: int, l2: float) -> Any:
    from sklearn.linear_model import Perceptron

    return Perceptron(penalty="l2", alpha=l2, random_state=seed, max_iter=200)


def _rbf_exact(*, seed: int, **parameters: Any) -> Any:
    return estimators.RBFNetwork(seed=seed, centres=0, **parameters)


def _svm_linear(*, seed: int, C: float) -> Any:
    return estimators.LinearSVM(C=C)


def _svm_hard(*, seed: int) -> Any:
    return estimators.LinearSVM(C=math.inf)


def _svm_rbf(*, seed: int, **parameters: Any) -> Any:
    return estimators.KernelSVM(kernel="rbf", seed=seed, **parameters)


def _svm_poly(*, seed: int, **parameters: Any) -> Any:
    return estimators.KernelSVM(kernel="poly", seed=seed, **parameters)


def _boosting(*, seed: int, **parameters: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **parameters)


def _neighbours(*, seed: int, neighbours: int, weights: str) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(neighbours, weights=weights)


MODELS = {
    "majority": ModelType("always the most frequent class of train", _majority, {}),
    "least_squares": ModelType(
        "linear regression on classes of 1 and -1", _least_squares, {"alpha": [0.0, 100.0, 10000.0]}
    ),
    "logistic": ModelType(
        "linear classifier with softmax",
        _logistic,
        {"C": [0.00001, 0.0001, 0.001, 0.01]},
        path="C",
    ),
    "perceptron": ModelType(
        "linear classifier, Rosenblatt's rule", _perceptron, {"l2": [0.00001, 0.001]}
    ),
    "mlp": ModelType(
        "dense layers",
        estimators.MLP,
        {
            "hidden_layers": [[8], [32], [16, 16]],
            "learning_rate": [0.001],
            "epochs": [50, 200],
            "batch_size": [200],
            "optimizer": ["adam"],
            "activation": ["relu"],
            "l2": [0.0001],
        },
        path="epochs",
        uses_processes=True,
    ),
    "rbf_network": ModelType(
        "radial basis functions around k-means centres",
        estimators.RBFNetwork,
        {"centres": [50, 200], "gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "rbf_exact": ModelType(
        "radial basis functions around every image",
        _rbf_exact,
        {"gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "svm_linear": ModelType(
        "linear SVM, soft margin",
        _svm_linear,
        {"C": [0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1]},
        path="C",
    ),
    "svm_hard": ModelType("linear SVM, hard margin", _svm_hard, {}),
    "svm_rbf": ModelType(
        "SVM with a radial kernel",
        _svm_rbf,
        {"C": [0.5, 1.0, 2.0, 5.0], "gamma_scale": [0.5, 1.0, 2.0]},
    ),
    "svm_poly": ModelType(
        "SVM with a polynomial kernel",
        _svm_poly,
        {"C": [0.1, 1.0, 10.0], "gamma_scale": [1.0], "degree": [2, 3]},
    ),
    "boosting": ModelType(
        "gradient-boosted trees on histograms",
        _boosting,
        {"max_iter": [100], "learning_rate": [0.1], "max_leaf_nodes": [8, 31]},
    ),
    "neighbours": ModelType(
        "nearest training images",
        _neighbours,
        {"neighbours": [1, 5, 15, 45], "weights": ["distance"]},
    ),
}
