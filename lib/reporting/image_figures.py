"""The pictures behind a comparison, for the notebook: those that nobody gets right, and those that
arms quarrel about.
"""

from __future__ import annotations

import pandas as pd

from lib.data import decode, thumbnails
from lib.data.dataset import Dataset
from lib.evaluation import disagreements
from lib.evaluation.comparison import Comparison
from lib.reporting import plots
from lib.reporting.style import Drawing


def hardest(comparison: Comparison, dataset: Dataset, *, num: int = 12) -> Drawing:
    """The test images whose true class got the least probability, with what they were taken for and
    how often rightly.
    """
    table = comparison.hardest(num)
    captions = [
        f"{row.label}{f', not {row.said}' if row.said else ''}\nright in {row.num_right} of "
        f"{row.num_runs}"
        for row in table.itertuples()
    ]
    return _pictures(table, captions, dataset, "Hardest images")


def disputed(comparison: Comparison, dataset: Dataset, *, num: int = 12) -> Drawing:
    """The test images on which two sure arms contradict each other, with every class that an arm
    named.
    """
    table = disagreements.images(comparison, num)
    named = [
        list(dict.fromkeys(row)) for row in table[list(comparison.arms)].itertuples(index=False)
    ]
    captions = [
        f"{label}\n→ {' / '.join(said)}" for label, said in zip(table["label"], named, strict=True)
    ]
    order = ": the truth, then what they said, the best arm first" if captions else ""
    return _pictures(table, captions, dataset, f"Where arms disagree{order}")


def _pictures(table: pd.DataFrame, captions: list[str], dataset: Dataset, title: str) -> Drawing:
    shown, kept = [], []
    for path, caption in zip(table["path"], captions, strict=True):
        try:
            shown.append(thumbnails.of(dataset, path))
        except (OSError, decode.ImageError):
            continue  # a folder that was cleared since; the table still names it
        kept.append(caption)
    return plots.pictures(shown, kept, title=title) if shown else plots.said(f"{title}: none.")
