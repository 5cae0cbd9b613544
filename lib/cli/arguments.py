"""What all commands share: how one is added, and how NAME=VALUE is read."""

from __future__ import annotations

import argparse
from typing import Any

from lib.errors import DarkroomError


def add(commands: Any, name: str, command: Any, text: str, **more: Any) -> argparse.ArgumentParser:
    """Adds one command with its help and the function that does it; returns its parser for the
    arguments.
    """
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", **more
    )
    parser.set_defaults(command=command)
    return parser


def settings(pairs: list[str], option: str = "--set") -> dict[str, str]:
    """Returns NAME=VALUE pairs as typed. Raises DarkroomError for one that is none, and for a name
    given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            example = {
                "--set": "epochs=20",
                "--threshold": "dark=0.1",
                "--verdict": "blurred=keep",
            }.get(option, "label=artist")
            raise DarkroomError(
                f"{option} takes NAME=VALUE, such as {option} {example}. Received: {pair!r}."
            )
        if name in found:
            raise DarkroomError(
                f"{option} gives `{name}` twice: {found[name]!r} and {value!r}. Give it once."
            )
        found[name] = value
    return found
