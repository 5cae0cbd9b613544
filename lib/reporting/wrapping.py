"""Sentences as they are printed: JupyterLab breaks a long line in the middle of a word."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

WIDTH = 88  # characters that a code cell's output shows on a screen of 1,300 pixels


def wrapped(sentences: str | Iterable[str], *, apart: str = "\n") -> str:
    """Returns the sentences one below the other, each broken between words and never between a
    number and its percent sign; lines that one of them has already are kept.
    """
    paragraphs = [sentences] if isinstance(sentences, str) else sentences
    lines = (
        line.replace(" %", "\u00a0%") for paragraph in paragraphs for line in paragraph.split("\n")
    )
    return apart.join(
        textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in lines
    )
