"""`darkroom apply` and `darkroom export`, behind the command line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lib import runs, schema
from lib.apply import classifier as models
from lib.apply import folder as folders
from lib.apply import page
from lib.apply.folder import Answers


def apply(
    model: str,
    pictures: str,
    *,
    accuracy: float,
    copy_to: str = "",
    classes: tuple[str, ...] = (),
    answers: Answers | None = None,
) -> int:
    """Applies a trained run to a folder as a run of 9_apply, `logs/apply@<folder>/apply/all`, and
    tells what came of it.

    `answers` is who computes, see `folder.apply`.
    """
    classifier = models.load(model)
    folder = folders.where(pictures)
    name = (
        re.sub(r"[^\w.@+-]+", "_", Path(pictures).expanduser().resolve().name).lstrip("._@+-")[:80]
        or "pictures"
    )
    target = Path(copy_to) if copy_to else None
    folders.check(
        classifier, folder, accuracy=accuracy, copy_to=target, classes=classes
    )  # before a run is there to fail
    given = {
        "study": f"apply@{name}",
        "model": model,
        "pictures": pictures,
        "target_accuracy": accuracy,
        "copy_to": copy_to,
        "classes": list(classes),
    }
    run = runs.start("9_apply", schema.find("9_apply").defaults() | given, data=None)
    outcome = folders.apply(
        classifier,
        folder,
        run.folder,
        accuracy=accuracy,
        copy_to=target,
        classes=classes,
        progress=_told if sys.stderr.isatty() else None,
        answers=answers,
    )
    path = page.write(outcome, run.folder)
    run.finish({"metrics": outcome.numbers, "model": classifier.name})
    print(outcome.sentence)
    for unread, problem in outcome.seen.unread:
        print(f"  not read: {unread} ({problem})")
    if outcome.copied_to is not None:
        print(f"Copies: {outcome.copied_to}")
    print(f"Tables: {run.folder / 'labels.csv'} and labels.parquet\nReport: {path}")
    return 0


def export(model: str, format: str, *, out: str | None = None) -> int:
    """Writes a trained model in another format and tells where it is."""
    from lib.apply import export as exports

    path, apart = exports.export(model, format, folder=Path(out) if out else None)
    print(f"{path}\n{path.with_suffix('.json')}: classes, side, temperature, thresholds")
    print(f"Its probabilities are within {max(apart, 1e-7):.0e} of Keras' own.")
    return 0


def _told(done: int, num: int) -> None:
    print(
        f"\r{done:,} of {num:,} files", end="\n" if done == num else "", file=sys.stderr, flush=True
    )
