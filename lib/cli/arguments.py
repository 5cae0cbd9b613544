"""Declarations of command-line arguments, and NAME=VALUE pairs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lib.errors import DarkroomError

_EXAMPLES = {"--set": "epochs=20", "--threshold": "dark=0.1", "--verdict": "blurred=keep"}


@dataclass(frozen=True)
class Argument:
    """One argument: its names, its help, and what else `add_argument` takes."""

    names: tuple[str, ...]
    help: str
    settings: dict[str, Any]

    def add_to(self, parser: Any) -> None:
        """Adds it to a parser or to one of its groups."""
        parser.add_argument(*self.names, help=self.help, **self.settings)


def argument(name: str, text: str, *names: str, **settings: Any) -> Argument:
    """Returns a positional argument, or an option with a value."""
    return Argument((name, *names), text, settings)


def flag(name: str, text: str) -> Argument:
    """Returns an option without a value."""
    return Argument((name,), text, {"action": "store_true"})


def repeated(name: str, text: str, **settings: Any) -> Argument:
    """Returns an option that may be given again."""
    return Argument((name,), text, {"action": "append", "default": [], **settings})


DATA = argument("data", "a data set's name, or the path of a folder, table or archive")
JSON = flag("--json", "print the outcome as JSON, for scripts")
SET = repeated(
    "--set",
    "another value of a parameter in every notebook that has it, such as --set data=path/to/folder,"
    " or in one stage, such as --set train.epochs=20",
    metavar="NAME=VALUE",
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
    commands: Any,
    name: str,
    command: Callable[[argparse.Namespace], int] | None,
    text: str,
    *arguments: Argument,
    **more: Any,
) -> argparse.ArgumentParser:
    """Adds a command with its help, its arguments and the function that runs it."""
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", **more
    )
    parser.set_defaults(command=command)
    for one in arguments:
        one.add_to(parser)
    return parser


def settings(pairs: list[str], option: str = "--set") -> dict[str, str]:
    """Returns NAME=VALUE pairs as typed. Raises DarkroomError for anything else, and for a name
    that is given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            example = _EXAMPLES.get(option, "label=artist")
            raise DarkroomError(
                f"{option} takes NAME=VALUE, such as {option} {example}. Received: {pair!r}."
            )
        if name in values:
            raise DarkroomError(
                f"{option} gives `{name}` twice: {values[name]!r} and {value!r}. Give it once."
            )
        values[name] = value
    return values
