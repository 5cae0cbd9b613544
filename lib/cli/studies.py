"""Commands about studies and their runs: run, status, results, list, check, prune."""

from __future__ import annotations

import argparse
from typing import Any

from lib.cli.arguments import add, settings
from lib.errors import DarkroomError

MAX_SEEDS = 1000


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    _add_run(commands)
    parser = add(
        commands,
        "status",
        _status,
        "show how studies stand, also while they run in another terminal",
    )
    parser.add_argument(
        "study",
        nargs="?",
        help="folder in logs/, such as quickstart or quickstart@flowers (default: all)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    resulting = add(
        commands,
        "results",
        _results,
        "write all runs of a study as a table, and the page of all studies",
    )
    resulting.add_argument("study", nargs="?", help="folder in logs/ (default: all of them)")
    resulting.add_argument("--json", action="store_true", help="the table as JSON, for scripts")
    resulting.add_argument(
        "--mlflow", metavar="URI", help="export the study's finished runs to this MLflow store"
    )
    listing = add(commands, "list", _list, "show what there is: studies, data sets, notebooks")
    listing.add_argument(
        "what",
        nargs="?",
        help="studies, data or notebooks; or a notebook such as 3_train, for its parameters",
    )
    listing.add_argument("--json", action="store_true", help="as JSON, for scripts")
    checking = add(
        commands, "check", _check, "check study files and notebooks without running anything"
    )
    checking.add_argument("study", nargs="*", help="names or paths of study files (default: all)")
    checking.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="as in `run`"
    )
    pruning = add(
        commands,
        "prune",
        _prune,
        "delete what no run needs: earlier runs, leftovers, checkpoints without a run",
    )
    pruning.add_argument("--yes", action="store_true", help="do not ask")
    pruning.add_argument(
        "--caches",
        action="store_true",
        help="delete pixel caches and features too; both are made again",
    )
    for each in (checking, pruning):
        each.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _add_run(commands: Any) -> None:
    parser = add(
        commands,
        "run",
        _run,
        "run a study; what has finished is skipped, so a stopped study goes on by the same command",
        epilog="Ctrl-C once: runs at work end, no other begins. Twice: they are stopped too.",
    )
    parser.add_argument("study", help="name of a study in studies/, or the path of a .toml file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value of a parameter in every notebook that has it, such as "
        "--set data=path/to/folder, or in one stage, such as --set train.epochs=20",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="the study's small twin, in a folder of its own"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="run again what has finished (the earlier runs are kept aside)",
    )
    parser.add_argument(
        "--stage",
        action="append",
        default=[],
        help="run only this stage (may be given more than once)",
    )
    parser.add_argument(
        "--arm", action="append", default=[], help="run only this arm (may be given more than once)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="runs at the same time on this machine"
    )
    parser.add_argument(
        "--cluster", metavar="URL", help="use this Dask cluster, such as tcp://10.0.0.1:8786"
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        help="so many seeds, or these (0,1,7), in place of the study's own",
    )
    parser.add_argument("--log-output", action="store_true", help="print what the cells print")
    parser.add_argument(
        "--output",
        default="",
        metavar="FOLDER",
        help="write the executed notebooks there too: a folder, s3://, gs://, …",
    )
    parser.add_argument(
        "--prepare-only",
        action="store_true",
        help="only write each run's notebook with its parameters",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only show what would be run, and why"
    )
    parser.add_argument(
        "--json", action="store_true", help="only the outcome, as JSON, for scripts"
    )


def _run(arguments: argparse.Namespace) -> int:
    from lib.batch import command

    return command.run(
        arguments.study,
        settings=settings(arguments.set),
        tiny=arguments.tiny,
        options=command.Options(
            force=arguments.force,
            stages=arguments.stage,
            arms=arguments.arm,
            seeds=_seeds(arguments.seeds),
            workers=arguments.workers,
            cluster=arguments.cluster,
            dry_run=arguments.dry_run,
            prepare_only=arguments.prepare_only,
            log_output=arguments.log_output,
            output=arguments.output,
            json=arguments.json,
        ),
    )


def _seeds(text: str | None) -> list[int]:
    """The seeds that `--seeds` names: a number of them, or a list with commas."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words) or words == ["0"]:
        raise DarkroomError(
            "--seeds takes how many seeds, such as 5, or the seeds with commas, such as 0,1,7. "
            f"Received: {text!r}."
        )
    if "," not in text and int(words[0]) > MAX_SEEDS:
        raise DarkroomError(f"--seeds takes at most {MAX_SEEDS} seeds. Received: {text}.")
    return list(range(int(words[0]))) if "," not in text else [int(word) for word in words]


def _status(arguments: argparse.Namespace) -> int:
    from lib.batch import listing

    return listing.print_status(arguments.study, as_json=arguments.json)


def _results(arguments: argparse.Namespace) -> int:
    from lib.batch import listing

    if arguments.mlflow:
        return _export_to_mlflow(arguments)
    return listing.print_results(arguments.study, as_json=arguments.json)


def _export_to_mlflow(arguments: argparse.Namespace) -> int:
    from lib.batch import mlflow_export

    if arguments.study is None:
        raise DarkroomError("--mlflow needs a study: darkroom results STUDY --mlflow URI.")
    exported = mlflow_export.export(arguments.study, arguments.mlflow)
    print("\n".join(f"exported {name}" for name in exported) or "nothing new to export")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from lib.batch import listing

    return listing.print_list(arguments.what, as_json=arguments.json)


def _check(arguments: argparse.Namespace) -> int:
    from lib.batch import command

    return command.check(arguments.study, settings=settings(arguments.set), as_json=arguments.json)


def _prune(arguments: argparse.Namespace) -> int:
    from lib.batch import prune

    return prune.run(yes=arguments.yes, caches=arguments.caches, as_json=arguments.json)
