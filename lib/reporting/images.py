"""Images in reports and notebooks: thumbnails, images behind a confusion, the hardest ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data import decode, thumbnails
from lib.data.dataset import Dataset
from lib.evaluation import arm_agreement
from lib.evaluation import confusion_metrics as matrices
from lib.evaluation.comparison import Comparison
from lib.evaluation.run_records import RunRecord
from lib.reporting import run_figures
from lib.reporting.style import Drawing

SIDE = 192
"""Pixels of a thumbnail's longer side: twice what a page shows, for sharp screens and for zoom."""


def data_uris(raw: Path, paths: Iterable[str], *, side: int = SIDE) -> dict[str, str]:
    """Path to `data:image/jpeg;base64,…`, the longer side `side` px; files that are gone or do not
    decode are left out.
    """
    return {
        path: uri
        for path in dict.fromkeys(paths)
        if (uri := _data_uri(Path(raw) / path, side)) is not None
    }


def _data_uri(path: Path, side: int) -> str | None:
    from PIL import Image

    try:
        pixels = decode.decode(path.read_bytes()).pixels
    except (OSError, decode.ImageError):
        return None  # the report says "picture not available" in its place
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    small = decode.resize(
        pixels, height=max(1, round(height * scale)), width=max(1, round(width * scale))
    )
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, format="JPEG", quality=76)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


MOST_CLASSES = 20
"""More classes are drawn as a figure, with a list of the largest confusions, and not as a table."""

_NUM_LARGEST = 12  # confusions that are listed where there is no table
_MAX_PICTURES = 600


def confusion_cells(comparison: Comparison, arm: str) -> dict[str, Any]:
    """One arm's matrix for the page: `arm`, `accuracy`, `num`, and `rows` of cells, or `largest`
    cells for many classes.

    A cell holds `count`, `share` (of its row), `right`, `truth`, `predicted` and `images`, those
    behind it: `path` and `probability` of the predicted class (the highest over the seeds), the
    most confident first.
    """
    counts, behind = comparison.confusion(arm), _images_by_cell(comparison.arms[arm])
    names, shares = comparison.class_names, np.nan_to_num(matrices.shares(counts))

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
        "accuracy": float(matrices.accuracy(counts)),
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
