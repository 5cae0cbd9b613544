"""Commands about models: best, apply, export, spread."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from lib.cli.arguments import add, settings


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    making = add(commands, "best", _best, "make the best model that a time limit allows")
    making.add_argument("data", help="a data set's name, or the path of a folder, table or archive")
    making.add_argument("--minutes", type=float, default=20, metavar="N", help="for all of it (20)")
    making.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of 3_train that all candidates share, such as target=attr_artist",
    )
    making.add_argument("--json", action="store_true", help="only the outcome, as JSON")
    parser = add(
        commands,
        "apply",
        _apply,
        "give every picture of a folder a label, and say which of them to look at",
    )
    parser.add_argument(
        "run",
        help="a trained run such as quickstart/train/custom-s0, a study (its best run), a saved "
        "model",
    )
    parser.add_argument("folder", help="the folder of new pictures; it is only read")
    parser.add_argument(
        "--accuracy",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="wished for what is accepted (0.95)",
    )
    parser.add_argument(
        "--copy",
        default="",
        metavar="FOLDER",
        help="copy the accepted pictures there, one folder a class",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CLASS",
        help="copy only this class (may be repeated)",
    )
    parser.add_argument(
        "--json", action="store_true", help="only the outcome, as JSON, for scripts"
    )
    exporting = add(commands, "export", _export, "write a trained model for other programs")
    exporting.add_argument("run", help="as for `apply`")
    exporting.add_argument(
        "format", choices=["onnx", "openvino", "saved_model", "tflite"], help="what to write"
    )
    exporting.add_argument(
        "--out", metavar="FOLDER", help="where it goes (default: beside the saved model)"
    )
    _add_spread(commands)


def _add_spread(commands: Any) -> None:
    parser = add(
        commands, "spread", None, "one long pass over very many files, on all cores or on a cluster"
    )
    passes = parser.add_subparsers(title="passes", required=True, metavar="PASS")
    scanning = add(passes, "scan", _spread, "read and measure every file, for 1_clean to judge")
    computing = add(
        passes, "features", _spread, "compute the features of all accepted images, for 8_features"
    )
    applying = add(
        passes, "apply", _spread, "label every picture of a folder, as `darkroom apply` does"
    )
    scanning.add_argument(
        "data", help="a data set's name, or the path of a folder, table or archive"
    )
    computing.add_argument("data", help="the name of a cleaned data set")
    computing.add_argument("model", help="a trained run such as wikiart/train/custom-s0")
    applying.add_argument(
        "model",
        help="a trained run, a study (its best run), or a saved model that all machines see",
    )
    applying.add_argument("pictures", help="the folder of pictures; it is only read")
    applying.add_argument(
        "--accuracy",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="wished for what is accepted (0.95)",
    )
    for name, each in (("scan", scanning), ("features", computing), ("apply", applying)):
        each.set_defaults(work=name)
        each.add_argument(
            "--workers", type=int, metavar="N", help="processes on this machine (one a core)"
        )
        each.add_argument(
            "--cluster", metavar="URL", help="use this Dask cluster, such as tcp://10.0.0.1:8786"
        )
        each.add_argument(
            "--size", type=int, default=2000, metavar="FILES", help="files in a part (2000)"
        )


def _best(arguments: argparse.Namespace) -> int:
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


def _spread(arguments: argparse.Namespace) -> int:
    from lib.cli import spread

    work = getattr(spread, arguments.work)
    taken = inspect.signature(work).parameters
    return work(**{name: value for name, value in vars(arguments).items() if name in taken})
