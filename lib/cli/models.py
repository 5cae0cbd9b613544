"""Commands about models: best, apply, export, spread."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.cli.arguments import (
    ACCURACY,
    CLUSTER,
    DATA,
    JSON,
    WORKERS,
    add,
    argument,
    repeated,
    settings,
)
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from lib.batch.executor import Executor


_RUN = argument(
    "run",
    "a trained run such as quickstart/train/custom-s0, a study (its best run), or a saved model",
)
_PICTURES = "the folder of new pictures; it is only read"


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    add(
        commands,
        "best",
        _best,
        "make the best model that a time limit allows",
        DATA,
        argument("--minutes", "time limit (20)", type=float, default=20, metavar="N"),
        repeated(
            "--set",
            "a parameter of 3_train that all candidates share, such as target=attr_artist",
            metavar="NAME=VALUE",
        ),
        JSON,
    )
    add(
        commands,
        "apply",
        _apply,
        "give every picture of a folder a label, and say which of them to look at",
        _RUN,
        argument("folder", _PICTURES),
        ACCURACY,
        argument(
            "--copy",
            "copy the accepted pictures there, one folder a class",
            default="",
            metavar="FOLDER",
        ),
        repeated("--only", "copy only this class (may be given again)", metavar="CLASS"),
        JSON,
    )
    add(
        commands,
        "export",
        _export,
        "write a trained model for other programs",
        _RUN,
        argument(
            "format",
            "what to write; hub: a folder to upload to a model hub",
            choices=["hub", "onnx", "openvino", "saved_model", "tflite"],
        ),
        argument("--out", "where it goes (default: beside the saved model)", metavar="FOLDER"),
    )
    _add_spread(commands)


def _add_spread(commands: Any) -> None:
    parser = add(
        commands, "spread", None, "one long pass over very many files, on all cores or on a cluster"
    )
    passes = parser.add_subparsers(title="passes", required=True, metavar="PASS")
    size = argument("--size", "files in a part (2000)", type=int, default=2000, metavar="FILES")
    shared = (WORKERS, CLUSTER, size)
    add(
        passes,
        "scan",
        _spread_scan,
        "read and measure every file, for 1_clean to judge",
        DATA,
        *shared,
    )
    add(
        passes,
        "features",
        _spread_features,
        "compute the features of all accepted images, for 8_features",
        argument("data", "the name of a cleaned data set"),
        argument("model", "a trained run such as wikiart/train/custom-s0"),
        *shared,
    )
    add(
        passes,
        "apply",
        _spread_apply,
        "label every picture of a folder, as `darkroom apply` does",
        argument(
            "model", "a trained run, a study (its best run), or a saved model that all machines see"
        ),
        argument("pictures", _PICTURES),
        ACCURACY,
        *shared,
    )


def _best(arguments: argparse.Namespace) -> int:
    from lib import quiet

    with quiet.loading():
        from lib.training.best import command

    return command(
        arguments.data,
        minutes=arguments.minutes,
        values=settings(arguments.set),
        as_json=arguments.json,
    )


def _apply(arguments: argparse.Namespace) -> int:
    from lib.apply import command

    return command.apply(
        arguments.run,
        arguments.folder,
        accuracy=arguments.accuracy,
        copy_to=arguments.copy,
        classes=tuple(arguments.only),
        as_json=arguments.json,
    )


def _export(arguments: argparse.Namespace) -> int:
    from lib.apply import command

    return command.export(arguments.run, arguments.format, out=arguments.out)


def _spread_scan(arguments: argparse.Namespace) -> int:
    from lib.cleaning.scan import scan
    from lib.data import intake
    from lib.reporting.text import print_progress

    dataset = intake.bring(arguments.data)
    with _executor(dataset.folder, arguments) as executor:
        table = scan(dataset, executor=executor, part_size=arguments.size, progress=print_progress)
    print(f"{dataset.name}: {len(table):,} files read. Next: `darkroom clean {dataset.name}`.")
    return 0


def _spread_features(arguments: argparse.Namespace) -> int:
    from lib.apply import classifier
    from lib.data import dataset as datasets
    from lib.embeddings import feature_spaces
    from lib.reporting.text import print_progress

    dataset, (path, _) = datasets.load(arguments.data), classifier.find(arguments.model)
    with _executor(dataset.folder, arguments) as executor:
        folder = feature_spaces.compute(
            dataset, path, executor=executor, part_size=arguments.size, progress=print_progress
        )
    print(f"Features: {folder / 'features.npy'}")
    return 0


def _spread_apply(arguments: argparse.Namespace) -> int:
    from lib import paths
    from lib.apply import command

    with _executor(paths.logs(), arguments) as executor:
        return command.apply(
            arguments.model,
            arguments.pictures,
            accuracy=arguments.accuracy,
            executor=executor,
            part_size=arguments.size,
        )


def _executor(folder: Path, arguments: argparse.Namespace) -> Executor:
    from lib.batch import machine
    from lib.batch.executor import Executor

    workers, cluster = arguments.workers, arguments.cluster
    if workers is not None and (workers < 1 or cluster):
        raise DarkroomError(
            "--workers must be at least 1 and is for this machine; with --cluster leave it out."
        )
    local = None if cluster else machine.num_cores()
    executor = Executor(workers=workers or local, cluster=cluster)
    executor.check(folder)
    return executor
