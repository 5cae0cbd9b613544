"""`darkroom spread`: one long pass over many files, on all cores of this machine or on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from lib import hashing, paths
from lib.batch import machine
from lib.batch.executor import PART_SIZE, Executor
from lib.errors import DarkroomError


def scan(data: str, *, workers: int | None, cluster: str | None, size: int = PART_SIZE) -> int:
    """Reads every file of a data set; cleaning then finds all of them measured."""
    from lib.cleaning.scan import scan as whole
    from lib.data import sources
    from lib.spread import scanning

    dataset = sources.bring(data)
    with _executor(dataset.folder, workers, cluster) as executor:
        measure = scanning.by(executor, dataset, size=size)
        table = whole(dataset, measure=measure, progress=_told)
    print(
        f"{dataset.name}: {len(table):,} files read. Go on with 1_clean or `darkroom clean "
        f"{dataset.name}`."
    )
    return 0


def features(
    data: str, model: str, *, workers: int | None, cluster: str | None, size: int = PART_SIZE
) -> int:
    """Computes the features of a data set's accepted images; 8_features then finds them done."""
    from lib.data import dataset as datasets
    from lib.spread import features as computing

    dataset = datasets.load(data)
    with _executor(dataset.folder, workers, cluster) as executor:
        folder = computing.compute(executor, dataset, model, size=size, progress=_told)
    print(f"Features: {folder / 'features.npy'}")
    return 0


def apply(
    model: str,
    pictures: str,
    *,
    accuracy: float,
    workers: int | None,
    cluster: str | None,
    size: int = PART_SIZE,
) -> int:
    """Has a model label every picture of a folder, as `darkroom apply` does."""
    from lib.apply import command
    from lib.apply.folder import where
    from lib.spread import answers

    kept = paths.logs() / ".parts" / hashing.digest(model, str(where(pictures).resolve()))
    with _executor(paths.logs(), workers, cluster) as executor:
        return command.apply(
            model,
            pictures,
            accuracy=accuracy,
            answers=answers.by(executor, model, kept=kept, size=size),
        )


def _executor(folder: Path, workers: int | None, cluster: str | None) -> Executor:
    if workers is not None and (workers < 1 or cluster):
        raise DarkroomError(
            "--workers must be at least 1, and is for this machine: a cluster has the workers it "
            "has."
        )
    executor = Executor(
        workers=workers or (None if cluster else machine.num_cores()), cluster=cluster
    )
    executor.check(folder)
    return executor


def _told(done: int, number: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{done:,} of {number:,} files",
            end="\n" if done == number else "",
            file=sys.stderr,
            flush=True,
        )
