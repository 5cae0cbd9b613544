"""The commands `darkroom apply` and `darkroom export`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib import parameter_table, paths, runs
from lib.apply import classifier as models
from lib.apply import folder as folders
from lib.apply import report
from lib.apply.folder import Outcome
from lib.batch import dask_executor
from lib.batch.dask_executor import Executor
from lib.reporting.text import SITE, print_progress
from lib.runs import Run


def apply(
    model: str,
    pictures: str,
    *,
    accuracy: float,
    copy_to: str = "",
    classes: tuple[str, ...] = (),
    as_json: bool = False,
    executor: Executor | None = None,
    part_size: int = folders.PART_SIZE,
) -> int:
    """Applies a trained run to a folder as a run of 9_apply, `logs/apply@<folder>/apply/all`.

    Prints the result, as JSON if `as_json`; returns the exit code. See `folder.apply` for the
    arguments.
    """
    classifier = models.load(model)
    folder = folders.find_folder(pictures)
    target = Path(copy_to) if copy_to else None
    # Before a run exists that could fail.
    folders.check(classifier, folder, accuracy=accuracy, copy_to=target, classes=classes)
    name = re.sub(r"[^\w.@+-]+", "_", Path(pictures).expanduser().resolve().name)
    given = {
        "study": f"apply@{name.lstrip('._@+-')[:80] or 'pictures'}",
        "model": model,
        "pictures": pictures,
        "target_accuracy": accuracy,
        "copy_to": copy_to,
        "classes": list(classes),
    }
    run = runs.start("9_apply", parameter_table.find("9_apply").defaults() | given, data=None)
    outcome = folders.apply(
        classifier,
        folder,
        run.folder,
        accuracy=accuracy,
        copy_to=target,
        classes=classes,
        progress=print_progress,
        executor=executor,
        model=model,
        part_size=part_size,
    )
    page = report.write(outcome, run.folder)
    about = {"model": classifier.name, "sentences": [outcome.sentence]}
    run.finish({"metrics": outcome.numbers, **about})
    if as_json:
        print(json.dumps(facts(outcome, run, page), ensure_ascii=False))
        return 0
    print(outcome.sentence)
    for path, problem in outcome.summary.unread:
        print(f"  not read: {path} ({problem})")
    if outcome.copied_to is not None:
        print(f"Copies: {outcome.copied_to}")
    print(f"Tables: {run.folder / 'labels.csv'} and labels.parquet\nReport: {page}")
    place = quote(f"{run.study}/{run.stage}/{run.unit}")
    print(f"Label the most informative by keyboard: `darkroom web`, {SITE}/label/{place}")
    return 0


def spread(
    model: str, pictures: str, *, workers: int | None, cluster: str | None, **given: Any
) -> int:
    """Applies a trained run to a folder of very many files, on all cores or on a cluster."""
    with dask_executor.for_pass(paths.logs(), workers, cluster) as executor:
        return apply(model, pictures, executor=executor, **given)


def facts(outcome: Outcome, run: Run, page: Path) -> dict[str, Any]:
    """Returns what `darkroom apply --json` prints."""
    summary = outcome.summary
    return {
        "model": outcome.classifier.name,
        "folder": str(outcome.folder),
        "class_names": list(outcome.classifier.class_names),
        **outcome.numbers,
        "tested": outcome.classifier.tested(outcome.threshold),
        "by_class": {name: dict(counts) for name, counts in summary.by_class.items()},
        "unread": [{"path": path, "problem": problem} for path, problem in summary.unread],
        "copied_to": str(outcome.copied_to) if outcome.copied_to else None,
        "labels_csv": str(run.folder / "labels.csv"),
        "labels_parquet": str(run.folder / "labels.parquet"),
        "report": str(page),
        "sentence": outcome.sentence,
    }


def export(model: str, format: str, *, out: str | None = None) -> int:
    """Writes a trained model in another format; prints its path and returns the exit code."""
    from lib.apply import export as exports

    if format == "hub":
        folder = exports.hub_folder(model, folder=Path(out) if out else None)
        print(f"{folder}\nUpload it with: hf upload OWNER/NAME {folder}")
        return 0
    path, difference = exports.export(model, format, folder=Path(out) if out else None)
    print(f"{path}\n{path.with_suffix('.json')}: classes, side, temperature, thresholds")
    print(f"Its probabilities differ from Keras' by at most {max(difference, 1e-7):.0e}.")
    return 0
