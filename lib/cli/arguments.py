"""Declarations of command-line arguments, and NAME=VALUE pairs."""

from __future__ import annotations

import argparse
from typing import Any

from lib.errors import DarkroomError

Argument = tuple[tuple[str, ...], dict[str, Any]]
"""The names of an argument, and what else `add_argument` takes."""


def argument(name: str, text: str, *names: str, **settings: Any) -> Argument:
    """Returns a positional argument, or an option with a value."""
    return (name, *names), {"help": text, **settings}


def flag(name: str, text: str, **settings: Any) -> Argument:
    """Returns an option without a value."""
    return argument(name, text, action="store_true", **settings)


def repeated(name: str, text: str, **settings: Any) -> Argument:
    """Returns an option that may be given again."""
    return argument(name, text, action="append", default=[], **settings)


def pairs(name: str, text: str, example: str, **settings: Any) -> Argument:
    """Returns an option that takes NAME=VALUE pairs and may be given again."""
    settings = {"metavar": "NAME=VALUE", **settings}
    return argument(name, text, action=_Pairs, const=example, default={}, **settings)


class _Pairs(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, pair: Any, option: str | None = None) -> None:
        name, sign, value = pair.partition("=")
        known = getattr(namespace, self.dest)
        if not sign or not name:
            raise DarkroomError(
                f"{option} takes NAME=VALUE, such as {option} {self.const}. Received: {pair!r}."
            )
        if name in known:
            raise DarkroomError(
                f"{option} gives `{name}` twice: {known[name]!r} and {value!r}. Give it once."
            )
        setattr(namespace, self.dest, {**known, name: value})


DATA = argument("data", "a data set's name, or the path of a folder, table or archive")
JSON = flag("--json", "print the outcome as JSON, for scripts", dest="as_json")
SET = pairs(
    "--set",
    "another value of a parameter in every notebook that has it, such as --set data=path/to/folder,"
    " or in one stage, such as --set train.epochs=20",
    "epochs=20",
    dest="settings",
)
WORKERS = argument("--workers", "processes on this machine", type=int, metavar="N")
CLUSTER = argument("--cluster", "use this Dask cluster, such as tcp://10.0.0.1:8786", metavar="URL")
ACCURACY = argument(
    "--accuracy",
    "target accuracy of the accepted labels (0.95)",
    type=float,
    default=0.95,
    metavar="SHARE",
)


def add(
    commands: Any, name: str, function: str, text: str, *arguments: Argument, **more: Any
) -> argparse.ArgumentParser:
    """Adds a command: its help, its arguments, and the `module:function` that they are passed to by
    name.
    """
    about = text[0].upper() + text[1:] + "."
    parser = commands.add_parser(name, help=text, description=about, **more)
    parser.set_defaults(function=function)
    add_arguments(parser, *arguments)
    return parser


def add_arguments(parser: Any, *arguments: Argument) -> None:
    """Adds arguments to a parser or to one of its groups."""
    for names, settings in arguments:
        parser.add_argument(*names, **settings)
