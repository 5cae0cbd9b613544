"""Text in reports and notebooks: table rows, intervals, sentences, page templates."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from lib import errors, paths
from lib.evaluation import statistics
from lib.evaluation.formatting import amount, percent, words
from lib.runs import Run

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
ICON_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#1f2933"/>'
    '<circle cx="16" cy="16" r="8" fill="none" stroke="#e69f00" stroke-width="3"/>'
    '<circle cx="16" cy="16" r="2.5" fill="#fff"/></svg>'
)
ICON = "data:image/svg+xml," + quote(ICON_SVG)
"""The icon of all pages, as an address."""
SITE, BOARD = "http://localhost:8050", "http://localhost:6006"
"""Addresses of `darkroom web` and `darkroom board`."""


def published_row(figures: Any, metric: str) -> dict[str, str]:
    """A figure of others in the columns of `full`, with Wilson's interval where it says its number
    of images, `n`.

    `figures` is a number of the comparison's metric, or a table; what has no column goes to
    `words`.
    """
    table = dict(figures) if isinstance(figures, Mapping) else {metric: figures}
    num = table.pop("n", None) or table.pop("num_test", None)
    cells = {"test images": f"{num:,}"} if num else {}
    for name in {"accuracy", "kappa", metric} & set(table):
        value = table.pop(name)
        cells[words(name)] = amount(name, value)
        if name == "accuracy" and num:
            low, high = statistics.wilson(round(value * num), num)
            cells["95 %"] = f"{100 * low:.1f} to {100 * high:.1f} %"
    cells["words"] = "; ".join(
        str(value) if key == "source" else f"{key}: {value}" for key, value in table.items()
    )
    return cells


class Markdown(str):
    """Text that a notebook renders as Markdown."""

    __repr__ = str.__str__

    def _repr_markdown_(self) -> str:
        return str(self)


def markdown(sentences: str | Iterable[str]) -> Markdown:
    """Returns sentences as a notebook shows them: one as a paragraph, several as a list.

    Names in them, such as `lite0_frozen-s0`, stay as they are; nothing is read as markup.
    """
    paragraphs = [sentences] if isinstance(sentences, str) else list(sentences)
    lines = [_escaped(line) for paragraph in paragraphs for line in paragraph.split("\n") if line]
    return Markdown(lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines))


def facts(values: Mapping[str, Any]) -> pd.DataFrame:
    """Returns names and values as a table."""
    return pd.DataFrame({"value": [str(value) for value in values.values()]}, index=list(values))


def links(
    run: Run, *, data: str = "", report: Path | None = None, labels: bool = False
) -> Markdown:
    """Returns where to go on from a run: its page or report, the data page or the pictures to
    label on the site, and TensorBoard.
    """
    page = quote(f"{run.study}/{run.stage}/{run.unit}")
    places = [f"[report]({SITE}/runs/{page}/report)" if report else f"[run]({SITE}/runs/{page})"]
    places += [f"[label these pictures]({SITE}/label/{page})"] if labels else []
    places += [f"[data]({SITE}/data/{quote(data)})"] if data else []
    places[-1] += " (while `darkroom web` runs)"
    places += [f"[TensorBoard]({BOARD}) (while `darkroom board` runs)"] if data else []
    whole = f"The report as a file: `{report.relative_to(paths.root())}`\n\n" if report else ""
    return Markdown(f"{whole}Open {' · '.join(places)}")


def _escaped(line: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", line).replace(" %", "\u00a0%")


def templates(*folders: Path) -> jinja2.Environment:
    """Returns the templates of a page: those of its own folders, then those of this package."""
    import jinja2

    loader = jinja2.FileSystemLoader([*folders, TEMPLATES])
    whitespace = {"trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(
        loader=loader, autoescape=True, finalize=errors.visible, **whitespace
    )
    environment.filters |= {"percent": percent, "number": lambda value: f"{value:,}"}
    return environment


def print_progress(done: int, total: int) -> None:
    """Prints how many files are done on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty() and (done % 20 == 0 or done == total):
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr, flush=True)
