"""`darkroom spread`: one long pass over many files, on all cores of a machine or on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from lib import paths
from lib.batch import machine
from lib.batch.executor import Executor
from lib.errors import DarkroomError


def scan(data: str, *, workers: int | None, cluster: str | None, size: int) -> int:
    """Reads every file of a data set; cleaning then finds all of them measured."""
    from lib.cleaning.scan import scan
    from lib.data import intake

    dataset = intake.bring(data)
    with _executor(dataset.folder, workers, cluster) as executor:
        table = scan(dataset, executor=executor, part_size=size, progress=_print_progress)
    print(f"{dataset.name}: {len(table):,} files read. Next: `darkroom clean {dataset.name}`.")
    return 0


def features(data: str, model: str, *, workers: int | None, cluster: str | None, size: int) -> int:
    """Computes the features of a data set's accepted images; 8_features then finds them."""
    from lib.apply import classifier
    from lib.data import dataset as datasets
    from lib.embeddings import feature_spaces

    dataset, (path, _) = datasets.load(data), classifier.find(model)
    with _executor(dataset.folder, workers, cluster) as executor:
        folder = feature_spaces.compute(
            dataset, path, executor=executor, part_size=size, progress=_print_progress
        )
    print(f"Features: {folder / 'features.npy'}")
    return 0


def apply(
    model: str,
    pictures: str,
    *,
    accuracy: float,
    workers: int | None,
    cluster: str | None,
    size: int,
) -> int:
    """Labels every picture of a folder, as `darkroom apply` does."""
    from lib.apply import command

    with _executor(paths.logs(), workers, cluster) as executor:
        return command.apply(model, pictures, accuracy=accuracy, executor=executor, part_size=size)


def _executor(folder: Path, workers: int | None, cluster: str | None) -> Executor:
    if workers is not None and (workers < 1 or cluster):
        raise DarkroomError(
            "--workers must be at least 1 and is for this machine; with --cluster leave it out."
        )
    local = None if cluster else machine.num_cores()
    executor = Executor(workers=workers or local, cluster=cluster)
    executor.check(folder)
    return executor


def _print_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr, flush=True)
