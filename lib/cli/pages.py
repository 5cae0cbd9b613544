"""Commands that open a browser page: lab, board, web."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lib.cli.arguments import add, argument, repeated
from lib.errors import DarkroomError

_JUPYTER = Path(__file__).parent / "jupyter"
"""A Jupyter configuration folder: JupyterLab asks no question about news and updates."""


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    passed_on = "further options are passed on to it, such as --port"
    add(commands, "lab", _lab, f"open JupyterLab on the notebooks; {passed_on} 8889")
    add(commands, "board", _board, f"open TensorBoard on all runs; {passed_on} 6007")
    for name in ("lab", "board"):
        commands.choices[name].set_defaults(rest=[])
    add(
        commands,
        "web",
        _web,
        "serve the site: runs, maps of feature spaces, pictures to classify",
        argument(
            "--port", "8050 by default; 0 takes a free one", type=int, default=8050, metavar="N"
        ),
        argument(
            "--host",
            "address to serve on (default: this machine alone; no password)",
            default="127.0.0.1",
        ),
        repeated("--name", "a further host name to answer to (may be given again)"),
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
    config = os.pathsep.join(filter(None, [str(_JUPYTER), os.environ.get("JUPYTER_CONFIG_PATH")]))
    # An installed environment's own kernel comes before whatever the user has registered.
    own = {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_PATH": config}
    environment = {**machine.FRUGAL, **os.environ, **own}
    command = [sys.executable, "-m", name, *arguments]
    if os.name == "posix":
        os.execve(sys.executable, command, environment)  # noqa: S606  signals reach it without us
    return subprocess.run(command, env=environment, check=False).returncode


def _web(arguments: argparse.Namespace) -> int:
    from lib.web import site

    return site.serve(host=arguments.host, port=arguments.port, names=tuple(arguments.name))
