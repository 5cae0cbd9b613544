"""The card of a saved model, for people: Markdown made of facts, plain values and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(title: str, facts: Sequence[str], card: Mapping[str, Any]) -> str:
    """Returns the card: the facts as a list, then the plain values of `card`, then a table for each
    mapping in it.

    The class names are left out, since they are among the facts.
    """
    sections = {name: value for name, value in card.items() if isinstance(value, dict)}
    lines = [f"# {title}", "", *(f"- {fact}" for fact in facts)]
    lines += [
        f"- {name}: {value}"
        for name, value in card.items()
        if name not in ("class_names", *sections)
    ]
    for name, section in sections.items():
        lines += ["", f"## {name}", "", "| what | value |", "|---|---|"]
        lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in section.items()]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
