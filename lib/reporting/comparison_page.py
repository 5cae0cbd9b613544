"""The comparison as a self-contained HTML page, without scripts and network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib import files
from lib.data import decode, thumbnails
from lib.data.dataset import Dataset
from lib.evaluation import arm_agreement, calibration, metrics, outcomes, overfitting
from lib.evaluation.comparison import Comparison, write_table
from lib.evaluation.formatting import SHARES, amount, interval, words
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import Predictions
from lib.evaluation.run_records import RunRecord
from lib.evaluation.statistics import Estimate
from lib.reporting import run_figures, style, tensorboard, text
from lib.reporting.style import Drawing
from lib.runs import record

MOST_CLASSES = 20
"""More classes are drawn as a figure, with a list of the largest confusions, and not as a table."""
_NUM_LARGEST = 12  # confusions that are listed where there is no table
_MAX_PICTURES = 600


def write(comparison: Comparison, folder: Path, **shown: Any) -> Path:
    """Writes `report.html` and the tables into a run's folder and returns the page's path.

    TensorBoard gets the mean, lowest and highest of each arm's seeds, in `seeds/<arm>/`.

    Args:
        comparison: the arms.
        folder: the run's folder.
        **shown: what else the page shows, see `render`.
    """
    path = Path(folder) / "report.html"
    files.write_text(path, render(comparison, **shown))
    write_table(comparison, folder)
    tensorboard.write_seed_envelope(path.with_name("seeds"), _histories(comparison))
    return path


def render(
    comparison: Comparison,
    *,
    question: str = "",
    published: Mapping[str, Any] | None = None,
    raw: Path | None = None,
    notes: Mapping[str, Any] | None = None,
) -> str:
    """The page as text.

    Args:
        comparison: the arms.
        question: the study's question, the page's title.
        published: figures of others by name: a number (of the comparison's metric) or a table whose
            keys name metrics (`accuracy`, `kappa`), `n`, the number of images, and anything else.
        raw: the folder the predictions' paths are relative to; without it the page has no pictures
            of images.
        notes: shown as they are: `command` (how to reproduce), `licence`, `understood` (how the
            data was read), and `openings` in place of those that the runs noted.
    """
    published, metric = _titled(published), comparison.metric
    hardest, disputed = comparison.hardest(), arm_agreement.images(comparison)
    sure = arm_agreement.selective_prediction(comparison)
    is_multilabel = comparison.is_multilabel
    single = [] if is_multilabel else list(comparison.arms)
    confusions = [confusion_cells(comparison, arm) for arm in single]
    wanted = [*hardest["path"], *disputed["path"], *wanted_images(confusions)]
    pictures = {} if raw is None else thumbnails.data_uris(raw, wanted)
    data = str(comparison.runs[0].result.get("data") or "")
    study = comparison.runs[0].folder.parents[1].name
    figures = drawings(comparison, published)
    narrow = _overview(comparison, published, is_narrow=True)
    page = text.templates().get_template("comparison.html")
    return page.render(
        title=question or f"Comparison of {len(comparison.arms)} arms",
        comparison=comparison,
        metric=words(metric),
        answer=answer(comparison),
        summary=summary(comparison),
        icon=text.ICON,
        data=data,
        site=_site_links(study, data),
        addresses={arm: _images_link(runs[0], data) for arm, runs in comparison.arms.items()},
        shown=comparison.shown.to_dict("records"),
        published={name: text.published_row(value, metric) for name, value in published.items()},
        figures={name: drawing.embedded() for name, drawing in figures.items()},
        narrow={name: drawing.embedded() for name, drawing in narrow.items()},
        kappa_scale=metrics.landis_koch_scale(),
        fitting=[*overfitting.sentences(comparison), *_published_sentences(comparison, published)],
        confusions=confusions,
        labels=comparison.label_counts() if is_multilabel else {},
        per_class=comparison.per_class("f1"),
        sure=arm_agreement.selective_prediction_text(sure).reset_index().to_dict("records"),
        raised=arm_agreement.raised_text(sure),
        disagreement=arm_agreement.sentence(comparison),
        disputed=disputed.to_dict("records"),
        hardest=hardest.to_dict("records"),
        pictures=pictures,
        numbers={path: index for index, path in enumerate(pictures)},
        findings=_findings(comparison),
        environment=_environment(comparison.runs),
        notes={"openings": comparison.openings} | dict(notes or {}),
    )


def drawings(
    comparison: Comparison, published: Mapping[str, Any] | None = None
) -> dict[str, Drawing]:
    """The figures of the page by name: `arms`; `curves` where runs have a history; `reliability`
    and `coverage` where they state probabilities; `confusion <arm>` for many classes.
    """
    figures = _overview(comparison, _titled(published)) | calibration_drawings(comparison)
    if len(comparison.class_names) > MOST_CLASSES and not comparison.is_multilabel:
        for arm in comparison.arms:
            figures[f"confusion {arm}"] = run_figures.confusion_matrix(
                comparison.confusion(arm), comparison.class_names, title=arm
            )
    return figures


@style.in_style
def leaderboard(
    estimates: Mapping[str, Estimate],
    values: Mapping[str, Sequence[float]],
    *,
    published: Mapping[str, float] | None = None,
    letters: Mapping[str, str] | None = None,
    is_narrow: bool = False,
) -> Drawing:
    """One row an arm in the given order: every seed a circle, the mean a diamond, its 95 % interval
    a bar; first on top.

    `values` holds each arm's seeds. `published` are figures of others: own rows that say so, with a
    dashed line to compare with. `letters` stand at the right: arms that share one do not differ
    significantly.
    """
    published, letters = dict(published or {}), dict(letters or {})
    names = list(estimates)[::-1]  # drawn from below; the first arm on top
    metric = next(iter(estimates.values())).name
    height = 0.56 * len(names) + 0.34 * len(published) + 1.3
    drawing = Drawing(4.2 if is_narrow else 7.6, height, title=f"Arms by {words(metric)}")
    axes, below = drawing.subplots(), 0.6 * np.arange(len(published))
    places = 0.6 * len(published) + 0.2 + np.arange(len(names))
    for place, value in zip(below, published.values(), strict=True):
        _draw_published(axes, place, amount(metric, value), value)
    for place, name in zip(places, names, strict=True):
        _draw_arm(axes, place, estimates[name], values[name])
    others, room = (f"published: {name}" for name in published), 14 if is_narrow else 26
    labels = [style.wrapped(name, width=room) for name in (*others, *names)]
    axes.set_yticks([*below, *places], labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.5, places[-1] + 0.7)
    if letters:
        _write_letters(axes, dict(zip(names, places, strict=True)), letters)
    axes.margins(x=0.08)
    if metric in SHARES:
        style.show_percent(axes.xaxis)
    axes.grid(axis="x")
    gap = "\n" if is_narrow else " "
    axes.set_xlabel(f"{words(metric)} on test{gap}(circle: a seed; bar: 95 % interval)")
    numbers = "; ".join(
        f"{name} {amount(metric, one.value)} ({amount(metric, one.low)} to "
        f"{amount(metric, one.high)}, {one.num_seeds} seeds)"
        for name, one in estimates.items()
    )
    drawing.alt = f"{words(metric)} of the arms with 95 % intervals: {numbers}."
    for name, value in published.items():
        drawing.alt += f" Published by others: {name} {amount(metric, value)}."
    if letters:
        groups = "; ".join(f"{name} {letters[name]}" for name in estimates)
        drawing.alt += f" Arms that share a letter do not differ significantly: {groups}."
    return drawing


def _write_letters(axes: Axes, places: Mapping[str, float], letters: Mapping[str, str]) -> None:
    # One column a letter, so that a group reads as a broken line from top to bottom.
    columns = sorted(set("".join(letters.values())))
    right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    for name, place in places.items():
        for letter in letters[name]:
            offset = (8 + 11 * columns.index(letter), 0)
            look = {"va": "center", "ha": "center", "fontsize": 9, "color": style.INK}
            axes.annotate(letter, (1, place), offset, **right, **look)
    heading, top = "same letter: no\nsignificant difference", (1, max(places.values()) + 0.5)
    look = {"va": "bottom", "fontsize": 7, "color": style.MUTED}
    axes.annotate(heading, top, (3, 0), **right, **look)


def _draw_arm(axes: Axes, place: float, estimate: Estimate, seeds: Sequence[float]) -> None:
    bar = {"color": style.RIGHT, "alpha": 0.3, "linewidth": 9, "solid_capstyle": "butt"}
    axes.plot([estimate.low, estimate.high], [place, place], **bar)
    # Below and above in turn, and ever farther: none lies behind the diamond.
    lanes = np.arange(len(seeds))
    offsets = np.where(lanes % 2, 1, -1) * (0.15 + 0.1 * (lanes // 2) / max(1, len(seeds) // 2))
    circle = {"color": style.INK, "markersize": 4.5, "markerfacecolor": "none", "alpha": 0.8}
    axes.plot(seeds, place + offsets, "o", **circle)
    diamond = {"color": style.RIGHT, "markersize": 7, "markeredgecolor": style.PAPER}
    axes.plot([estimate.value], [place], "D", **diamond)
    look = {"ha": "center", "va": "bottom", "fontsize": 9, "fontweight": "bold"}
    number, point = amount(estimate.name, estimate.value), (estimate.value, place)
    axes.annotate(number, point, (0, 11), textcoords="offset points", color=style.RIGHT, **look)


def _draw_published(axes: Axes, place: float, number: str, value: float) -> None:
    axes.axvline(value, color=style.WRONG, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.plot([value], [place], "D", color=style.WRONG, markersize=6.5, markerfacecolor=style.PAPER)
    plate = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1}
    look = {"va": "center", "fontsize": 9, "color": style.WRONG, "bbox": plate}
    axes.annotate(number, (value, place), (9, 0), textcoords="offset points", **look)


def _titled(published: Mapping[str, Any] | None) -> dict[str, Any]:
    """Figures of others by their `title`, or by name where they have none of their own."""
    figures = dict(published or {})
    tables = {name: dict(value) for name, value in figures.items() if isinstance(value, Mapping)}
    titles = {n: str(tables.get(n, {}).pop("title", n.replace("_", " "))) for n in figures}
    num = Counter(titles.values())
    return {
        title if num[title] == 1 else name: tables.get(name, figures[name])
        for name, title in titles.items()
    }


def _overview(
    comparison: Comparison, published: Mapping[str, Any], *, is_narrow: bool = False
) -> dict[str, Drawing]:
    """`arms`, and `curves` where runs have a history; `is_narrow` for phones."""
    estimates = {arm: mine[comparison.metric] for arm, mine in comparison.estimates.items()}
    values = {
        arm: [metrics.value(run.predictions.split("test"), comparison.metric) for run in runs]
        for arm, runs in comparison.arms.items()
    }
    stated = {name: _number(value, comparison.metric) for name, value in published.items()}
    others = {name: value for name, value in stated.items() if value is not None}
    letters = comparison.letters if comparison.has_letters else {}
    more = {"published": others, "letters": letters, "is_narrow": is_narrow}
    figures = {"arms": leaderboard(estimates, values, **more)}
    if histories := _histories(comparison):
        figures["curves"] = run_figures.learning_curves_of_arms(histories, is_narrow=is_narrow)
    return figures


def _site_links(study: str, data: str) -> dict[str, str]:
    links = {"runs": f"{text.SITE}/runs/{quote(study)}"}
    if data:
        links["data"] = f"{text.SITE}/data/{quote(data)}"
    query = urlencode({"runFilter": f"^{re.escape(study)}/"})
    return links | {"board": f"{text.BOARD}/?{query}#timeseries"}


def _images_link(trained: RunRecord, data: str) -> str:
    """The page of the images that a run predicted; "" for an ensemble or data without a name."""
    run = "/".join(trained.folder.parts[-3:])
    is_run = data and not trained.is_ensemble
    return f"{text.SITE}/data/{quote(data)}?{urlencode({'run': run})}" if is_run else ""


_MOST_CURVES = 8  # that an eye can follow


def calibration_drawings(comparison: Comparison) -> dict[str, Drawing]:
    """`reliability` of the arm that is best on validation, and `coverage` of the first
    eight arms.
    """
    calibrated = {
        arm: runs
        for arm, runs in comparison.arms.items()
        if all(map(arm_agreement.states_probabilities, runs))
    }
    if not calibrated:
        return {}
    best, runs = next(iter(calibrated.items()))
    pooled = _together([run.predictions.split("test") for run in runs])
    title = f"{best}: {len(runs)} seeds together" if len(runs) > 1 else best
    curves = {
        arm: calibration.risk_coverage(_together([_scaled_test(run.predictions) for run in its]))
        for arm, its in list(calibrated.items())[:_MOST_CURVES]
    }
    return {
        "reliability": run_figures.reliability(calibration.reliability(pooled), title=title),
        "coverage": run_figures.risk_coverage(curves, target=arm_agreement.TARGET_ACCURACY),
    }


def _together(parts: Sequence[Predictions]) -> Predictions:
    return replace(parts[0], frame=pd.concat([part.frame for part in parts], ignore_index=True))


def _scaled_test(table: Predictions) -> Predictions:
    return calibration.scaled(
        table.split("test"), calibration.useful_temperature(table.split("val"))
    )


def _histories(comparison: Comparison) -> dict[str, list[pd.DataFrame]]:
    return {
        arm: histories
        for arm, runs in comparison.arms.items()
        if (histories := [run.history for run in runs if run.history is not None])
    }


_ORDER = ("stops", "flagged", "note", "not_judged", "held")


def _findings(comparison: Comparison) -> list[dict[str, Any]]:
    """The outcomes of all checks, the gravest first; runs whose messages differ in their numbers
    alone share a row, which has the message of the first.
    """
    rows = [{**finding, "where": "comparison"} for finding in comparison.audit]
    for arm, runs in comparison.arms.items():
        for run in runs:
            where = f"{arm}, seed {run.seed}"
            rows += [{**row, "where": where} for row in outcomes.read(run.result.get("audit", []))]
    alike: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        key = (row["outcome"], row["check"], re.sub(r"\d+", "0", row["message"]))
        alike.setdefault(key, []).append(row)
    merged = [{**group[0], "where": _where(group), "num": len(group)} for group in alike.values()]
    return sorted(
        merged, key=lambda row: (_ORDER.index(row["outcome"]), row["check"], row["where"])
    )


def _where(rows: Sequence[Mapping[str, str]]) -> str:
    first = rows[0]["where"]
    if len(rows) == 1:
        return first
    varied = len({row["message"] for row in rows}) > 1
    return f"{len(rows)} runs, such as {first}" if varied else f"{len(rows)} runs"


def _environment(runs: Sequence[RunRecord]) -> dict[str, str]:
    known = pd.concat([pd.json_normalize(run.about("environment"), sep=" ") for run in runs])
    values = {name: list(dict.fromkeys(map(str, known[name].dropna()))) for name in known}
    return {name: " / ".join(several) for name, several in values.items() if len(several) <= 4}


def _number(value: Any, metric: str) -> float | None:
    value = value.get(metric) if isinstance(value, Mapping) else value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


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
    better: dict[str, list[Pair]] = {}
    for pair in shown:
        better.setdefault(pair.order[1], []).append(pair)
    clauses = []
    for loser, pairs in better.items():
        metric = words(comparison.metric)  # the interval over images alone stands in the verdicts
        sizes = [f" ({metric} {pair.numbers.partition(';')[0]})" for pair in pairs]
        names = [pair.order[0] for pair in pairs]
        if len(set(sizes)) == 1:  # arms with the same predictions
            subject, size = _joined(names), sizes[0]
        else:
            subject, size = _joined([f"{a}{b}" for a, b in zip(names, sizes, strict=True)]), ""
        clauses.append(f"{subject} {'are' if len(pairs) > 1 else 'is'} better than {loser}{size}")
    rest = [pair for pair in comparison.pairs if not pair.is_significant]
    if len(rest) == 1:
        clauses.append(f"{rest[0].first} and {rest[0].second} {rest[0].relation}")
    elif rest:
        clauses.append(f"{len(rest)} of {len(comparison.pairs)} pairs do not differ significantly")
    return "; ".join(clauses) + "."


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def summary(comparison: Comparison) -> str:
    """The best arm on validation, its test result with both intervals, and kappa's bands."""
    best, row = next(iter(comparison.arms)), comparison.table.iloc[0]
    one = comparison.estimates[best][comparison.metric]
    value, low, high, image_low, image_high, new_low, new_high = (
        amount(one.name, getattr(one, name))
        for name in ("value", "low", "high", "image_low", "image_high", "new_low", "new_high")
    )
    runs, more, over = "one training", "", f"95 % interval {low} to {high} {one.method}"
    if one.num_seeds > 1:
        runs = f"mean of {one.num_seeds} trainings"
        over += f", {image_low} to {image_high} over images with these trainings"
        more = f" A single new training is expected between {new_low} and {new_high} (95 %)."
    bands = dict.fromkeys(metrics.landis_koch(row[f"kappa_{end}"]) for end in ("low", "high"))
    return (
        f"Best on validation: {best}, test {words(one.name)} {value} ({runs}; {over}) on "
        f"{row['num_test']:,} test images; kappa {row['kappa']:.2f} ({row['kappa_low']:.2f} to "
        f"{row['kappa_high']:.2f}), {' to '.join(bands)} agreement.{more}"
    )


def _published_sentences(comparison: Comparison, published: Mapping[str, Any]) -> list[str]:
    # Other images were measured, so it stays a remark.
    best = next(iter(comparison.arms))
    one = comparison.estimates[best][comparison.metric]
    sentences = []
    for name, figures in published.items():
        value = _number(figures, comparison.metric)
        if value is not None:
            place = "below" if value < one.low else "above" if value > one.high else "inside"
            ours = interval(one.name, one.value, one.low, one.high)
            sentences.append(
                f"{name} ({amount(one.name, value)}, published by others, on other images) lies "
                f"{place} the interval of {best}, {ours}."
            )
    return sentences


def confusion_cells(comparison: Comparison, arm: str) -> dict[str, Any]:
    """One arm's matrix for the page: `arm`, `accuracy`, `num`, and `rows` of cells, or `largest`
    cells for many classes.

    A cell holds `count`, `share` (of its row), `right`, `truth`, `predicted` and `images`, those
    behind it: `path` and `probability` of the predicted class (the highest over the seeds), the
    most confident first.
    """
    counts, behind = comparison.confusion(arm), _images_by_cell(comparison.arms[arm])
    names, shares = comparison.class_names, np.nan_to_num(metrics.shares(counts))

    def cell(row: int, column: int) -> dict[str, Any]:
        return {
            "count": int(counts[row, column]),
            "share": float(shares[row, column]),
            "right": row == column,
            "truth": names[row],
            "predicted": names[column],
            "images": behind.get((row, column), []),
        }

    matrix = {
        "arm": arm,
        "accuracy": float(metrics.accuracy(counts)),
        "num": int(counts.sum()),
        "rows": [],
        "largest": [],
    }
    if len(names) <= MOST_CLASSES:
        places = range(len(names))
        return matrix | {"rows": [[cell(row, column) for column in places] for row in places]}
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_NUM_LARGEST]
    largest = [cell(*np.unravel_index(place, wrong.shape)) for place in order if wrong.flat[place]]
    return matrix | {"largest": largest}


def wanted_images(confusions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The images to embed: all of the confusions first, then of the right ones, as far as a page
    carries them (600).
    """
    cells = [cell for one in confusions for row in [*one["rows"], one["largest"]] for cell in row]
    wanted: dict[str, None] = {}
    for right in (False, True):
        chosen = [cell["images"] for cell in cells if cell["right"] == right]
        for place in range(max(map(len, chosen), default=0)):
            for images in chosen:
                if place < len(images) and len(wanted) < _MAX_PICTURES:
                    wanted[images[place]["path"]] = None
    return list(wanted)


def _images_by_cell(runs: Sequence[RunRecord]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    cells: dict[tuple[int, int], dict[str, float]] = {}
    for run in runs:
        part = run.predictions.split("test")
        rows = zip(part.frame["path"], part.truth, part.predicted, part.confidence, strict=True)
        for path, truth, predicted, probability in rows:
            cell = cells.setdefault((int(truth), int(predicted)), {})
            cell[path] = max(cell.get(path, 0.0), float(probability))
    return {
        place: [
            {"path": path, "probability": probability}
            for path, probability in sorted(cell.items(), key=lambda item: (-item[1], item[0]))
        ]
        for place, cell in cells.items()
    }


def hardest(comparison: Comparison, dataset: Dataset, *, num: int = 12) -> Drawing:
    """The test images whose true class got the lowest probability, with the predictions and the
    number of runs that were right.
    """
    table = comparison.hardest(num)
    captions = []
    for row in table.itertuples():
        wrong = f", not {row.predicted}" if row.predicted else ""
        captions.append(f"{row.label}{wrong}\nright in {row.num_right} of {row.num_runs}")
    return _pictures(table, captions, dataset, "Hardest images")


def disputed(comparison: Comparison, dataset: Dataset, *, num: int = 12) -> Drawing:
    """The test images on which two sure arms contradict each other, with every class that an arm
    named.
    """
    table = arm_agreement.images(comparison, num)
    named = [
        list(dict.fromkeys(row)) for row in table[list(comparison.arms)].itertuples(index=False)
    ]
    captions = [
        f"{label}\n→ {' / '.join(predicted)}"
        for label, predicted in zip(table["label"], named, strict=True)
    ]
    order = ": the truth, then the predictions, the best arm first" if captions else ""
    return _pictures(table, captions, dataset, f"Where arms disagree{order}")


def _pictures(table: pd.DataFrame, captions: list[str], dataset: Dataset, title: str) -> Drawing:
    shown, kept = [], []
    for path, caption in zip(table["path"], captions, strict=True):
        try:
            shown.append(thumbnails.of(dataset, path))
        except (OSError, decode.ImageError):
            continue  # a folder that was cleared since; the table still names it
        kept.append(caption)
    return (
        run_figures.pictures(shown, kept, title=title)
        if shown
        else run_figures.message(f"{title}: none.")
    )
