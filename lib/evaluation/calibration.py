"""Metrics of probabilities: proper scores, reliability, temperature, thresholds, and ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation.predictions import Predictions, blocks, probability_columns

NUM_BINS = 15
CONFIDENCE = 0.95
"""With which a threshold keeps its promise."""
_SMALLEST = float(np.finfo(np.float32).tiny)


def log_loss(predictions: Predictions) -> float:
    """The mean negative logarithm of the true class's probability, in nats; the same clipping as
    scikit-learn's.
    """
    of_truth = _of_truth(predictions).astype(np.float64)
    smallest = np.finfo(np.float32).eps  # scikit-learn clips by the dtype of the probabilities
    return float(-np.log(np.clip(of_truth, smallest, 1 - smallest)).mean())


def brier(predictions: Predictions) -> float:
    """The mean over images of the summed squared differences to the one-hot truth, 0 (perfect) to
    2.

    Source: Brier, Monthly Weather Review 78 (1950), equation 2 (the original, which sums over the
        classes).
    """
    squares = sum(
        float(np.einsum("ij,ij->", block, block, dtype=np.float64))
        for _, block in blocks(predictions.probabilities)
    )
    return squares / len(predictions) - 2 * float(_of_truth(predictions).mean(dtype=np.float64)) + 1


def reliability(predictions: Predictions, *, num_bins: int = NUM_BINS) -> pd.DataFrame:
    """One row a bin of the top probability: `low`, `high`, `num`, `confidence`, `accuracy` (NaN
    where empty).
    """
    certain, right = certainty(predictions)
    bins, edges = _bins(certain, num_bins), _edges(num_bins)
    num, confidence, accuracy = (
        np.bincount(bins, weights, minlength=num_bins) for weights in (None, certain, right)
    )
    columns = {"low": edges[:-1], "high": edges[1:], "num": num}
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(columns | {"confidence": confidence / num, "accuracy": accuracy / num})


def _edges(num_bins: int) -> np.ndarray:
    return np.linspace(0, 1, num_bins + 1)


def _bins(certain: np.ndarray, num_bins: int) -> np.ndarray:
    edges = _edges(num_bins)
    return np.clip(np.searchsorted(edges, certain, side="left") - 1, 0, num_bins - 1)  # (low, high]


def calibration_error(predictions: Predictions, *, num_bins: int = NUM_BINS) -> float:
    """The expected calibration error: the mean gap between top probability and accuracy over bins,
    weighted by images.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    bins = reliability(predictions, num_bins=num_bins).dropna()
    return float(np.average((bins["confidence"] - bins["accuracy"]).abs(), weights=bins["num"]))


def temperature(validation: Predictions) -> float:
    """The temperature that makes the validation log loss smallest, 0.05 to 20; above 1 the model
    was too sure.

    Works from probabilities: dividing logits by T is raising probabilities to 1/T and summing them
    to 1 again. Where validation has no error at all the smallest loss would be reached by being
    ever surer; then it is 1. Source: Guo et al. (2017), section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    _must_be_probabilities(validation, "A temperature")
    if (validation.predicted == validation.truth).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        total = 0.0
        for start, block in blocks(validation.probabilities):
            logits = log_softmax(_logarithm(block) / np.exp(log_temperature), axis=1)
            truth = validation.truth[start : start + len(block)]
            total -= float(logits[np.arange(len(block)), truth].sum())
        return total / len(validation)

    bounds = np.log([0.05, 20])
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def scaled(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions at another temperature; the predicted classes stay, their probabilities
    change.
    """
    _must_be_probabilities(predictions, "A temperature")
    if temperature == 1:
        return predictions
    columns = probability_columns(predictions.class_names)
    values = pd.DataFrame(at_temperature(predictions.probabilities, temperature), columns=columns)
    rest = predictions.frame.drop(columns=columns).reset_index(drop=True)
    return replace(predictions, frame=pd.concat([rest, values], axis=1))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """float32 (n, classes): probabilities as they are at another temperature; the order within a
    row stays.
    """
    from scipy.special import softmax

    return softmax(_logarithm(probabilities) / temperature, axis=1).astype(np.float32)


def risk_coverage(predictions: Predictions) -> pd.DataFrame:
    """Accuracy and risk if only the most confident images are answered, one row a threshold.

    Columns `threshold`, `coverage`, `num`, `accuracy`, `risk`, all 0 to 1 but `num`.

    Images of equal confidence are answered together, for no threshold can tell them apart.
    """
    confidence, correct = certainty(predictions)
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], np.cumsum(correct[order])
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))  # of each confidence
    num, accuracy = last + 1, right[last] / (last + 1)
    columns = {"threshold": confidence[last], "coverage": num / len(order), "num": num}
    return pd.DataFrame(columns | {"accuracy": accuracy, "risk": 1 - accuracy})


def threshold(
    validation: Predictions, *, accuracy: float, confidence: float = CONFIDENCE
) -> dict[str, float] | None:
    """The lowest probability from which on answers are promised to reach `accuracy`.

    Thresholds are tested from the most confident images down, and the search stops at the first
    whose lower confidence bound (Clopper and Pearson) misses the target: with probability
    `confidence` the accuracy on new images of this kind is then at least the target. Where there
    are images enough, half of the error goes to a second search that starts at the most confident
    quarter, so that one early mistake does not end everything. Images of one group count as one.
    Returns `threshold`, its `coverage` and `accuracy` on validation and the bound, `low`; None
    where validation is too small, or too often wrong, to promise anything.

    Source: Angelopoulos et al., Learn then Test (2021), section 4.2 (fixed sequence testing).
    """
    if not 0 < accuracy <= 1:
        raise DarkroomError(f"`accuracy` must lie in (0, 1]. Received: {accuracy}.")
    curve, num_groups = risk_coverage(validation), len(np.unique(validation.groups))
    scale, quarter = num_groups / len(validation), num_groups // 4
    starts, level = [images_needed(accuracy, confidence)], confidence
    half = 1 - (1 - confidence) / 2
    if quarter >= 2 * images_needed(accuracy, half):
        starts, level = [images_needed(accuracy, half), quarter], half
    chosen = None
    for start in starts:
        for row in _candidates(curve, start / scale).to_dict("records"):
            low = lower_bound(scale * row["num"] * row["accuracy"], scale * row["num"], level)
            if low < accuracy:
                break
            if chosen is None or row["threshold"] < chosen["threshold"]:
                chosen = {name: float(row[name]) for name in ("threshold", "coverage", "accuracy")}
                chosen["low"] = low
    return chosen


def lower_bound(num_right: float, num: float, confidence: float = CONFIDENCE) -> float:
    """The one-sided lower confidence bound of a proportion.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    from scipy.special import betaincinv

    if num_right <= 0:
        return 0.0
    return float(betaincinv(num_right, num - num_right + 1, 1 - confidence))


def images_needed(accuracy: float, confidence: float = CONFIDENCE) -> int:
    """Number of validation images, all correct, needed to promise an accuracy."""
    return int(np.ceil(np.log(1 - confidence) / np.log(accuracy))) if accuracy < 1 else 10**9


def _candidates(curve: pd.DataFrame, start: float) -> pd.DataFrame:
    # Steps of five per cent of the images, from `start` images on, in the order of testing.
    enough = curve[curve["num"] >= start - 1e-9]
    if enough.empty:
        return enough
    num = int(curve["num"].iloc[-1])
    steps = np.unique(np.append(np.arange(enough["num"].iloc[0], num, max(1, num // 20)), num))
    places = np.searchsorted(enough["num"].to_numpy(), steps, side="right") - 1
    return enough.iloc[np.unique(places)]


def useful_temperature(validation: Predictions) -> float:
    """The temperature of the whole validation split where a temperature helps, else 1.

    It helps where temperatures chosen on either half lower the log loss and the calibration error
    of the other half. Groups of images stay together.
    """
    _, group = np.unique(validation.groups, return_inverse=True)
    half = np.random.default_rng(0).permutation(int(group.max()) + 1)[group] % 2 == 0
    if half.all() or not half.any():
        return 1.0
    parts = [replace(validation, frame=validation.frame[side]) for side in (half, ~half)]
    before, after = [], []
    for chosen_on, judged_on in (parts, parts[::-1]):
        changed = scaled(judged_on, temperature(chosen_on))
        before.append((log_loss(judged_on), calibration_error(judged_on)))
        after.append((log_loss(changed), calibration_error(changed)))
    is_better = (np.mean(after, axis=0) < np.mean(before, axis=0)).all()
    return temperature(validation) if is_better else 1.0


def advice(
    predictions: Predictions, *, targets: Sequence[float] = (0.9, 0.95, 0.99)
) -> dict[str, Any]:
    """Calibration of probabilities, chosen on validation and measured on test.

    Plain values for `result.json`: `temperature` (see `useful_temperature`); test's
    `calibration_error` and `calibration_error_scaled` at that temperature; `num_validation` images;
    `thresholds`, one entry for each target that can be promised: `target_accuracy`, `threshold` (of
    the scaled probability), and the `coverage` and `accuracy` it has on test (`accuracy` None where
    no test image is that sure); and `not_promised`, the other targets. Of several classes an image
    also `class_thresholds`; confidence and accuracy are then those of the whole set of classes.
    """
    values: dict[str, Any]
    if predictions.kind == "multilabel":
        limits = map(float, predictions.label_thresholds)
        named = dict(zip(predictions.class_names, limits, strict=True))
        val, test = (predictions.split(split) for split in ("val", "test"))
        values = {"temperature": 1.0, "class_thresholds": named}
    else:
        chosen = useful_temperature(predictions.split("val"))
        val, test = (scaled(predictions.split(split), chosen) for split in ("val", "test"))
        values = {
            "temperature": chosen,
            "calibration_error": calibration_error(predictions.split("test")),
            "calibration_error_scaled": calibration_error(test),
        }
    values |= {"num_validation": len(val), "thresholds": [], "not_promised": []}
    confidence, correct = certainty(test)
    for accuracy in targets:
        promised = threshold(val, accuracy=accuracy)
        if promised is None:
            values["not_promised"].append(accuracy)
            continue
        sure = confidence >= promised["threshold"]
        reached = float(correct[sure].mean()) if sure.any() else None
        row = {"target_accuracy": accuracy, "threshold": promised["threshold"]}
        values["thresholds"].append(row | {"coverage": float(sure.mean()), "accuracy": reached})
    return values


def certainty(part: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the probability of what is predicted, and whether that is correct; of several
    labels, of the whole set of them.
    """
    if part.kind != "multilabel":
        return part.confidence, part.predicted == part.truth
    shares = np.where(part.present, part.probabilities, 1 - part.probabilities)
    return shares.prod(axis=1), (part.present == part.truths).all(axis=1)


def squared_calibration_error(
    predictions: Predictions, *, num_bins: int = NUM_BINS
) -> tuple[float, np.ndarray, float]:
    """Returns the mean squared gap between probability and accuracy without the bias of few images,
    below 0 where chance makes it so; the influence of each image on it, float64 (n,); and the
    variance that influences leave out, as they vanish where the probabilities are right.

    Source: Kumar, Liang and Ma, Verified Uncertainty Calibration (2019), section 4.
    """
    certain, right = certainty(predictions)
    bins, gaps = _bins(certain, num_bins), certain.astype(np.float64) - right
    num, gap, accuracy = (np.bincount(bins, each, num_bins) for each in (None, gaps, right))
    total = num[num > 1].sum()
    if not total:
        return float("nan"), np.zeros(len(gaps)), 0.0
    share = np.where(num > 1, num, 0) / total  # (bins,)
    gap, accuracy = gap / np.maximum(num, 1), accuracy / np.maximum(num, 1)
    noise = accuracy * (1 - accuracy) / np.maximum(num - 1, 1)
    biased = float(share @ gap**2)
    slopes = np.where(share > 0, 1, 0)[bins] * (2 * gap[bins] * gaps - gap[bins] ** 2 - biased)
    return biased - float(share @ noise), slopes / total, 2 * float(share**2 @ noise**2)


def _of_truth(predictions: Predictions) -> np.ndarray:
    return predictions.probabilities[np.arange(len(predictions)), predictions.truth]


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _SMALLEST).astype(np.float64))


def _must_be_probabilities(predictions: Predictions, what: str) -> None:
    if predictions.kind != "probability":
        raise DarkroomError(
            f"{what} needs rows of kind probability. Received: {predictions.kind!r} "
            f"({predictions.run})."
        )


def areas(predictions: Predictions) -> pd.DataFrame:
    """`roc_auc` and `average_precision` of each class against the rest; NaN where all images or
    none are of it.

    scikit-learn's definitions (a test holds that they agree), computed from one sort a class: a
    positive's rank among all gives both, which is ten times faster at a million images and 200
    classes.
    """
    rows = []
    for index in range(len(predictions.class_names)):
        scores = np.ascontiguousarray(predictions.probabilities[:, index])
        rows.append(_of_one(scores, predictions.truths[:, index]))
    names = pd.Index(predictions.class_names, name="class")
    return pd.DataFrame(rows, columns=["roc_auc", "average_precision"], index=names)


def counts_at_thresholds(
    predictions: Predictions, index: int, thresholds: np.ndarray
) -> pd.DataFrame:
    """One row a threshold: how the class at `index` against the rest falls when probabilities at or
    above it say yes.

    Columns `threshold true_positives false_positives true_negatives false_negatives precision
    recall`; precision is 1 where no image is predicted as the class.
    """
    scores, positive = predictions.probabilities[:, index], predictions.truths[:, index]
    predicted = [
        len(values) - np.searchsorted(np.sort(values), thresholds, "left")
        for values in (scores[positive], scores)
    ]
    hits, positives = (values.astype(np.float64) for values in predicted)
    num_positive = int(positive.sum())
    false = positives - hits
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "true_positives": hits,
            "false_positives": false,
            "true_negatives": len(scores) - num_positive - false,
            "false_negatives": num_positive - hits,
            "precision": np.divide(hits, positives, out=np.ones_like(hits), where=positives > 0),
            "recall": hits / max(1, num_positive),
        }
    )


def top_k(predictions: Predictions, k: int) -> float:
    """The share of images whose true class is among the `k` most probable; equal probabilities rank
    by class order.
    """
    if not 1 <= k <= len(predictions.class_names):
        raise DarkroomError(
            f"`k` must be 1 to {len(predictions.class_names)}, the number of classes. Received: "
            f"{k}."
        )
    return float((_places(predictions) < k).mean())


def _of_one(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    num, num_positive = len(scores), int(positive.sum())
    if num_positive == 0:
        return float("nan"), float("nan")
    ordered, mine = np.sort(scores), np.sort(scores[positive])
    below, not_above = (np.searchsorted(ordered, mine, side) for side in ("left", "right"))
    own_below, own_not_above = (np.searchsorted(mine, mine, side) for side in ("left", "right"))
    precision = float(((num_positive - own_below) / (num - below)).mean())
    if num_positive == num:
        return float("nan"), precision
    others = (below - own_below + not_above - own_not_above) / 2  # ties count half
    return float(others.mean() / (num - num_positive)), precision


def _places(predictions: Predictions) -> np.ndarray:
    places = []
    classes = np.arange(len(predictions.class_names))
    for start, block in blocks(predictions.probabilities):
        truth = predictions.truth[start : start + len(block), None]  # (rows, 1)
        of_truth = np.take_along_axis(block, truth, axis=1)
        before = (block > of_truth) | ((block == of_truth) & (classes < truth))
        places.append(before.sum(axis=1))
    return np.concatenate(places)
