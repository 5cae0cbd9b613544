"""Commands that open something to look at: lab, board, web."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lib.cli.arguments import add
from lib.errors import DarkroomError


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    for name, command, text in (
        (
            "lab",
            _lab,
            "open JupyterLab on the notebooks; further options are passed on to it, such as --port "
            "8889",
        ),
        (
            "board",
            _board,
            "open TensorBoard on all runs; further options are passed on to it, such as --port "
            "6007",
        ),
    ):
        add(commands, name, command, text).set_defaults(rest=[])
    parser = add(
        commands, "web", _web, "serve the site: runs, maps of feature spaces, pictures to classify"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8050,
        metavar="N",
        help="8050 where none is given; 0 takes a free one",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on (default: this machine alone; no password)",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a further host name to answer to (may be given again)",
    )


def _lab(arguments: argparse.Namespace) -> int:
    from lib import paths

    place = [
        "--ServerApp.root_dir",
        str(paths.notebooks().parent),
        "--LabApp.default_url",
        "/lab/tree/notebooks",
    ]
    return _module("jupyterlab", [*place, *arguments.rest], package="jupyterlab")


def _board(arguments: argparse.Namespace) -> int:
    from lib import paths

    return _module(
        "lib.cli.board", ["--logdir", str(paths.logs()), *arguments.rest], package="tensorboard"
    )


def _module(name: str, arguments: list[str], *, package: str) -> int:
    import importlib.util
    import os
    import subprocess

    from lib.batch import machine

    if importlib.util.find_spec(package) is None:
        raise DarkroomError(
            f"{package} is not installed. Install it with: python -m pip install {package}"
        )
    try:  # an installed environment's own kernel comes before whatever the user has registered
        environment = {**machine.FRUGAL, **os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
        return subprocess.run(
            [sys.executable, "-m", name, *arguments], env=environment, check=False
        ).returncode
    except KeyboardInterrupt:
        return 0


def _web(arguments: argparse.Namespace) -> int:
    from lib.web import serving

    return serving.serve(host=arguments.host, port=arguments.port, names=tuple(arguments.name))
