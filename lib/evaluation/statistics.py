"""Intervals: how sure a number is, given these images and these seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import analytic, bootstrap, metrics, multilabel, split_comparison
from lib.evaluation import confusion as matrices
from lib.evaluation.predictions import Predictions

DRAWS = 1000


@dataclass(frozen=True)
class Estimate:
    """A number over seeds, with both sources of its uncertainty kept apart.

    `sd` is the deviation between seeds (NaN for one). `image_low … image_high` says how far other
    images of the same kind would move the mean with these seeds; `low … high` is the interval for a
    new training on new images. `method` says how it came about.
    """

    name: str
    value: float
    low: float
    high: float
    image_low: float
    image_high: float
    sd: float
    image_error: float
    seed_error: float
    degrees_of_freedom: float
    num_seeds: int
    method: str

    @property
    def p_value(self) -> float:
        """The two-sided p that the number is 0: one minus the level of the interval that just
        reaches it.
        """
        return _p_value(abs(self.value), self.image_error, self.seed_error, self.degrees_of_freedom)


def intervals(
    predictions: Predictions, split: str, *, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """One row a headline number of one run: `value`, `low`, `high` (95 %), `method`.

    Where every image is its own group, accuracy has Wilson's interval and kappa the large-sample
    one; everything else is a percentile bootstrap, over groups where near-duplicates share one.
    """
    of_split = predictions.split(split)
    counted = metrics.confusion(of_split)
    grouped = split_comparison.has_groups(of_split)
    drawn = bootstrap.of_confusion(
        of_split.truth,
        of_split.predicted,
        groups=of_split.groups,
        num_classes=len(of_split.class_names),
        draws=draws,
        seed=seed,
    )
    rows = {}
    for name, function in matrices.HEADLINES.items():
        low, high = bootstrap.percentile_interval(drawn[name])
        method = "bootstrap over groups" if grouped else "bootstrap over images"
        if name == "accuracy" and not grouped:
            (low, high), method = (
                analytic.wilson(int(np.trace(counted)), int(counted.sum())),
                "Wilson",
            )
        if name == "kappa" and not grouped:
            (low, high), method = analytic.kappa_interval(counted), "large sample"
        if low > 1 - 1e-9:
            low, method = (
                _lowest_of_faultless(of_split, counted, name),
                "Wilson over groups" if grouped else "Wilson",
            )
        rows[name] = {"value": float(function(counted)), "low": low, "high": high, "method": method}
    return (
        pd.DataFrame(rows)
        .T.astype({"value": float, "low": float, "high": float})
        .rename_axis("metric")
    )


def headline(
    predictions: Predictions, split: str = "test", *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float | str]:
    """`metrics.summary` with `<name>_low` and `<name>_high` of each headline number and the bands
    of kappa.
    """
    if predictions.kind == "multilabel":
        return multilabel.headline(predictions.split(split), draws=draws, seed=seed)
    values: dict[str, float | str] = dict(metrics.summary(predictions, split))
    for name, row in intervals(predictions, split, draws=draws, seed=seed).iterrows():
        values |= {f"{name}_low": float(row["low"]), f"{name}_high": float(row["high"])}
    for name in ("kappa", "kappa_low", "kappa_high"):
        values[f"{name}_band"] = matrices.landis_koch(float(values[name]))
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, str) or np.isfinite(value)
    }


def over_seeds(
    runs: Sequence[Predictions],
    name: str,
    *,
    split: str = "test",
    draws: int = DRAWS,
    seed: int = 0,
    functions: Mapping[str, bootstrap.Metric] = matrices.HEADLINES,
) -> Estimate:
    """One headline number, or another of `functions` of confusion matrices, over the seeds of one
    arm.

    With the same images for every seed, the variance over images (bootstrap) and over seeds add up;
    with other images for each seed, or folds, the corrected resampled interval is taken. One seed
    has only the interval over images.
    """
    parts = [run.split(split) for run in runs]
    values = np.array([float(functions[name](metrics.confusion(part))) for part in parts])
    drawn = np.empty((draws, len(parts)))
    for index, places in enumerate(split_comparison.by_images(parts)):
        same = [parts[place] for place in places]
        drawn[:, places] = drawn_together(
            same, draws=draws, seed=seed + index, functions=functions
        )[name]
    found = joined(name, values, drawn, parts, ratio=split_comparison.test_train_ratio(runs, split))
    if found.low > 1 - 1e-9:
        found = replace(
            found, low=_lowest_of_faultless(parts[0], metrics.confusion(parts[0]), name)
        )
    lowest = -1.0 if name == "matthews" or "kappa" in name else 0.0
    return replace(found, low=max(lowest, found.low), high=min(1.0, found.high))


def joined(
    name: str, values: np.ndarray, draws: np.ndarray, parts: Sequence[Predictions], *, ratio: float
) -> Estimate:
    """An estimate from runs: `combined` where all tested the same images, else `resampled` over
    their test sets.

    `values` (runs,), `draws` (draws, runs) and `parts` go together. Runs that tested the same
    images (seeds of one fold) are one resample, their mean.
    """
    sets = split_comparison.by_images(parts)
    if len(sets) == 1:
        return combined(name, values, draws)
    means = np.array([values[places].mean() for places in sets])
    mean_draws = np.stack(
        [draws[:, places].mean(axis=1) for places in sets], axis=1
    )  # (draws, test sets)
    found = resampled(name, means, mean_draws, ratio=ratio)
    tested = pd.concat([parts[places[0]].frame["path"] for places in sets]).value_counts()
    if tested.max() == tested.min() < len(sets):  # every image was tested equally often: folds
        return replace(found, method=f"{found.method} over {len(sets)} folds")
    return found


def combined(name: str, values: np.ndarray, draws: np.ndarray) -> Estimate:
    """An estimate from seeds that saw the same images: `values` (seeds,), `draws` (draws, seeds)
    paired over images.

    A seed's value varies by the seed and by how seed and image act together. The latter is in the
    bootstrap variance of the mean already; it is read from the draws (what averaging over seeds
    takes off the variance) and counted once. The two errors, normal over images and t over seeds,
    are joined as the root of the sum of the squared half-widths. Two seeds know little of their
    variance: simulated, 95 % then hold 89 to 97 %; from three seeds on 93 to 97 %.

    Source: Zou and Donner, Statistics in Medicine 27 (2008), for joining the limits of two
        independent errors.
    """
    num_seeds, mean_draws = len(values), draws.mean(axis=1)
    image_variance = float(np.nanvar(mean_draws, ddof=1))
    if num_seeds == 1:
        low, high = bootstrap.percentile_interval(mean_draws)
        error = float(np.sqrt(image_variance))
        return Estimate(
            name,
            float(values[0]),
            low,
            high,
            low,
            high,
            float("nan"),
            error,
            0.0,
            0.0,
            1,
            "bootstrap, one seed",
        )
    interaction = (
        (float(np.nanvar(draws, axis=0, ddof=1).mean()) - image_variance)
        * num_seeds
        / (num_seeds - 1)
    )
    seed_variance = max(0.0, float(values.var(ddof=1)) - max(0.0, interaction)) / num_seeds
    errors = float(np.sqrt(image_variance)), float(np.sqrt(seed_variance))
    return _estimate(
        name, values, mean_draws, errors=errors, method="variance over images and seeds"
    )


def resampled(name: str, values: np.ndarray, draws: np.ndarray, *, ratio: float) -> Estimate:
    """An estimate from seeds that each drew their own split; `ratio` is test images / training
    images.

    The trainings overlap, so the variance of the mean is (1 / seeds + ratio) sd². A few seeds can
    lie together by chance: the interval is never narrower than what the images alone make of the
    mean, the deviation of the mean of `draws` (draws, seeds). The wider of the two counts;
    simulated, 95 % then hold 95 to 97 % from three seeds on.

    Source: Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52 (2003),
        section 3.
    """
    if len(values) < 2:
        raise DarkroomError("An interval over splits needs two seeds at least. Received: 1.")
    mean_draws, degrees = draws.mean(axis=1), float(len(values) - 1)
    image_error = float(np.sqrt(np.nanvar(mean_draws, ddof=1)))
    seed_error = float(np.sqrt((1 / len(values) + ratio) * values.var(ddof=1)))
    by_images = _half_width(image_error, 0.0, degrees, level=analytic.LEVEL)
    is_wider = by_images > _half_width(0.0, seed_error, degrees, level=analytic.LEVEL)
    errors = (image_error, 0.0) if is_wider else (0.0, seed_error)
    return _estimate(name, values, mean_draws, errors=errors, method="corrected resampled t")


def drawn_together(
    parts: Sequence[Predictions],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    functions: Mapping[str, bootstrap.Metric] = matrices.HEADLINES,
) -> dict[str, np.ndarray]:
    """(draws, parts) of every number of `functions`; the parts hold the same images, drawn for all
    of them together.
    """
    predicted = np.stack([part.predicted for part in parts], axis=1)  # (n, parts)
    first = parts[0]
    return bootstrap.of_arms(
        first.truth,
        predicted,
        groups=first.groups,
        num_classes=len(first.class_names),
        draws=draws,
        seed=seed,
        functions=functions,
    )


def _lowest_of_faultless(part: Predictions, counted: np.ndarray, name: str) -> float:
    # Without a single error there is nothing to resample; Wilson's bound of the accuracy still
    # knows the number of images.
    num_groups = part.frame["group"].nunique()
    accuracy = analytic.wilson(num_groups, num_groups)[0]
    if name != "matthews" and "kappa" not in name:
        return accuracy
    shares = counted.sum(axis=1) / counted.sum()
    expected = float((shares**2).sum())
    return (accuracy - expected) / (1 - expected)


def _estimate(
    name: str,
    values: np.ndarray,
    mean_draws: np.ndarray,
    *,
    errors: tuple[float, float],
    method: str,
) -> Estimate:
    mean, degrees = float(values.mean()), float(len(values) - 1)
    half = _half_width(*errors, degrees, level=analytic.LEVEL)
    image_low, image_high = bootstrap.percentile_interval(mean_draws)
    sd = float(values.std(ddof=1))
    return Estimate(
        name,
        mean,
        mean - half,
        mean + half,
        image_low,
        image_high,
        sd,
        *errors,
        degrees,
        len(values),
        method,
    )


def _half_width(image_error: float, seed_error: float, degrees: float, *, level: float) -> float:
    from scipy.special import ndtri, stdtrit

    upper = (1 + level) / 2
    over_seeds = float(stdtrit(degrees, upper)) * seed_error if seed_error else 0.0
    return float(np.hypot(ndtri(upper) * image_error, over_seeds))


def _p_value(distance: float, image_error: float, seed_error: float, degrees: float) -> float:
    if image_error == seed_error == 0:
        return 1.0 if distance == 0 else 0.0
    low, high = (
        0.0,
        1.0,
    )  # the level of the interval that reaches `distance`, closed in on by halves
    for _ in range(60):
        level = (low + high) / 2
        if _half_width(image_error, seed_error, degrees, level=level) < distance:
            low = level
        else:
            high = level
    return 1 - low
