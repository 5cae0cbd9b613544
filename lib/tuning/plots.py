"""The figures of a search: how it went, which values went well together, what mattered, and what
one goal costs another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.reporting import plots, style
from lib.reporting.style import Drawing
from lib.tuning import trials as tables
from lib.tuning.hyperparameter import Key
from lib.tuning.plan import Found
from lib.tuning.trials import Trial

_FEWEST = 10  # trials; an importance from fewer would be made of chance
_MOST_LABELS = 8
_ASIDE = -0.12  # where a line passes an axis whose key is not in use


def history(found: Found) -> Drawing:
    """Every trial's score in the order of the search, and the best so far."""
    goal, direction = next(iter(found.plan.goals.items()))
    best_trial = found.best  # raises where every trial failed
    drawing = Drawing(7.6, 3.6)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        done = [trial for trial in found.trials if trial.done]
        at, scores = (
            np.array([trial.number for trial in done]),
            np.array([trial.scores[goal] for trial in done]),
        )
        full = np.array([trial.epochs == found.plan.epochs for trial in done], bool)
        if not full.all():
            axes.scatter(
                at[~full],
                scores[~full],
                s=22,
                facecolors="none",
                edgecolors=style.MUTED,
                label="trained in part",
            )
        axes.scatter(
            at[full], scores[full], s=26, color=style.COLOURS[0], label="trained to the end"
        )
        best = (
            np.maximum.accumulate(scores) if direction == "max" else np.minimum.accumulate(scores)
        )
        axes.step(
            at, best, where="post", color=style.COLOURS[1], linewidth=1.6, label="best so far"
        )
        lost = [trial.number for trial in found.trials if trial.state in ("failed", "pruned")]
        if lost:
            foot = scores.min() - 0.05 * (np.ptp(scores) or 1)
            axes.scatter(
                lost,
                [foot] * len(lost),
                marker="x",
                s=22,
                color=style.WRONG,
                label="failed or pruned",
            )
        axes.set(xlabel="trial", ylabel=_spoken(goal))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        style.set_title(drawing, f"{found.plan.method}: {len(found.trials)} trials")
    drawing.alt = (
        f"History of the search: {len(done)} of {len(found.trials)} trials have a score; the best "
        f"{_spoken(goal)} is "
        f"{best_trial.scores[goal]:.4g}, of trial {best_trial.number}."
    )
    return drawing


def parallel(found: Found) -> Drawing:
    """One line a trial through the values of its keys to its score; the best tenth is drawn dark
    and thick.
    """
    goal, direction = next(iter(found.plan.goals.items()))
    keys = list(found.plan.space.keys)
    ranked = found.ranked
    drawing = Drawing(max(6.0, 1.5 * (len(keys) + 1)), 4.2)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        scores = np.array([trial.scores[goal] for trial in ranked])
        low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 1.0)
        dark = max(1, round(len(ranked) / 10))
        for place, trial in reversed(list(enumerate(ranked))):
            line = [_height(key, trial.values.get(key.name)) for key in keys]
            line.append((trial.scores[goal] - low) / (high - low) if high > low else 0.5)
            chosen = place < dark
            axes.plot(
                range(len(line)),
                line,
                color=style.COLOURS[1] if chosen else style.COLOURS[0],
                alpha=0.9 if chosen else 0.22,
                linewidth=1.8 if chosen else 0.8,
                zorder=3 if chosen else 2,
            )
        for place, key in enumerate(keys):
            _name_axis(axes, place, key)
        _name_ends(axes, len(keys), low, high)
        names = [style.label(key.name.replace("_", " "), most=20) for key in keys]
        axes.set_xticks(
            range(len(keys) + 1),
            [*names, _spoken(goal)],
            rotation=20,
            ha="right",
            rotation_mode="anchor",
        )
        axes.set(yticks=[], xlim=(-0.25, len(keys) + 0.45), ylim=(-0.16, 1.05))
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        style.set_title(
            drawing, f"Which values went together: {len(ranked)} trials, the best {dark} dark"
        )
    told = ", ".join(f"{name} {tables.told(value)}" for name, value in found.best.values.items())
    drawing.alt = (
        f"Parallel coordinates of {len(ranked)} trials over {len(keys)} keys. The best has {told}."
    )
    return drawing


def importance(found: Found, *, repeats: int = 20) -> pandas.DataFrame:
    """Returns one row a key: by how much a forest that predicts the score gets worse when the key
    is shuffled, of the whole.

    `importance` sums to 1. Empty with fewer than ten scored trials. Only trials trained equally
    long are comparable, so the number of epochs is one of the forest's inputs, and is not shown.
    """
    goal = next(iter(found.plan.goals))
    done = [
        trial
        for trial in found.trials
        if trial.state == "finished" and np.isfinite(trial.scores[goal])
    ]
    columns = ["key", "importance"]
    if len(done) < _FEWEST:
        return pandas.DataFrame(columns=columns)
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    keys = found.plan.space.keys
    inputs = np.array(
        [
            [*(_height(key, trial.values.get(key.name)) for key in keys), trial.epochs]
            for trial in done
        ]
    )
    scores = np.array([trial.scores[goal] for trial in done])
    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(inputs, scores)
    weights = (
        permutation_importance(forest, inputs, scores, n_repeats=repeats, random_state=0)
        .importances_mean[:-1]
        .clip(0)
    )
    shares = weights / (weights.sum() or 1)
    table = pandas.DataFrame({"key": [key.name for key in keys], "importance": shares})
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def importances(found: Found) -> Drawing:
    """Bars of `importance`, the weightiest on top; says so where there are too few trials."""
    table = importance(found)
    if table.empty:
        return plots.message(
            f"Fewer than {_FEWEST} trials have a score: too few to say what mattered."
        )
    drawing = Drawing(6.4, max(1.8, 0.34 * len(table) + 1.1))
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        labels = [style.label(name) for name in table["key"]]
        axes.barh(range(len(table)), table["importance"], color=style.COLOURS[0], height=0.62)
        axes.set_yticks(range(len(table)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="share of what the score depends on")
        style.show_percent(axes.xaxis)
        axes.grid(axis="x")
        style.set_title(drawing, "What mattered")
    told = ", ".join(
        f"{row.key} {100 * row.importance:.0f} %" for row in table.head(3).itertuples()
    )
    drawing.alt = f"Importance of the keys: {told}."
    return drawing


def front(found: Found) -> Drawing:
    """The first two goals against each other, with the trials that nothing beats in both joined."""
    first, second = list(found.plan.goals)[:2]
    best = tables.front(found.trials, found.plan.goals)
    done = [trial for trial in found.trials if trial.state == "finished"]
    drawing = Drawing(6.4, 4.2)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        axes.scatter(
            *_both(done, second, first),
            s=22,
            facecolors="none",
            edgecolors=style.MUTED,
            label="every trial",
        )
        line = sorted(best, key=lambda trial: trial.scores[second])
        axes.plot(
            *_both(line, second, first),
            marker="o",
            color=style.COLOURS[0],
            label="nothing is better in both",
        )
        axes.set(xlabel=_spoken(second), ylabel=_spoken(first))
        axes.grid()
        axes.legend()
        style.set_title(drawing, f"{_spoken(first)} against {_spoken(second)}")
    drawing.alt = f"{len(best)} of {len(done)} trials are beaten by no other in both {_spoken(first)} and {_spoken(second)}."
    return drawing


def _both(chosen: Sequence[Trial], across: str, up: str) -> tuple[list[float], list[float]]:
    return [trial.scores[across] for trial in chosen], [trial.scores[up] for trial in chosen]


def _height(key: Key, value: Any) -> float:
    """Where a value stands on its key's axis, 0 to 1; below it where the key does not act."""
    if value is None:
        return _ASIDE
    if key.kind == "choice":
        return key.choices.index(value) / max(1, len(key.choices) - 1)
    if key.log:
        return float(np.log(value / key.low) / np.log(key.high / key.low))
    return float((value - key.low) / (key.high - key.low))


def _name_axis(axes: Axes, place: int, key: Key) -> None:
    axes.axvline(place, ymin=0.13, ymax=0.96, color="#A7B0B8", linewidth=0.8, zorder=1)
    if key.when:
        axes.text(
            place + 0.04, _ASIDE, "not in use", fontsize=7, va="center", color=style.MUTED, zorder=4
        )
    shown = key.choices if key.kind == "choice" else (key.low, key.high)
    shown = shown if len(shown) <= _MOST_LABELS else (shown[0], shown[-1])
    for value in shown:
        axes.text(
            place + 0.04,
            _height(key, value),
            style.label(tables.told(value), most=16),
            fontsize=7.5,
            va="center",
            zorder=4,
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.92, "pad": 0.6},
        )


def _name_ends(axes: Axes, place: int, low: float, high: float) -> None:
    axes.axvline(place, ymin=0.13, ymax=0.96, color=style.INK, linewidth=1.0, zorder=1)
    for height, value in ((0.0, low), (1.0, high)) if high > low else ((0.5, low),):
        axes.text(place + 0.04, height, f"{value:.4g}", fontsize=8, va="center", zorder=4)


def _spoken(goal: str) -> str:
    return goal.replace("val_", "validation ").replace("num_", "number of ").replace("_", " ")
