"""The exception for invalid requests, and parts of its messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and line end, and those that turn the direction of text."""


class DarkroomError(ValueError):
    """A request that cannot be met: what was received, what was expected, how to fix it.

    The command line prints the message without a traceback and exits with 2.
    """


def check_choice(name: str, value: object, choices: Iterable[str], *, where: str = "") -> None:
    """Raises DarkroomError unless the argument `name` is one of `choices`."""
    known = [str(choice) for choice in choices]
    if value not in known:
        place = f"{where}: " if where else ""
        raise DarkroomError(
            f"{place}`{name}` must be one of {', '.join(known) or 'none'}. "
            f"Received: {value!r}.{suggest(str(value), known)}"
        )


def unknown(
    what: str, name: str, known: Iterable[str], *, where: str = "", hint: str = ""
) -> DarkroomError:
    """Returns the error for an unknown name, with the nearest known name and all known names."""
    there = list(known)
    return DarkroomError(
        f"There is no {what} {name!r}{where}.{suggest(name, there)} There are: "
        f"{', '.join(there) or 'none'}.{hint and ' '}{hint}"
    )


def suggest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    """Returns " Did you mean 'x'?" for the choice most like `word`, or "" when none is near."""
    import difflib

    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def few(names: Sequence[str], most: int = 5) -> str:
    """Returns the first names and how many there are, for a message."""
    shown = ", ".join(map(str, list(names)[:most])) or "none"
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def visible(text: Any) -> Any:
    """Returns a text with its control and direction characters spelled out, such as \\x1b; anything
    else, and text that is marked as safe HTML, as it is.

    File and class names are other people's: such characters would rewrite a terminal's lines, or
    show a name that is not the file's.
    """
    if not isinstance(text, str) or hasattr(text, "__html__") or not _HIDDEN.search(text):
        return text
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
