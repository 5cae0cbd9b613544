"""The one class of error that stands for a mistake of the user's, not of ours."""

from __future__ import annotations

from collections.abc import Sequence


class DarkroomError(ValueError):
    """A wish that cannot be fulfilled, told in one sentence: what came, what was expected, how to
    mend it.

    The command line prints the sentence without a traceback and exits with 2.
    """


def suggest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    """Returns " Did you mean 'x'?" for the choice most like `word`, or "" when none is near."""
    import difflib

    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def few(names: Sequence[str], most: int = 5) -> str:
    """Returns the first names and how many there are, for a message."""
    shown = ", ".join(map(str, list(names)[:most])) or "none"
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")
