"""The table of models: what each is, how it is made, and which values are tried when nobody says
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.errors import DarkroomError, suggest


@dataclass(frozen=True)
class Kind:
    """One kind of model. `build(seed=…, **parameters)` makes it; `grid` holds every parameter with
    the values tried.

    Along the parameter `path` fits go on from one another, so many of its values cost little more
    than one. `processes` says that its work is Python's own, which threads would do one after the
    other.
    """

    about: str
    build: Callable[..., Any]
    grid: dict[str, list[Any]]
    path: str | None = None
    processes: bool = False

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `parameters` in the types of the grid; the hard margin's C is infinite."""
        return {name: _typed(value) for name, value in parameters.items()}


def get(name: str) -> Kind:
    """Returns a kind by its name. Raises DarkroomError with the table's names when there is none."""
    if name not in KINDS:
        raise DarkroomError(
            f"There is no thumbnail model {name!r}. There are: "
            f"{', '.join(KINDS)}.{suggest(name, list(KINDS))}"
        )
    return KINDS[name]


def grid(name: str, wished: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Returns the values to try, those wished in place of the table's. Raises DarkroomError for
    what the kind has not.
    """
    own, found = get(name).grid, {}
    for parameter, values in (wished or {}).items():
        if parameter not in own:
            has = f"It has: {', '.join(own)}." if own else "It has none."
            raise DarkroomError(
                f"{name} has no parameter {parameter!r}. {has}{suggest(parameter, list(own))}"
            )
        values = values if isinstance(values, list) else [values]
        for value in values:
            _refuse(name, parameter, value, own[parameter][0])
        found[parameter] = values
    return {parameter: found.get(parameter, values) for parameter, values in own.items()}


def _refuse(name: str, parameter: str, value: Any, example: Any) -> None:
    if isinstance(example, list):
        right = (
            isinstance(value, list)
            and value
            and all(type(each) is int and 1 <= each <= 100_000 for each in value)
        )
        expected = "a list of units a layer, such as [16, 16]"
    elif type(example) is int:
        right, expected = type(value) is int and value >= 1, "a whole number from 1 on"
    elif isinstance(example, float):
        lowest = 0 if parameter in ("alpha", "l2") else math.ulp(0.0)
        right = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and lowest <= value < math.inf
        )
        expected = "a finite number, 0 or more" if lowest == 0 else "a finite number above 0"
    else:
        choices = _CHOICES[parameter]
        right, expected = value in choices, f"one of {', '.join(map(str, choices))}"
    if not right:
        raise DarkroomError(f"`{parameter}` of {name} must be {expected}. Received: {value!r}.")


def _typed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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


def _mlp(*, seed: int, **parameters: Any) -> Any:
    from lib.baselines.networks import MLP

    return MLP(seed=seed, **parameters)


def _rbf_network(*, seed: int, **parameters: Any) -> Any:
    from lib.baselines.kernels import RBFNetwork

    return RBFNetwork(seed=seed, **parameters)


def _rbf_exact(*, seed: int, **parameters: Any) -> Any:
    return _rbf_network(seed=seed, centres=0, **parameters)


def _svm_linear(*, seed: int, C: float) -> Any:
    from lib.baselines.linear_svm import LinearMargin

    return LinearMargin(C=C)


def _svm_hard(*, seed: int) -> Any:
    return _svm_linear(seed=seed, C=math.inf)


def _svm_rbf(*, seed: int, **parameters: Any) -> Any:
    from lib.baselines.kernels import KernelSVM

    return KernelSVM(kernel="rbf", seed=seed, **parameters)


def _svm_poly(*, seed: int, **parameters: Any) -> Any:
    from lib.baselines.kernels import KernelSVM

    return KernelSVM(kernel="poly", seed=seed, **parameters)


def _boosting(*, seed: int, **parameters: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **parameters)


def _neighbours(*, seed: int, neighbours: int, weights: str) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(neighbours, weights=weights)


_CHOICES = {
    "optimizer": ("adam", "sgd"),
    "activation": ("relu", "tanh"),
    "weights": ("uniform", "distance"),
}

KINDS = {
    "majority": Kind("always the largest class of train: the floor", _majority, {}),
    "least_squares": Kind(
        "linear regression on the classes as 1 and -1",
        _least_squares,
        {"alpha": [0.0, 100.0, 10000.0]},
    ),
    "logistic": Kind(
        "linear classifier, softmax", _logistic, {"C": [0.00001, 0.0001, 0.001, 0.01]}, path="C"
    ),
    "perceptron": Kind(
        "linear classifier, Rosenblatt's rule", _perceptron, {"l2": [0.00001, 0.001]}
    ),
    "mlp": Kind(
        "dense layers",
        _mlp,
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
        processes=True,
    ),
    "rbf_network": Kind(
        "radial functions around k-means centres, then least squares",
        _rbf_network,
        {"centres": [50, 200], "gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "rbf_exact": Kind(
        "radial functions around every image, then least squares",
        _rbf_exact,
        {"gamma_scale": [0.5, 1.0, 2.0], "alpha": [0.1]},
    ),
    "svm_linear": Kind(
        "linear SVM, soft margin",
        _svm_linear,
        {"C": [0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1]},
        path="C",
    ),
    "svm_hard": Kind("linear SVM, hard margin", _svm_hard, {}),
    "svm_rbf": Kind(
        "SVM with radial kernel",
        _svm_rbf,
        {"C": [0.5, 1.0, 2.0, 5.0], "gamma_scale": [0.5, 1.0, 2.0]},
    ),
    "svm_poly": Kind(
        "SVM with polynomial kernel",
        _svm_poly,
        {"C": [0.1, 1.0, 10.0], "gamma_scale": [1.0], "degree": [2, 3]},
    ),
    "boosting": Kind(
        "gradient-boosted trees on histograms",
        _boosting,
        {"max_iter": [100], "learning_rate": [0.1], "max_leaf_nodes": [8, 31]},
    ),
    "neighbours": Kind(
        "the nearest training images",
        _neighbours,
        {"neighbours": [1, 5, 15, 45], "weights": ["distance"]},
    ),
}
