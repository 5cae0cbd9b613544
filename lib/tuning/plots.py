"""Figures of a search: history, parallel coordinates, importance and Pareto front."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.reporting import run_figures, style
from lib.reporting.style import Drawing
from lib.tuning import trials
from lib.tuning.search import SearchResult
from lib.tuning.space import Hyperparameter
from lib.tuning.trials import Trial

_MIN_TRIALS = 10  # an importance from fewer would be noise
_MAX_LABELS = 8
_INACTIVE = -0.12  # where a line passes the axis of an inactive hyperparameter


@style.in_style
def history(result: SearchResult) -> Drawing:
    """Draws every trial's score in the order of the search, and the best so far."""
    goal, best_trial = result.plan.goal, result.best  # raises if all trials failed
    done = [trial for trial in result.trials if trial.has_scores]
    places = np.array([trial.number for trial in done])
    scores = np.array([trial.scores[goal] for trial in done])
    full = np.array([trial.epochs == result.plan.epochs for trial in done], bool)
    best_of = np.maximum if result.plan.direction == "max" else np.minimum
    lost = [trial.number for trial in result.trials if trial.state in ("failed", "pruned")]
    drawing = Drawing(7.6, 3.6)
    axes = drawing.subplots()
    if not full.all():
        partly = {"facecolors": "none", "edgecolors": style.MUTED, "label": "partly trained"}
        axes.scatter(places[~full], scores[~full], s=22, **partly)
    colours = {"color": style.COLOURS[0], "label": "fully trained"}
    axes.scatter(places[full], scores[full], s=26, **colours)
    line = {"color": style.COLOURS[1], "linewidth": 1.6, "label": "best so far"}
    axes.step(places, best_of.accumulate(scores), where="post", **line)
    if lost:
        foot = [scores.min() - 0.05 * (np.ptp(scores) or 1)] * len(lost)
        crosses = {"marker": "x", "color": style.WRONG, "label": "failed or pruned"}
        axes.scatter(lost, foot, s=22, **crosses)
    axes.set(xlabel="trial", ylabel=_title(goal))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    style.set_title(drawing, f"{result.plan.method}: {len(result.trials)} trials")
    drawing.alt = (
        f"History of the search: {len(done)} of {len(result.trials)} trials have a score; the best "
        f"{_title(goal)} is {best_trial.scores[goal]:.4g}, of trial {best_trial.number}."
    )
    return drawing


@style.in_style
def parallel(result: SearchResult) -> Drawing:
    """Draws one line a trial through its values to its score, the best tenth highlighted."""
    goal = result.plan.goal
    items = list(result.plan.space.hyperparameters)
    ranked = result.ranked
    drawing = Drawing(max(6.0, 1.5 * (len(items) + 1)), 4.2)
    axes = drawing.subplots()
    scores = np.array([trial.scores[goal] for trial in ranked])
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 1.0)
    dark = max(1, round(len(ranked) / 10))
    for place, trial in reversed(list(enumerate(ranked))):
        line = [_height(item, trial.values.get(item.name)) for item in items]
        line.append((trial.scores[goal] - low) / (high - low) if high > low else 0.5)
        chosen = place < dark
        look = {"alpha": 0.9, "linewidth": 1.8} if chosen else {"alpha": 0.22, "linewidth": 0.8}
        axes.plot(line, color=style.COLOURS[int(chosen)], zorder=2 + chosen, **look)
    for place, item in enumerate(items):
        _name_axis(axes, place, item)
    _name_ends(axes, len(items), low, high)
    names = [style.label(item.name.replace("_", " "), most=20) for item in items]
    turned = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(items) + 1), [*names, _title(goal)], **turned)
    axes.set(yticks=[], xlim=(-0.25, len(items) + 0.45), ylim=(-0.16, 1.05))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    title = f"Parallel coordinates: {len(ranked)} trials, the best {dark} highlighted"
    style.set_title(drawing, title)
    words = ", ".join(
        f"{name} {trials.format_value(value)}" for name, value in result.best.values.items()
    )
    drawing.alt = (
        f"Parallel coordinates of {len(ranked)} trials over {len(items)} hyperparameters. "
        f"The best has {words}."
    )
    return drawing


def importance(result: SearchResult) -> pandas.DataFrame:
    """Returns each hyperparameter's permutation importance for a forest that predicts the score.

    `importance` sums to 1. Empty with fewer than ten finished trials. The number of epochs is one
    of the forest's inputs, because trials of different length are not comparable, but not shown.
    """
    goal = result.plan.goal
    done = [trial for trial in result.trials if trial.state == "finished"]
    if len(done) < _MIN_TRIALS:
        return pandas.DataFrame(columns=["hyperparameter", "importance"])
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    items = result.plan.space.hyperparameters
    places = [[_height(item, trial.values.get(item.name)) for item in items] for trial in done]
    inputs = np.column_stack([places, [trial.epochs for trial in done]])
    scores = np.array([trial.scores[goal] for trial in done])
    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(inputs, scores)
    permuted = permutation_importance(forest, inputs, scores, n_repeats=20, random_state=0)
    weights = permuted.importances_mean[:-1].clip(0)
    shares = weights / (weights.sum() or 1)
    table = pandas.DataFrame({"hyperparameter": result.plan.space.names, "importance": shares})
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


@style.in_style
def importance_bars(result: SearchResult) -> Drawing:
    """Draws bars of `importance`, the largest on top, or says that there are too few trials."""
    table = importance(result)
    if table.empty:
        return run_figures.message(
            f"Fewer than {_MIN_TRIALS} trials have a score: too few to estimate importance."
        )
    drawing = Drawing(6.4, max(1.8, 0.34 * len(table) + 1.1))
    axes = drawing.subplots()
    labels = [style.label(name) for name in table["hyperparameter"]]
    axes.barh(range(len(table)), table["importance"], color=style.COLOURS[0], height=0.62)
    axes.set_yticks(range(len(table)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="share of the total importance")
    style.show_percent(axes.xaxis)
    axes.grid(axis="x")
    style.set_title(drawing, "Importance of the hyperparameters")
    words = ", ".join(
        f"{row.hyperparameter} {100 * row.importance:.0f} %" for row in table.head(3).itertuples()
    )
    drawing.alt = f"Importance of the hyperparameters: {words}."
    return drawing


@style.in_style
def pareto_front(result: SearchResult) -> Drawing:
    """Draws the first two goals against each other, with the trials of the Pareto front joined."""
    first, second = list(result.plan.goals)[:2]
    best = trials.pareto_front(result.trials, result.plan.goals)
    done = [trial for trial in result.trials if trial.state == "finished"]
    drawing, hollow = Drawing(6.4, 4.2), {"facecolors": "none", "edgecolors": style.MUTED}
    axes = drawing.subplots()
    axes.scatter(*_both(done, second, first), s=22, **hollow, label="all trials")
    line = _both(sorted(best, key=lambda trial: trial.scores[second]), second, first)
    axes.plot(*line, marker="o", color=style.COLOURS[0], label="Pareto front")
    axes.set(xlabel=_title(second), ylabel=_title(first))
    axes.grid()
    axes.legend()
    style.set_title(drawing, f"{_title(first)} against {_title(second)}")
    drawing.alt = (
        f"{len(best)} of {len(done)} trials are on the Pareto front of {_title(first)} and "
        f"{_title(second)}."
    )
    return drawing


def _both(chosen: Sequence[Trial], across: str, up: str) -> tuple[list[float], list[float]]:
    return [trial.scores[across] for trial in chosen], [trial.scores[up] for trial in chosen]


def _height(item: Hyperparameter, value: Any) -> float:
    """The position of a value on its axis, 0 to 1; below the axis if it is inactive."""
    if value is None:
        return _INACTIVE
    if item.kind == "choice":
        return item.choices.index(value) / max(1, len(item.choices) - 1)
    if item.log:
        return float(np.log(value / item.low) / np.log(item.high / item.low))
    return float((value - item.low) / (item.high - item.low))


def _name_axis(axes: Axes, place: int, item: Hyperparameter) -> None:
    axes.axvline(place, ymin=0.13, ymax=0.96, color="#A7B0B8", linewidth=0.8, zorder=1)
    text = functools.partial(axes.text, place + 0.04, va="center", zorder=4)
    if item.when:
        text(_INACTIVE, "inactive", fontsize=7, color=style.MUTED)
    shown = item.choices if item.kind == "choice" else (item.low, item.high)
    shown = shown if len(shown) <= _MAX_LABELS else (shown[0], shown[-1])
    box = {"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.92, "pad": 0.6}
    for value in shown:
        label = style.label(trials.format_value(value), most=16)
        text(_height(item, value), label, fontsize=7.5, bbox=box)


def _name_ends(axes: Axes, place: int, low: float, high: float) -> None:
    axes.axvline(place, ymin=0.13, ymax=0.96, color=style.INK, linewidth=1.0, zorder=1)
    for height, value in ((0.0, low), (1.0, high)) if high > low else ((0.5, low),):
        axes.text(place + 0.04, height, f"{value:.4g}", fontsize=8, va="center", zorder=4)


def _title(goal: str) -> str:
    return goal.replace("val_", "validation ").replace("num_", "number of ").replace("_", " ")
