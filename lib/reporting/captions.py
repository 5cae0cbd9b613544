"""Sentences about a comparison, computed from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lib.evaluation import confusion as matrices
from lib.evaluation.comparison import Comparison
from lib.evaluation.formatting import SHARES
from lib.evaluation.run_records import RunRecord
from lib.evaluation.statistics import Estimate
from lib.reporting import plots, text
from lib.runs import record

_WIDE_GAP, _POOR_FIT, _RISE = 0.1, 0.75, 0.1


def answer(comparison: Comparison) -> str:
    """What the comparison says, in one sentence: the differences that are significant, or that none
    is and how large the largest is.
    """
    if comparison.is_tiny:
        return record.TINY
    if not comparison.pairs:
        return f"One arm: {next(iter(comparison.arms))}."
    shown = [pair for pair in comparison.pairs if pair.is_significant]
    if not shown:
        widest = max(comparison.pairs, key=lambda pair: abs(pair.difference.value))
        if len(comparison.pairs) == 1:
            return widest.verdict
        equal = sum(pair.is_equivalent for pair in comparison.pairs)
        also = f" {equal} of {len(comparison.pairs)} pairs are equivalent." if equal else ""
        return f"No difference is significant. The largest: {widest.verdict}{also}"
    if any(pair.difference.num_seeds == 1 for pair in shown):  # speaks of two trained models
        return shown[0].verdict
    better: dict[str, list[str]] = {}
    for pair in shown:
        winner, loser = (pair.first, pair.second)
        value, low, high = pair.difference.value, pair.low, pair.high
        if value < 0:
            winner, loser, value, low, high = loser, winner, -value, -high, -low
        named = comparison.metric.replace("_", " ") if not better else ""
        size = _difference(comparison.metric, value, low, high)
        better.setdefault(loser, []).append(f"{winner} ({named} {size})".replace("( ", "("))
    clauses = [
        f"{_joined(winners)} {'are' if len(winners) > 1 else 'is'} better than {loser}"
        for loser, winners in better.items()
    ]
    rest = [pair for pair in comparison.pairs if not pair.is_significant]
    if len(rest) == 1:
        is_equal = rest[0].is_equivalent
        margin = f"{100 * rest[0].margin:g} points" if comparison.metric in SHARES else None
        within = f", within {margin} of each other" if margin else ""
        words = f"are equivalent{within}" if is_equal else "do not differ significantly"
        clauses.append(f"{rest[0].first} and {rest[0].second} {words}")
    elif rest:
        clauses.append(f"{len(rest)} of {len(comparison.pairs)} pairs do not differ significantly")
    return "; ".join(clauses) + "."


def _difference(metric: str, value: float, low: float, high: float) -> str:
    if metric in SHARES:
        return f"+{100 * value:.1f} points, 95 % {100 * low:.1f} to {100 * high:.1f}"
    return f"+{value:.3f}, 95 % {low:.3f} to {high:.3f}"


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def summary(comparison: Comparison) -> str:
    """The best arm on validation, its test result with both intervals, and kappa's bands."""
    best, row = next(iter(comparison.arms)), comparison.table.iloc[0]
    estimate = comparison.estimates[best][comparison.metric]
    value, low, high, image_low, image_high = (
        f"{100 * number:.1f} %" if comparison.metric in SHARES else f"{number:.3f}"
        for number in (
            estimate.value,
            estimate.low,
            estimate.high,
            estimate.image_low,
            estimate.image_high,
        )
    )
    bands = list(
        dict.fromkeys(matrices.landis_koch(row[f"kappa_{end}"]) for end in ("low", "high"))
    )
    if estimate.num_seeds > 1:
        runs, more = f"mean of {estimate.num_seeds} trainings", f" {_new_training(estimate)}"
        intervals = (
            f"95 % interval {low} to {high} {estimate.method}, {image_low} to {image_high} over "
            "images with these trainings"
        )
    else:
        runs, more = "one training", ""
        intervals = f"95 % interval {low} to {high} {estimate.method}"
    return (
        f"Best on validation: {best}, test {comparison.metric.replace('_', ' ')} {value} "
        f"({runs}; {intervals}) on {row['num_test']:,} test images; kappa {row['kappa']:.2f} "
        f"({row['kappa_low']:.2f} to {row['kappa_high']:.2f}), "
        f"{' to '.join(bands)} agreement.{more}"
    )


def _new_training(estimate: Estimate) -> str:
    low, high = (
        f"{100 * number:.1f} %" if estimate.name in SHARES else f"{number:.3f}"
        for number in (estimate.new_low, estimate.new_high)
    )
    return f"A single new training is expected between {low} and {high} (95 %)."


def fitting(comparison: Comparison) -> list[str]:
    """The fit of each arm: training accuracy, test accuracy, and whether validation loss rose after
    the kept epoch.
    """
    sentences = []
    for row in comparison.table.to_dict("records"):
        name = "macro_f1" if comparison.is_multilabel else "accuracy"
        train, test = row[f"train_{name}"], row[f"test_{name}"]
        if np.isnan(train):
            continue
        gap = f"{100 * train:.1f} % on train (without augmentation), {100 * test:.1f} % on test"
        if train - test > _WIDE_GAP:
            sentence = f"{row['title']} overfits: {gap}."
        elif train < _POOR_FIT and train - test < _WIDE_GAP / 2:
            sentence = f"{row['title']} underfits: {gap}."
        else:
            sentence = f"{row['title']}: {gap}."
        runs = comparison.arms[row["title"]]
        sentences.append(sentence + _rise(runs) + _kept_heads(runs))
    return sentences


def _kept_heads(runs: tuple[RunRecord, ...]) -> str:
    """A clause for fine-tuned arms whose runs kept the head that they started from."""
    kept = [(run.result.get("selection") or {}).get("kept") for run in runs]
    if "head" not in kept:
        return ""
    return (
        f" {kept.count('head')} of {len(kept)} runs kept the head on frozen features, since "
        "fine-tuning did not lower the validation loss."
    )


def published(comparison: Comparison, figures: Mapping[str, Any]) -> list[str]:
    """Each figure of others against the best arm's interval; other images were measured, so it
    stays a remark.
    """
    best = next(iter(comparison.arms))
    estimate = comparison.estimates[best][comparison.metric]
    sentences = []
    for name, value in figures.items():
        value = value.get(comparison.metric) if isinstance(value, Mapping) else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        place = (
            "inside"
            if estimate.low <= value <= estimate.high
            else "below"
            if value < estimate.low
            else "above"
        )
        shown = f"{100 * value:.1f} %" if comparison.metric in SHARES else f"{value:.3f}"
        ours = text.interval(comparison.metric, estimate.value, estimate.low, estimate.high)
        sentences.append(
            f"{name} ({shown}, published by others, on other images) lies {place} the interval of "
            f"{best}, {ours}."
        )
    return sentences


def _rise(runs: tuple[RunRecord, ...]) -> str:
    histories = [run.history for run in runs if run.history is not None and len(run.history)]
    if not histories or not all("val_loss" in history.columns for history in histories):
        return ""
    loss = plots.mean_over_seeds(
        [
            history.drop_duplicates("epoch", keep="last").set_index("epoch")["val_loss"]
            for history in histories
        ]
    )
    loss = loss.loc[loss["num"] == len(histories), "mean"]
    if not len(loss) or loss.iloc[-1] <= (1 + _RISE) * loss.min():
        return ""
    lowest = f"{loss.min():.2f} (epoch {loss.idxmin()})"
    return f" Its validation loss rose from {lowest} to {loss.iloc[-1]:.2f} at the end."
