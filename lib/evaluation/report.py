"""The comparison as one self-contained HTML page: verdicts first, every picture with an alt text, no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib import atomic
from lib.evaluation import confusion as matrices
from lib.evaluation import curves, plots, thumbnails
from lib.evaluation.comparison import Comparison, Unit, write_table
from lib.evaluation.style import SHARES, Drawing

TEMPLATES = Path(__file__).parent / "templates"
_MOST_CLASSES = 20  # more are drawn as a figure, not as a table
_MOST_PICTURES_OF_A_CELL = 12
_MOST_PICTURES = 240


def write(
    comparison: Comparison,
    folder: Path,
    *,
    question: str = "",
    published: Mapping[str, Any] | None = None,
    raw: Path | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `report.html` and `comparison.csv` into a run's folder and returns the page's path.

    Args:
        question: the study's question, the page's title.
        published: figures of others by name: a number (of the comparison's metric) or a table whose keys name metrics
        and anything else. raw: the folder the predictions' paths are relative to; without it the page has no pictures
        of images. notes: told as they are: `command` (how to reproduce), `openings` (how often each test split was
        read), `licence`.
    """
    path = Path(folder) / "report.html"
    atomic.write_text(path, render(comparison, question=question, published=published, raw=raw, notes=notes))
    write_table(comparison, folder)
    return path


def render(
    comparison: Comparison,
    *,
    question: str = "",
    published: Mapping[str, Any] | None = None,
    raw: Path | None = None,
    notes: Mapping[str, Any] | None = None,
) -> str:
    """The page as text; arguments as for `write`."""
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: "–" if share is None or np.isnan(share) else f"{100 * share:.1f} %"
    published = dict(published or {})
    hardest = comparison.hardest()
    confusions = [_confusion(comparison, arm) for arm in comparison.arms]
    wanted = [*hardest["path"], *_pictured(confusions)]
    pictures = {} if raw is None else thumbnails.data_uris(raw, wanted)
    return environment.get_template("comparison.html").render(
        title=question or f"Comparison of {len(comparison.arms)} arms",
        comparison=comparison,
        metric=comparison.metric.replace("_", " "),
        summary=_summary(comparison),
        shown=comparison.shown.to_dict("records"),
        published=published,
        figures={name: _embedded(drawing) for name, drawing in drawings(comparison, published).items()},
        fitting=_fitting(comparison),
        confusions=confusions,
        per_class=_per_class(comparison),
        disagreement=_disagreement(comparison),
        hardest=hardest.to_dict("records"),
        pictures=pictures,
        numbers={path: index for index, path in enumerate(pictures)},
        findings=_findings(comparison),
        environment=_environment(comparison.units),
        notes=dict(notes or {}),
    )


def _summary(comparison: Comparison) -> str:
    best, row = next(iter(comparison.arms)), comparison.table.iloc[0]
    estimate = comparison.estimates[best][comparison.metric]
    value, low, high = (
        f"{100 * number:.1f} %" if comparison.metric in SHARES else f"{number:.3f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    bands = list(dict.fromkeys(matrices.landis_koch(row[f"kappa_{end}"]) for end in ("low", "high")))
    seeds = f"mean of {estimate.num_seeds} seeds" if estimate.num_seeds > 1 else "one seed"
    return (
        f"Highest {comparison.metric.replace('_', ' ')}: {best} with {value} ({seeds}; 95 % interval {low} to {high}) on "
        f"{row['num_test']:,} test images; kappa {row['kappa']:.2f} ({row['kappa_low']:.2f} to {row['kappa_high']:.2f}), "
        f"{' to '.join(bands)} agreement."
    )


def drawings(comparison: Comparison, published: Mapping[str, Any] | None = None) -> dict[str, Drawing]:
    """The figures of the page by name: `arms`, `curves` (where runs have a history), and `confusion <arm>` for many classes."""
    estimates = {arm: mine[comparison.metric] for arm, mine in comparison.estimates.items()}
    function = matrices.HEADLINES[comparison.metric]
    values = {arm: [float(function(_test_confusion(unit))) for unit in units] for arm, units in comparison.arms.items()}
    told = {name: _number(value, comparison.metric) for name, value in (published or {}).items()}
    others = {name: value for name, value in told.items() if value is not None}
    found = {"arms": plots.arms(estimates, values, published=others)}
    histories = {
        arm: [unit.history for unit in units if unit.history is not None and len(unit.history)]
        for arm, units in comparison.arms.items()
    }
    if histories := {arm: runs for arm, runs in histories.items() if runs}:
        found["curves"] = curves.of_arms(histories)
    if len(comparison.class_names) > _MOST_CLASSES:
        for arm in comparison.arms:
            found[f"confusion {arm}"] = plots.confusion_matrix(comparison.confusion(arm), comparison.class_names, title=arm)
    return found


def _confusion(comparison: Comparison, arm: str) -> dict[str, Any]:
    counts = comparison.confusion(arm)
    names, shares = comparison.class_names, np.nan_to_num(matrices.shares(counts))
    small = len(names) <= _MOST_CLASSES
    paths = _paths_by_cell(comparison.arms[arm]) if small else {}
    rows = [
        {
            "name": name,
            "cells": [
                {
                    "count": int(counts[row, column]),
                    "share": float(shares[row, column]),
                    "right": row == column,
                    "predicted": names[column],
                    "paths": paths.get((row, column), [])[:_MOST_PICTURES_OF_A_CELL] if row != column else [],
                }
                for column in range(len(names))
            ],
        }
        for row, name in enumerate(names)
    ]
    return {"arm": arm, "rows": rows if small else [], "accuracy": float(matrices.accuracy(counts)), "num": int(counts.sum())}


def _paths_by_cell(units: Sequence[Unit]) -> dict[tuple[int, int], list[str]]:
    cells: dict[tuple[int, int], dict[str, None]] = {}
    for unit in units:
        part = unit.predictions.split("test")
        names = part.frame["path"].to_numpy()
        for row in np.flatnonzero(part.truth != part.predicted):
            cell = cells.setdefault((int(part.truth[row]), int(part.predicted[row])), {})
            cell[names[row]] = None
    return {cell: list(paths) for cell, paths in cells.items()}


def _pictured(confusions: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [cell for one in confusions for row in one["rows"] for cell in row["cells"]]
    wanted: dict[str, None] = {}
    for place in range(_MOST_PICTURES_OF_A_CELL):  # the first of every cell, then the second of every cell, …
        for cell in cells:
            if place < len(cell["paths"]) and len(wanted) < _MOST_PICTURES:
                wanted[cell["paths"][place]] = None
    return list(wanted)


def _per_class(comparison: Comparison) -> list[dict[str, Any]]:
    table = comparison.per_class("f1")
    return [
        {"name": name, "values": list(row), "best": int(np.nanargmax(row)) if not np.isnan(row).all() else -1}
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]


def _fitting(comparison: Comparison) -> list[str]:
    told = []
    for row in comparison.table.to_dict("records"):
        train, test = row["train_accuracy"], row["test_accuracy"]
        if np.isnan(train):
            continue
        gap = f"{100 * train:.1f} % on train (without augmentation), {100 * test:.1f} % on test"
        if train - test > 0.1:
            told.append(f"{row['arm']} over-fits: {gap}.")
        elif train < 0.75 and train - test < 0.05:
            told.append(f"{row['arm']} has not learnt its training images well: {gap}.")
        else:
            told.append(f"{row['arm']}: {gap}, a gap of {100 * (train - test):.1f} points.".replace("-", "−"))
    return told


def _disagreement(comparison: Comparison) -> str:
    common = set.intersection(*({unit.seed for unit in units} for units in comparison.arms.values()))
    if len(comparison.arms) < 2 or not common:
        return ""
    seed = min(common)
    chosen = [next(unit for unit in units if unit.seed == seed) for units in comparison.arms.values()]
    parts = [unit.predictions.split("test") for unit in chosen]
    right = np.stack([part.predicted == part.truth for part in parts]).sum(axis=0)
    num, everyone, nobody = len(right), int((right == len(parts)).sum()), int((right == 0).sum())
    return (
        f"With seed {seed}, all arms are right on {everyone:,} of {num:,} test images, none on {nobody:,}; "
        f"on {num - everyone - nobody:,} they differ."
    )


def _findings(comparison: Comparison) -> list[dict[str, str]]:
    found = [{**finding, "where": "comparison"} for finding in comparison.audit]
    for unit in comparison.units:
        where = f"{unit.arm}, seed {unit.seed}"
        found += [{**finding, "where": where} for finding in unit.result.get("audit", [])]
    return sorted(found, key=lambda finding: (finding["outcome"] == "held", finding["guard"], finding["where"]))


def _environment(units: Sequence[Unit]) -> dict[str, str]:
    told: dict[str, dict[str, None]] = {}
    for unit in units:
        for name, value in _flat(unit.about("environment")).items():
            told.setdefault(name, {})[str(value)] = None
    return {name: " / ".join(values) for name, values in told.items() if len(values) <= 4}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _number(value: Any, metric: str) -> float | None:
    value = value.get(metric) if isinstance(value, Mapping) else value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _test_confusion(unit: Unit) -> np.ndarray:
    part = unit.predictions.split("test")
    return matrices.counts(part.truth, part.predicted, len(part.class_names))


def _embedded(drawing: Drawing) -> dict[str, str]:
    return {
        "src": f"data:image/png;base64,{base64.b64encode(drawing.png()).decode()}",
        "alt": drawing.alt,
        "width": str(int(drawing.get_figwidth() * 96)),
    }
