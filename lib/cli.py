"""The command line `darkroom`. Every command's imports are its own, so that help is there at once.

Exit codes: 0 all is well; 1 a run failed or was stopped; 2 the wish itself was wrong, told in one sentence.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from typing import Any

from lib.errors import DarkroomError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if "rest" in arguments:
        arguments.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return arguments.command(arguments)
    except DarkroomError as error:
        print(f"darkroom: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("darkroom: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in ("ENOSPC", "EROFS", "EACCES", "EDQUOT"):
            raise
        print(f"darkroom: {error.strerror}: {error.filename or 'the disk'}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="darkroom",
        description="Image-classification experiments whose numbers can be believed.",
        epilog="Start with: darkroom run quickstart",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_status(commands)
    resulting = _add(commands, "results", _results, "write all runs of a study as a table, and the page of all studies")
    resulting.add_argument("study", nargs="?", help="folder in logs/ (default: all of them)")
    resulting.add_argument("--json", action="store_true", help="the table as JSON, for scripts")
    _add_apply(commands)
    _add_spread(commands)
    _add_clean(commands)
    _add_collect(commands)
    _add_store(commands)
    listing = _add(commands, "list", _list, "show studies, data sets and notebooks with their parameters")
    listing.add_argument("what", nargs="?", choices=["studies", "data", "notebooks"], help="only these")
    listing.add_argument("--json", action="store_true", help="as JSON, for scripts")
    checking = _add(commands, "check", _check, "check study files and notebooks without running anything")
    checking.add_argument("study", nargs="*", help="names or paths of study files (default: all)")
    checking.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as in `run`")
    checking.add_argument("--packages", action="store_true", help="also resolve the pinned packages, and ask for their flaws")
    pruning = _add(commands, "prune", _prune, "delete what no run needs: earlier runs, leftovers, checkpoints without a run")
    pruning.add_argument("--yes", action="store_true", help="do not ask")
    pruning.add_argument("--caches", action="store_true", help="delete pixel caches too; they are made again when needed")
    for each in (checking, pruning):
        each.add_argument("--json", action="store_true", help="as JSON, for scripts")
    for name, command, text in (
        ("lab", _lab, "open JupyterLab on the notebooks; further options are passed on to it, such as --port 8889"),
        ("board", _board, "open TensorBoard on all runs; further options are passed on to it, such as --port 6007"),
    ):
        _add(commands, name, command, text).set_defaults(rest=[])
    _add_web(commands)
    return parser


def _add(commands: Any, name: str, command: Any, text: str, **more: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", **more)
    parser.set_defaults(command=command)
    return parser


def _add_run(commands: Any) -> None:
    parser = _add(
        commands, "run", _run, "run a study; what has finished is skipped, so a stopped study goes on by the same command",
        epilog="Ctrl-C once: runs at work end, no other begins. Twice: they are stopped too.",
    )  # fmt: skip
    parser.add_argument("study", help="name of a study in studies/, or the path of a .toml file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="give a parameter another value in every notebook that has it, such as --set data=path/to/folder",
    )  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="the study's small twin, in a folder of its own")
    parser.add_argument("--force", action="store_true", help="run again what has finished (the earlier runs are kept aside)")
    parser.add_argument("--stage", action="append", default=[], help="run only this stage (may be given more than once)")
    parser.add_argument("--arm", action="append", default=[], help="run only this arm (may be given more than once)")
    parser.add_argument("--workers", type=int, metavar="N", help="runs at the same time on this machine")
    parser.add_argument("--cluster", metavar="URL", help="use this Dask cluster, such as tcp://10.0.0.1:8786")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be run, and why")
    parser.add_argument("--json", action="store_true", help="only the outcome, as JSON, for scripts")


def _add_status(commands: Any) -> None:
    parser = _add(commands, "status", _status, "show how studies stand, also while they run in another terminal")
    parser.add_argument("study", nargs="?", help="folder in logs/, such as quickstart or quickstart@flowers (default: all)")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _add_apply(commands: Any) -> None:
    parser = _add(commands, "apply", _apply, "give every picture of a folder a label, and say which of them to look at")
    parser.add_argument("run", help="a trained run such as quickstart/train/custom-s0, a study (its best run), a saved model")
    parser.add_argument("folder", help="the folder of new pictures; it is only read")
    parser.add_argument("--accuracy", type=float, default=0.95, metavar="SHARE", help="wished for what is accepted (0.95)")
    parser.add_argument("--copy", default="", metavar="FOLDER", help="copy the accepted pictures there, one folder a class")
    parser.add_argument("--only", action="append", default=[], metavar="CLASS", help="copy only this class (may be repeated)")
    exporting = _add(commands, "export", _export, "write a trained model for other programs")
    exporting.add_argument("run", help="as for `apply`")
    exporting.add_argument("format", choices=["onnx", "tflite", "saved_model"], help="what to write")
    exporting.add_argument("--out", metavar="FOLDER", help="where it goes (default: beside the saved model)")


def _add_spread(commands: Any) -> None:
    parser = _add(commands, "spread", None, "one long pass over very many files, on all cores or on a cluster")
    passes = parser.add_subparsers(title="passes", required=True, metavar="PASS")
    scanning = _add(passes, "scan", _spread, "read and measure every file, for 1_clean to judge")
    computing = _add(passes, "features", _spread, "compute the features of all accepted images, for 8_features")
    applying = _add(passes, "apply", _spread, "label every picture of a folder, as `darkroom apply` does")
    scanning.add_argument("data", help="a data set's name, or the path of a folder, table or archive")
    computing.add_argument("data", help="the name of a cleaned data set")
    computing.add_argument("model", help="a trained run such as wikiart/train/custom-s0")
    applying.add_argument("model", help="a trained run, a study (its best run), or a saved model that all machines see")
    applying.add_argument("pictures", help="the folder of pictures; it is only read")
    applying.add_argument("--accuracy", type=float, default=0.95, metavar="SHARE", help="wished for what is accepted (0.95)")
    for name, each in (("scan", scanning), ("features", computing), ("apply", applying)):
        each.set_defaults(work=name)
        each.add_argument("--workers", type=int, metavar="N", help="processes on this machine (one a core)")
        each.add_argument("--cluster", metavar="URL", help="use this Dask cluster, such as tcp://10.0.0.1:8786")
        each.add_argument("--size", type=int, default=2000, metavar="FILES", help="files in a part (2000)")


def _add_clean(commands: Any) -> None:
    parser = _add(
        commands, "clean", _clean, "look at every file of a data set and judge it; list, decide by hand, undo, export",
        epilog="No raw file is ever changed. Every decision is a line in datasets/NAME/ledger.jsonl and can be undone.",
    )  # fmt: skip
    parser.add_argument("data", help="a data set's name, or the path of a folder, table or archive")
    group = parser.add_argument_group("cleaning")
    group.add_argument("--look", default="none", metavar="NETWORK", help="a pretrained network finds wrong labels and outliers")
    for name, pair, text in (
        ("--threshold", "NAME=NUMBER", "such as dark=0.1"), ("--verdict", "FINDING=VERDICT", "such as blurred=keep"),
        ("--option", "NAME=VALUE", "of the source, such as label=artist"),
    ):  # fmt: skip
        group.add_argument(name, action="append", default=[], metavar=pair, help=text)
    group.add_argument("--workers", type=int, metavar="N", help="processes that read files (default: one a processor)")
    group = parser.add_argument_group("one act on a data set that has been cleaned; files as the findings name them")
    group.add_argument("--list", nargs="?", const="", metavar="FINDING", help="files with a finding or verdict")
    group.add_argument("--history", action="store_true", help="all decisions, the oldest first")
    group.add_argument("--undo", nargs="?", const=0, type=int, metavar="ENTRY", help="take back a decision (default: the last)")
    for verdict in ("keep", "review", "reject"):
        group.add_argument(f"--{verdict}", nargs="+", metavar="FILE", help=f"judge these files: {verdict}")
    group.add_argument("--relabel", nargs="+", metavar=("LABEL", "FILE"), help="give these files another label")
    group.add_argument("--export", metavar="FOLDER", help="write a clean copy with a folder a class")
    group.add_argument("--by-split", action="store_true", help="with --export: the source's own split as outer folders")


def _clean(arguments: argparse.Namespace) -> int:
    from lib.cleaning import command

    given = vars(arguments)
    plain = ("data", "look", "workers", "list", "history", "undo", "relabel", "export", "by_split")
    return command.run(command.Wish(
        **{name: given[name] for name in plain},
        options=_settings(arguments.option, "--option"), thresholds=_settings(arguments.threshold, "--threshold"),
        verdicts=_settings(arguments.verdict, "--verdict"),
        decided={name: given[name] for name in ("keep", "review", "reject") if given[name]},
    ))  # fmt: skip


def _add_collect(commands: Any) -> None:
    parser = _add(
        commands, "collect", _collect, "collect film posters by genre from TMDB, for those who have its permission",
        epilog="The key is read from the environment, TMDB_TOKEN. The same command goes on where it was stopped.",
    )  # fmt: skip
    parser.add_argument("name", help="what the data set is called here")
    parser.add_argument("--genres", required=True, help="TMDB's names with commas, such as Horror,Animation,Action")
    parser.add_argument("--per-genre", type=int, default=1000, metavar="N", help="films of each genre (1000)")
    parser.add_argument("--permission", default="", help="who allowed you to learn from TMDB's posters, when, for what")
    parser.add_argument("--side", type=int, default=0, help="scale posters to so many pixels square, such as 256")
def _add_web(commands: Any) -> None:
    parser = _add(commands, "web", _web, "serve the site: runs, maps of feature spaces, pictures to classify")
    parser.add_argument("--port", type=int, default=8050, metavar="N", help="8050 where none is given; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine alone; no password)")
    parser.add_argument("--name", action="append", default=[], help="a further host name to answer to (may be given again)")


def _web(arguments: argparse.Namespace) -> int:
    from lib.web import serving

    return serving.serve(host=arguments.host, port=arguments.port, names=tuple(arguments.name))


def _add_store(commands: Any) -> None:
    parser = _add(
        commands, "store", _store, "put data sets into MongoDB's GridFS and get them back",
        epilog="The server's address is read from the environment, DARKROOM_MONGO=mongodb://host/database. What was stopped "
        "goes on by the same command.",
    )  # fmt: skip
    parser.add_argument("what", choices=["put", "get", "list"], help="put a data set there, get it back, list what is there")
    parser.add_argument("name", nargs="?", default="", help="the data set; for put also the path of a folder")
    parser.add_argument("--as", dest="called", metavar="NAME", help="what it is called here when it comes back")


def _run(arguments: argparse.Namespace) -> int:
    from lib.batch import command

    return command.run(
        arguments.study,
        settings=_settings(arguments.set),
        tiny=arguments.tiny,
        options=command.Options(
            force=arguments.force, stages=arguments.stage, arms=arguments.arm, workers=arguments.workers,
            cluster=arguments.cluster, dry=arguments.dry_run, json=arguments.json,
        ),
    )  # fmt: skip


def _spread(arguments: argparse.Namespace) -> int:
    from lib.spread import command

    told = {name: value for name, value in vars(arguments).items() if name not in ("command", "work")}
    return getattr(command, arguments.work)(**told)


def _status(arguments: argparse.Namespace) -> int:
    from lib.batch import listing

    return listing.status(arguments.study, as_json=arguments.json)


def _apply(arguments: argparse.Namespace) -> int:
    from lib.apply import command

    return command.apply(
        arguments.run, arguments.folder, accuracy=arguments.accuracy, copy_to=arguments.copy, classes=tuple(arguments.only)
    )


def _export(arguments: argparse.Namespace) -> int:
    from lib.apply import command

    return command.export(arguments.run, arguments.format, out=arguments.out)


def _list(arguments: argparse.Namespace) -> int:
    from lib.batch import listing

    return listing.show(arguments.what, as_json=arguments.json)


def _check(arguments: argparse.Namespace) -> int:
    from lib.batch import advisories, command, packages

    code = command.check(arguments.study, settings=_settings(arguments.set), as_json=arguments.json)
    return max(code, packages.check(), advisories.check()) if arguments.packages else code


def _prune(arguments: argparse.Namespace) -> int:
    from lib.batch import prune

    return prune.run(yes=arguments.yes, caches=arguments.caches, as_json=arguments.json)


def _results(arguments: argparse.Namespace) -> int:
    from lib.batch import listing

    return listing.results(arguments.study, as_json=arguments.json)


def _collect(arguments: argparse.Namespace) -> int:
    from lib.data.sources import tmdb

    there = tmdb.collect(
        arguments.name, genres=[genre.strip() for genre in arguments.genres.split(",") if genre.strip()],
        per_genre=arguments.per_genre, permission=arguments.permission, side=arguments.side,
    )  # fmt: skip
    print(f"{len(there.files()) - 1:,} posters in {there.raw}; use them as data = {there.name!r}.")
    return 0


def _store(arguments: argparse.Namespace) -> int:
    from lib.data import sources
    from lib.data.sources import gridfs

    if arguments.what == "list":
        print("\n".join(gridfs.names()) or "The store holds no data set.")
        return 0
    if not arguments.name:
        raise DarkroomError(f"Which data set? Such as: darkroom store {arguments.what} elpv")
    if arguments.what == "put":
        done = gridfs.put(sources.bring(arguments.name))
    else:
        _, done = gridfs.get(arguments.name, called=arguments.called)
    print(f"{done.images:,} images ({done.num_bytes / 1e6:,.1f} MB), {done.moved:,} of them moved in {done.seconds:.1f} s.")
    return 0


def _lab(arguments: argparse.Namespace) -> int:
    from lib import paths

    place = ["--ServerApp.root_dir", str(paths.notebooks().parent), "--LabApp.default_url", "/lab/tree/notebooks"]
    return _module("jupyterlab", [*place, *arguments.rest], package="jupyterlab")


def _board(arguments: argparse.Namespace) -> int:
    from lib import paths

    return _module("tensorboard.main", ["--logdir", str(paths.logs()), *arguments.rest], package="tensorboard")


def _module(name: str, arguments: list[str], *, package: str) -> int:
    import importlib.util
    import os
    import subprocess

    from lib.batch import machine

    if importlib.util.find_spec(package) is None:
        raise DarkroomError(f"{package} is not installed. Install it with: python -m pip install {package}")
    try:  # an installed environment's own kernel comes before whatever the user has registered
        environment = {**machine.FRUGAL, **os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
        return subprocess.run([sys.executable, "-m", name, *arguments], env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0


def _settings(pairs: list[str], option: str = "--set") -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            example = {"--set": "epochs=20", "--threshold": "dark=0.1", "--verdict": "blurred=keep"}.get(option, "label=artist")
            raise DarkroomError(f"{option} takes NAME=VALUE, such as {option} {example}. Received: {pair!r}.")
        if name in found:
            raise DarkroomError(f"{option} gives `{name}` twice: {found[name]!r} and {value!r}. Give it once.")
        found[name] = value
    return found


if __name__ == "__main__":
    sys.exit(main())
