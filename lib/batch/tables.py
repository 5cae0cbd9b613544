"""Tables of a study file: read from TOML, and checked to hold only what is known there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.errors import DarkroomError, suggest

OWN = ("study", "arm", "seed", "tiny")
"""Parameters that only the suite itself fills in."""


def read(path: Path) -> dict[str, Any]:
    """Returns a TOML file's content. Raises DarkroomError, with the line, where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise DarkroomError(f"{path.name} is not written in UTF-8. Save it as UTF-8.") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # numbers of thousands of digits, lists in lists without end
        raise DarkroomError(f"{path.name} is not TOML: {error}.") from None


def known(table: Any, allowed: Mapping[str, Any] | None, *, where: str) -> None:
    """Raises DarkroomError unless `table` is a table whose keys and types `allowed` names (None:
    any keys).
    """
    if not isinstance(table, dict):
        raise DarkroomError(f"{where} must be a table. Received: {table!r}.")
    for key, value in table.items() if allowed is not None else ():
        if key not in allowed:
            raise DarkroomError(
                f"{where} does not know `{key}`.{suggest(key, list(allowed))} It knows: "
                f"{', '.join(allowed)}."
            )
        if not isinstance(value, allowed[key]) or isinstance(value, bool):
            raise DarkroomError(f"`{key}` of {where} has the wrong type. Received: {value!r}.")


def free(table: Mapping[str, Any], *, where: str) -> None:
    """Raises DarkroomError when `table` sets a parameter that only the suite itself fills in."""
    if taken := [name for name in table if name in OWN]:
        raise DarkroomError(
            f"{where} must not set `{taken[0]}`: the suite fills it in from study, arms, seeds and "
            "--tiny."
        )
