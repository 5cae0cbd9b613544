"""Learning curves: of one run, and of arms as the mean over seeds with a band of one standard
deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.reporting import style
from lib.reporting.style import Drawing


def of_run(history: pd.DataFrame, *, kept_epoch: int | None = None, title: str = "") -> Drawing:
    """Loss and accuracy of train and validation over the epochs; the kept epoch is marked.

    `history` has the columns of `history.csv`: `epoch` (from 1), `loss`, `accuracy`, `val_loss`,
    `val_accuracy`.
    """
    drawing = Drawing(8.6, 3.4)
    with matplotlib.rc_context(style.settings()):
        panels = drawing.subplots(1, 2)
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            for split, column in (("train", name), ("validation", f"val_{name}")):
                colour = style.COLOURS[0] if split == "train" else style.COLOURS[1]
                shape = "-" if split == "train" else (0, (5, 1.5))
                dots = "o" if len(history) <= 20 else None
                axes.plot(
                    history["epoch"],
                    history[column],
                    color=colour,
                    linestyle=shape,
                    marker=dots,
                    markersize=3.5,
                    label=split,
                )
            _finish(axes, name, kept_epoch)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3)
        style.set_title(drawing, title)
    drawing.alt = _told_run(history, kept_epoch, title)
    return drawing


def of_arms(histories: Mapping[str, Sequence[pd.DataFrame]], *, title: str = "") -> Drawing:
    """Validation loss and accuracy, one line an arm: the mean over seeds, its band one standard
    deviation.

    Dotted where some seeds have stopped already: the mean is then over fewer of them.
    """
    drawing = Drawing(8.6, 3.7 + 0.12 * len(histories))
    with matplotlib.rc_context(style.settings()):
        panels = drawing.subplots(1, 2)
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            for index, (arm, runs) in enumerate(histories.items()):
                _arm(
                    axes,
                    [run.set_index("epoch")[f"val_{name}"] for run in runs],
                    index,
                    style.label(arm),
                )
            _finish(axes, f"validation {name}", None)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
        style.set_title(drawing, title)
    drawing.alt = "Validation accuracy over the epochs, mean over seeds: " + "; ".join(
        _told_arm(arm, runs) for arm, runs in histories.items()
    )
    return drawing


def band(runs: Sequence[pd.Series]) -> pd.DataFrame:
    """`mean`, `sd` (0 for one run) and `num` of series over their epochs; runs that have stopped
    drop out.
    """
    together = pd.concat(list(runs), axis=1).sort_index()
    return pd.DataFrame(
        {
            "mean": together.mean(axis=1),
            "sd": together.std(axis=1, ddof=1).fillna(0.0),
            "num": together.notna().sum(axis=1),
        }
    )


def _arm(axes: Axes, runs: Sequence[pd.Series], index: int, label: str) -> None:
    values, colour = band(runs), style.colour(index)
    all_there = values[values["num"] == len(runs)]
    rest = values.loc[all_there.index.max() :] if len(all_there) else values
    shape = {
        "marker": "os^DvPX*"[index % 8],
        "markersize": 4.5,
        "markevery": max(1, len(values) // 8),
    }
    axes.fill_between(
        all_there.index,
        all_there["mean"] - all_there["sd"],
        all_there["mean"] + all_there["sd"],
        color=colour,
        alpha=0.16,
        linewidth=0,
    )
    axes.plot(all_there.index, all_there["mean"], color=colour, label=label, **shape)
    if len(rest) > 1:
        axes.plot(rest.index, rest["mean"], color=colour, linestyle=":", linewidth=1.2)


def _finish(axes: Axes, name: str, kept_epoch: int | None) -> None:
    axes.set_title(name.capitalize(), fontsize=10.5)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if name.endswith("accuracy"):
        style.show_percent(axes.yaxis)
    if kept_epoch is not None:
        label = f"kept: epoch {kept_epoch}"
        axes.axvline(
            kept_epoch,
            color=style.MUTED,
            linewidth=1.2,
            linestyle=(0, (1.5, 1.5)),
            zorder=0,
            label=label,
        )


def _told_run(history: pd.DataFrame, kept_epoch: int | None, title: str) -> str:
    row = history[history["epoch"] == kept_epoch] if kept_epoch is not None else history.tail(1)
    row = history.tail(1) if row.empty else row
    epoch = int(row["epoch"].iloc[0])
    said = ", ".join(
        f"{split} {100 * float(row[column].iloc[0]):.1f} %"
        for split, column in (("training", "accuracy"), ("validation", "val_accuracy"))
        if np.isfinite(row[column].iloc[0])
    )
    which = "the kept epoch" if kept_epoch is not None else "the last epoch"
    return f"{title + ': l' if title else 'L'}earning curves over {len(history)} epochs; accuracy at {which}, {epoch}: {said}."


def _told_arm(arm: str, runs: Sequence[pd.DataFrame]) -> str:
    best = [float(run["val_accuracy"].max()) for run in runs]
    lengths = [len(run) for run in runs]
    epochs = (
        f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
    )
    return (
        f"{arm} reached {100 * np.mean(best):.1f} % at best in {epochs} epochs ({len(runs)} seeds)"
    )
