"""Commands about studies and their runs: run, status, results, list, check, prune."""

from __future__ import annotations

import argparse
from typing import Any

from lib.cli.arguments import CLUSTER, JSON, SET, add, argument, flag, repeated, settings
from lib.errors import DarkroomError

MAX_SEEDS = 1000


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    add(
        commands,
        "run",
        _run,
        "run a study; finished runs are skipped, so the same command continues a stopped study",
        argument("study", "name of a study in studies/, or the path of a .toml file"),
        SET,
        flag("--tiny", "the study's small twin, in a folder of its own"),
        flag("--force", "repeat what has finished (the earlier runs are kept aside)"),
        repeated("--stage", "run only this stage (may be given again)"),
        repeated("--arm", "run only this arm (may be given again)"),
        argument("--workers", "runs at the same time on this machine", type=int, metavar="N"),
        CLUSTER,
        argument(
            "--seeds", "this many seeds, or these (0,1,7), instead of the study's", metavar="N"
        ),
        flag("--log-output", "print what the cells print"),
        argument(
            "--output",
            "write the executed notebooks there too: a folder, s3://, gs://, …",
            default="",
            metavar="FOLDER",
        ),
        flag("--prepare-only", "only write each run's notebook with its parameters"),
        flag("--dry-run", "only show what would be run, and why"),
        JSON,
        epilog="Ctrl-C once: no further run starts. Twice: the running ones are stopped too.",
    )
    _add_others(commands)


def _add_others(commands: Any) -> None:
    add(
        commands,
        "status",
        _status,
        "show the state of studies, also while they run in another terminal",
        argument(
            "study",
            "folder in logs/, such as quickstart or quickstart@flowers (default: all)",
            nargs="?",
        ),
        JSON,
    )
    add(
        commands,
        "results",
        _results,
        "write all runs of a study as a table, and the page of all studies",
        argument("study", "folder in logs/ (default: all of them)", nargs="?"),
        JSON,
        argument(
            "--mlflow", "export the study's finished runs to this MLflow store", metavar="URI"
        ),
    )
    add(
        commands,
        "list",
        _list,
        "show what there is: studies, data sets, notebooks, backbones",
        argument(
            "what",
            "studies, data, notebooks or backbones; or a notebook such as 3_train, for its "
            "parameters",
            nargs="?",
        ),
        JSON,
    )
    add(
        commands,
        "check",
        _check,
        "check study files and notebooks without running anything",
        argument("study", "names or paths of study files (default: all)", nargs="*"),
        SET,
        JSON,
    )
    add(
        commands,
        "prune",
        _prune,
        "delete what no run needs: earlier runs, leftovers, checkpoints without a run",
        flag("--yes", "do not ask"),
        flag("--caches", "delete pixel caches and features too; both are rebuilt when needed"),
        JSON,
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
    from lib.batch import results

    if arguments.study is None:
        raise DarkroomError("--mlflow needs a study: darkroom results STUDY --mlflow URI.")
    exported = results.export_to_mlflow(arguments.study, arguments.mlflow)
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
