"""Figures and the report page of a model applied to a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import files
from lib.apply.classifier import Classifier
from lib.apply.folder import NUM_BINS, Outcome
from lib.data import decode, thumbnails
from lib.evaluation import calibration
from lib.reporting import run_figures, style, text
from lib.reporting.style import Drawing

TEMPLATES = Path(__file__).parent / "templates"
_MAX_UNSURE, _MAX_PICTURES = 24, 240


def about(classifier: Classifier) -> pd.DataFrame:
    """Returns what is known of a classifier, one row a fact."""
    facts = _about(classifier)
    splits = {} if classifier.known is None else {"validation": "val", "test": "test"}
    scores = {name: _accuracy(classifier, split) for name, split in splits.items()}
    return pd.DataFrame({"": pd.Series(facts | scores)})


def coverage(classifier: Classifier, target_accuracy: float) -> Drawing:
    """Draws accuracy against coverage on validation and test, and the target accuracy."""
    if classifier.known is None:
        return run_figures.message("This model has no run, so its curve is not known.")
    if classifier.multilabel:
        return run_figures.message(
            "A multilabel model is judged by exact match; see the table above."
        )
    curves = {
        name: calibration.risk_coverage(classifier.known.split(split))
        for split, name in (("val", "validation"), ("test", "test"))
    }
    return run_figures.risk_coverage(curves, target=target_accuracy)


@style.in_style
def probabilities(outcome: Outcome) -> Drawing:
    """Draws a histogram of the confidence, with the threshold."""
    bins, edges = outcome.summary.bins, np.linspace(0, 1, NUM_BINS + 1)
    drawing = Drawing(5.2, 2.9)
    axes = drawing.subplots()
    width = 0.92 / NUM_BINS
    axes.bar(edges[:-1], bins, width, align="edge", color=style.RIGHT, alpha=0.55)
    if outcome.threshold is not None:
        axes.axvline(outcome.threshold, color=style.WRONG, linewidth=1.6, linestyle=(0, (4, 3)))
        left = outcome.threshold > 0.4  # on the side with room for the text
        axes.annotate(
            f"accepted from {100 * outcome.threshold:.1f} %",
            (outcome.threshold, 1),
            (-5 if left else 5, -4),
            ha="right" if left else "left",
            va="top",
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=9,
            color=style.WRONG,
        )
    axes.set(xlim=(0, 1), xlabel="calibrated probability of the label", ylabel="pictures")
    axes.margins(y=0.18)
    style.show_percent(axes.xaxis)
    style.set_title(drawing, "Confidence")
    confident = int(bins[-2:].sum())
    drawing.alt = (
        f"Confidence: {confident:,} of {int(bins.sum()):,} pictures have a probability of 90 % or "
        "more."
    )
    return drawing


def least_certain(outcome: Outcome) -> Drawing:
    """Draws the least certain pictures with their labels."""
    pictures, captions = [], []
    for confidence, path, label in outcome.summary.unsure[:_MAX_UNSURE]:
        try:
            pixels = decode.decode((outcome.folder / path).read_bytes()).pixels
        except (OSError, decode.ImageError):
            continue  # deleted since it was read
        pictures.append(thumbnails.square(pixels))
        captions.append(f"{label}? {100 * confidence:.0f} %\n{path.rsplit('/', 1)[-1]}")
    if not pictures:
        return run_figures.message("There is nothing to look at.")
    return run_figures.pictures(pictures, captions, title="Least certain")


def write(outcome: Outcome, folder: Path) -> Path:
    """Writes `report.html` into `folder` and returns its path."""
    path = Path(folder) / "report.html"
    files.write_text(path, render(outcome))
    return path


def render(outcome: Outcome) -> str:
    """Returns the page as HTML with its pictures embedded."""
    from markupsafe import Markup

    summary = outcome.summary
    accepted = {name: examples for name, examples in summary.accepted.items() if examples}
    uris = thumbnails.data_uris(outcome.folder, _pictures(outcome, accepted))
    missing = Markup('<span class="gone">picture not shown</span>')
    image = Markup('<img src="{}" alt="{}" loading="lazy">')
    return (
        text.templates(TEMPLATES)
        .get_template("applied.html")
        .render(
            title=f"Labels for {outcome.folder.resolve().name}",
            outcome=outcome,
            summary=summary,
            classes=sorted(summary.by_class.items(), key=lambda item: -sum(item[1].values())),
            accepted=list(accepted.items()),
            picture=lambda path: image.format(uris[path], path) if path in uris else missing,
            figure=probabilities(outcome).embedded(),
            facts=_facts(outcome),
        )
    )


def _about(classifier: Classifier) -> dict[str, str]:
    return {
        "model": classifier.name,
        "classes": ", ".join(classifier.class_names),
        "input": f"{classifier.size[0]} × {classifier.size[1]} pixels, {classifier.resize}",
        "temperature": f"{classifier.temperature:.2f}",
    }


def _accuracy(classifier: Classifier, split: str) -> str:
    accuracy, num = classifier.accuracy(split)
    measure = "exact match" if classifier.multilabel else "accuracy"
    return f"{measure} {100 * accuracy:.1f} % ({num:,} images)"


def _pictures(outcome: Outcome, accepted: dict[str, list[tuple[float, str]]]) -> list[str]:
    """Paths of the embedded pictures: uncertain ones, then one of each class in turn."""
    chosen = [path for _, path, _ in outcome.summary.unsure]
    longest = max((len(examples) for examples in accepted.values()), default=0)
    for place in range(longest):
        rows = (examples for examples in accepted.values() if place < len(examples))
        chosen += [examples[place][1] for examples in rows]
    return chosen[:_MAX_PICTURES]


def _facts(outcome: Outcome) -> dict[str, str]:
    classifier, num = outcome.classifier, outcome.summary.num
    facts = {
        "folder": outcome.folder.resolve().name,
        **_about(classifier),
        "target accuracy": f"{100 * outcome.target_accuracy:g} %",
    }
    if classifier.known is not None:
        facts["test images of its run"] = _accuracy(classifier, "test")
    if outcome.copied_to is not None:
        facts["copied to"] = outcome.copied_to.name
    speed = num / max(outcome.seconds, 1e-9)
    facts["time"] = f"{outcome.seconds:,.1f} s, {speed:,.0f} files a second"
    return facts
