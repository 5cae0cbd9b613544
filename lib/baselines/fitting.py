"""One fit, or a path of fits that go on from one another, with what each says of train and
validation images.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from lib.baselines import linear_svm, table
from lib.baselines.data import Part

_SMALLEST = 1e-7
_HOTTEST = (1e-3, 1e3)


@dataclass(frozen=True)
class Fit:
    """A fitted pipeline, what it took, and whether its optimiser came to its end."""

    pipeline: Pipeline
    parameters: dict[str, Any]
    seconds: float
    converged: bool


def fit(
    kind: str, parameters: Mapping[str, Any], train: Part, *, seed: int, val: Part | None = None
) -> Fit:
    """Returns one model of the table, fitted; where `val` is given, networks note its loss after
    every epoch.
    """
    return along(
        kind, parameters, [parameters.get(table.get(kind).path)], train, seed=seed, val=val
    )[0]


def along(
    kind: str,
    parameters: Mapping[str, Any],
    values: Sequence[Any],
    train: Part,
    *,
    seed: int,
    val: Part | None = None,
) -> list[Fit]:
    """Returns a model for each of `values` of the kind's path parameter, in their order.

    The images are standardised by the train split's mean and deviation, inside the pipeline that
    comes back.
    """
    chosen, began = table.get(kind), time.perf_counter()
    scaler = StandardScaler().fit(train.X)
    part = Part(scaler.transform(train.X), train.y)
    rest = chosen.settings(
        {name: value for name, value in parameters.items() if name != chosen.path}
    )
    shared = time.perf_counter() - began
    # These matrices are small: more threads of BLAS on one of them wait for each other longer than
    # they work.
    with threadpoolctl.threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if train.y.ndim == 2:
            found = [
                _several(chosen, {**rest, **_at(chosen, value)}, part, seed) for value in values
            ]
        elif chosen.path == "epochs":
            seen = None if val is None else (scaler.transform(val.X), val.y)
            found = _epochs(chosen, rest, values, part, seed, seen)
        elif kind == "svm_linear":
            found = _costs(values, part)
        else:
            found = _each(chosen, rest, values, part, seed)
    return [
        Fit(
            Pipeline([("scale", scaler), ("model", model)]),
            {**parameters, **_at(chosen, value)},
            round(spent + shared, 4),
            ended,
        )
        for value, (model, spent, ended) in zip(values, found, strict=True)
    ]


def outputs(pipeline: Pipeline, X: np.ndarray) -> np.ndarray:
    """Returns float64 (images, classes): logarithms of probabilities where the model has them, else
    its decision values.
    """
    if hasattr(pipeline, "predict_proba"):
        found = np.clip(np.asarray(pipeline.predict_proba(X), np.float64), _SMALLEST, 1 - _SMALLEST)
        several = isinstance(pipeline[-1], OneVsRestClassifier) and pipeline[-1].multilabel_
        return np.log(found) - (np.log1p(-found) if several else 0)
    found = np.asarray(pipeline.decision_function(X), np.float64)
    return found if found.ndim == 2 else np.stack([-found / 2, found / 2], axis=1)


def temperature(pipeline: Pipeline, val: Part) -> float:
    """Returns by what the outputs are to be divided, so that validation's log loss is least; 1
    where they are probabilities.
    """
    from scipy.optimize import minimize_scalar

    if hasattr(pipeline, "predict_proba"):
        return 1.0
    found = outputs(pipeline, val.X)
    lowest, highest = map(math.log, _HOTTEST)
    best = minimize_scalar(
        lambda heat: log_loss(found, val.y, math.exp(heat)),
        bounds=(lowest, highest),
        method="bounded",
    )
    return float(math.exp(best.x))


def probabilities(found: np.ndarray, temperature: float, *, several: bool = False) -> np.ndarray:
    """Returns float32 (images, classes): softmax of the outputs at that temperature, or a sigmoid
    each for several classes.
    """
    values = found / temperature
    if several:
        return (1 / (1 + np.exp(-np.clip(values, -60, 60)))).astype(np.float32)
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return (values / values.sum(axis=1, keepdims=True)).astype(np.float32)


def right(found: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns bool (images,): whether the class said is the true one; with several, whether all
    said are just the true ones.
    """
    return ((found > 0) == y).all(axis=1) if y.ndim == 2 else found.argmax(axis=1) == y


def log_loss(found: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """Returns the mean negative logarithm of the truth's probability; over all image-class pairs
    for several classes.
    """
    stated = probabilities(found, temperature, several=y.ndim == 2).astype(np.float64)
    of_truth = np.where(y, stated, 1 - stated) if y.ndim == 2 else stated[np.arange(len(y)), y]
    return float(-np.log(np.maximum(of_truth, _SMALLEST)).mean())


_Found = tuple[Any, float, bool]  # the model, its seconds, whether its optimiser came to its end


def _at(chosen: table.Kind, value: Any) -> dict[str, Any]:
    return {} if chosen.path is None else {chosen.path: value}


def _each(
    chosen: table.Kind, rest: dict[str, Any], values: Sequence[Any], part: Part, seed: int
) -> list[_Found]:
    """Fits one value after the other, small ones first; a model that starts warm keeps its weights
    in between.
    """
    found: dict[int, _Found] = {}
    last = None
    for place in sorted(range(len(values)), key=lambda place: values[place] or 0):
        began = time.perf_counter()
        model = chosen.build(seed=seed, **rest, **_at(chosen, values[place]))
        if last is not None and getattr(model, "warm_start", False):
            model.__dict__.update(
                {name: value for name, value in last.__dict__.items() if name.endswith("_")}
            )
        model.fit(part.X, part.y)
        last, spent = model, time.perf_counter() - began
        found[place] = (model, spent, _ended(model))
    return [found[place] for place in range(len(values))]


def _ended(model: Any) -> bool:
    steps, most = getattr(model, "n_iter_", None), getattr(model, "max_iter", None)
    if steps is None or most is None or not hasattr(model, "tol"):
        return bool(getattr(model, "converged_", True))
    return bool(np.max(steps) < most)


def _costs(values: Sequence[float], part: Part) -> list[_Found]:
    began = time.perf_counter()
    models = linear_svm.path(part.X, part.y, values)
    share = (time.perf_counter() - began) / len(values)
    return [(model, share, model.converged_) for model in models]


def _epochs(
    chosen: table.Kind,
    rest: dict[str, Any],
    values: Sequence[int],
    part: Part,
    seed: int,
    val: tuple | None,
) -> list[_Found]:
    began = time.perf_counter()
    model = chosen.build(seed=seed, epochs=max(values), **rest).fit(
        part.X, part.y, validation=val, marks=values
    )
    spent = (time.perf_counter() - began) / max(values)
    return [(model.at(value), spent * value, True) for value in values]


def _several(chosen: table.Kind, parameters: dict[str, Any], part: Part, seed: int) -> _Found:
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Label .* is present in all training examples", UserWarning
        )
        model = OneVsRestClassifier(chosen.build(seed=seed, **parameters)).fit(
            part.X, part.y.astype(np.int64)
        )
    return model, time.perf_counter() - began, all(_ended(each) for each in model.estimators_)
