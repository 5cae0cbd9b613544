"""Commands about studies and their runs: run, status, results, list, check, prune."""

from __future__ import annotations

import argparse
from typing import Any

from lib.cli.arguments import CLUSTER, JSON, SET, add, argument, flag, repeated
from lib.errors import DarkroomError

MAX_SEEDS = 1000


class _Seeds(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, text: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, _seeds(text))


# fmt: off
def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    add(commands, "run", "lib.batch.command:run",
        "run a study, or continue one; finished runs are skipped",
        argument("name", "name of a study in studies/, or the path of a .toml file"),
        SET,
        flag("--tiny", "the study's small twin, in a folder of its own"),
        flag("--force", "repeat what has finished (the earlier runs are kept aside)"),
        repeated("--stage", "run only this stage (may be given again)", dest="stages"),
        repeated("--arm", "run only this arm (may be given again)", dest="arms"),
        argument("--workers", "runs at the same time on this machine", type=int, metavar="N"),
        CLUSTER,
        argument("--seeds", "this many seeds, or these (0,1,7), instead of the study's",
                 metavar="N", action=_Seeds, default=[]),
        flag("--log-output", "print what the cells print"),
        argument("--output", "write the executed notebooks there too: a folder, s3://, gs://, …",
                 default="", metavar="FOLDER"),
        flag("--prepare-only", "only write each run's notebook with its parameters"),
        flag("--dry-run", "only show what would be run, and why"),
        JSON,
        epilog="Ctrl-C once: no further run starts. Twice: the running ones are stopped too.")
    add(commands, "status", "lib.batch.listing:print_status",
        "show the state of studies, also while they run",
        argument("folder", "folder in logs/, such as quickstart or quickstart@flowers "
                 "(default: all)", nargs="?"),
        JSON)
    add(commands, "results", "lib.batch.listing:print_results",
        "write the runs of a study as a table, and the page of studies",
        argument("folder", "folder in logs/ (default: all of them)", nargs="?"),
        JSON,
        argument("--mlflow", "export the study's finished runs to this MLflow store",
                 metavar="URI"))
    add(commands, "list", "lib.batch.listing:print_list",
        "show what there is: studies, data sets, notebooks, backbones",
        argument("what", "studies, data, notebooks or backbones; or a notebook such as 3_train, "
                 "for its parameters", nargs="?"),
        argument("parameter", "one parameter of the notebook, with all that it may be", nargs="?"),
        JSON)
    add(commands, "check", "lib.batch.command:check",
        "check study files and notebooks without running anything",
        argument("names", "names or paths of study files (default: all)", nargs="*"), SET, JSON)
    add(commands, "prune", "lib.batch.prune:run",
        "delete what no run needs: earlier runs, leftovers, checkpoints",
        flag("--yes", "do not ask"),
        flag("--caches", "delete pixel caches and features too; both are rebuilt when needed"),
        JSON)
# fmt: on


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words) or words == ["0"]:
        raise DarkroomError(
            "--seeds takes how many seeds, such as 5, or the seeds with commas, such as 0,1,7. "
            f"Received: {text!r}."
        )
    if "," not in text and int(words[0]) > MAX_SEEDS:
        raise DarkroomError(f"--seeds takes at most {MAX_SEEDS} seeds. Received: {text}.")
    return list(range(int(words[0]))) if "," not in text else [int(word) for word in words]
