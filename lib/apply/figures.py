"""The figures of an application: what the model knows, how sure it must be, how sure it was, and
what to look at.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd

from lib.apply.classifier import Classifier
from lib.apply.folder import Outcome
from lib.apply.seen import NUM_BINS
from lib.data import decode, thumbnails
from lib.evaluation import calibration
from lib.reporting import plots, style
from lib.reporting.style import Drawing

_MOST = 24


def about(classifier: Classifier) -> pd.DataFrame:
    """Returns what a classifier knows of itself, one row a fact."""
    facts = {
        "model": classifier.name,
        "classes": ", ".join(classifier.class_names),
        "sees": f"{classifier.size[0]} × {classifier.size[1]} pixels, {classifier.resize}",
        "temperature": f"{classifier.temperature:.2f}",
    }
    if classifier.known is not None:
        for split, name in (("val", "validation"), ("test", "test")):
            part = classifier.known.split(split)
            facts[name] = (
                f"{100 * float((part.predicted == part.truth).mean()):.1f} % of {len(part):,} "
                "images right"
            )
    return pd.DataFrame({"": pd.Series(facts)})


def coverage(classifier: Classifier, wished: float) -> Drawing:
    """How accuracy falls as more images are answered, on validation and test, and where the wished
    accuracy cuts.

    A model without its run has no curve; then the figure says so.
    """
    if classifier.known is None:
        return plots.message("This model came without its run, so its curve is not known.")
    curves = {
        split: calibration.risk_coverage(classifier.known.split(split)) for split in ("val", "test")
    }
    return plots.risk_coverage({"validation": curves["val"], "test": curves["test"]}, wished=wished)


def probabilities(outcome: Outcome) -> Drawing:
    """How sure the model was: a histogram of the highest probabilities, with the threshold."""
    bins, edges = outcome.seen.bins, np.linspace(0, 1, NUM_BINS + 1)
    drawing = Drawing(5.2, 2.9)
    with matplotlib.rc_context(style.settings()):
        axes = drawing.subplots()
        axes.bar(edges[:-1], bins, 1 / NUM_BINS * 0.92, align="edge", color=style.RIGHT, alpha=0.55)
        if outcome.threshold is not None:
            axes.axvline(outcome.threshold, color=style.WRONG, linewidth=1.6, linestyle=(0, (4, 3)))
            left = outcome.threshold > 0.4  # beside the line, where there is room
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
        axes.set(xlim=(0, 1), xlabel="calibrated probability of the given class", ylabel="pictures")
        axes.margins(y=0.18)
        style.show_percent(axes.xaxis)
        style.set_title(drawing, "How sure the model was")
    sure = int(bins[-2:].sum())
    drawing.alt = f"How sure the model was: {sure:,} of {int(bins.sum()):,} pictures got a probability of 90 % or more."
    return drawing


def least_sure(outcome: Outcome) -> Drawing:
    """The pictures that the model is least sure of, with what it would say."""
    shown, captions = [], []
    for sure, path, label in outcome.seen.unsure[:_MOST]:
        try:
            pixels = decode.decode((outcome.folder / path).read_bytes()).pixels
        except (OSError, decode.ImageError):
            continue  # it has gone since it was read
        shown.append(thumbnails.square(pixels))
        captions.append(f"{label}? {100 * sure:.0f} %\n{path.rsplit('/', 1)[-1]}")
    return (
        plots.pictures(shown, captions, title="Least sure")
        if shown
        else plots.message("There is nothing to look at.")
    )
