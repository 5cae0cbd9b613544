"""The exception for invalid requests, and parts of its messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class DarkroomError(ValueError):
    """A request that cannot be met: what was received, what was expected, how to fix it.

    The command line prints the message without a traceback and exits with 2.
    """


def check_choice(name: str, value: object, choices: Iterable[str], *, where: str = "") -> None:
    """Raises DarkroomError unless the argument `name` is one of `choices`."""
    known = list(choices)
    if value not in known:
        place = f"{where}: " if where else ""
        raise DarkroomError(
            f"{place}`{name}` must be one of {', '.join(known)}. "
            f"Received: {value!r}.{suggest(str(value), known)}"
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
