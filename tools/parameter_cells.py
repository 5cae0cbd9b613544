"""Writes the parameters cells of the suite's notebooks from `lib.parameter_table`: python -m
tools.parameter_cells
"""

from __future__ import annotations

import json
import pprint
import textwrap
from typing import Any

from lib import notebooks, parameter_table, parameter_types, paths
from lib.parameter_table import Schema
from lib.parameter_types import Parameter

CELL_WIDTH = 88


def source(table: Schema) -> str:
    """Returns the source of a parameters cell: the parameters with `in_cell`, by group, with
    `options` at the end.
    """
    lines, group = [], None
    for row in table.parameters.values():
        if not row.in_cell:
            continue
        if row.group != group:
            lines += [*([""] if lines else []), f"# {row.group}"]
            group = row.group
        lines.append(_line(row))
    if parameter_types.has_options(table.parameters):
        lines += [
            "",
            "# Everything else",
            f"options: dict = {{}}  # by name, as `darkroom list {table.name}` shows them",
        ]
    return "\n".join(lines)


def _line(row: Parameter) -> str:
    kind = row.type.removesuffix(" | None")  # papermill reads no other annotation than a plain name
    start = f"{row.name}: {kind} = {_literal(row.default)}"
    if len(f"{start}  # {row.help}") > CELL_WIDTH and isinstance(row.default, dict):
        items = [f"    {_literal(name)}: {_literal(value)}," for name, value in row.default.items()]
        start = "\n".join([f"{row.name}: {kind} = {{", *items, "}"])
    elif len(f"{start}  # {row.help}") > CELL_WIDTH and isinstance(row.default, list):
        items = textwrap.wrap(_literal(row.default)[1:-1], CELL_WIDTH - 4)
        items = textwrap.indent("\n".join(items), "    ")
        start = f"{row.name}: {kind} = [\n{items}\n]"
    with_choices = f"{start}  # {row.help}: {', '.join(map(str, row.choices))}"
    fits = all(len(line) <= CELL_WIDTH for line in with_choices.splitlines())
    return with_choices if row.choices and fits else f"{start}  # {row.help}"


def _literal(value: Any) -> str:
    """A literal with double quotes, as code is formatted everywhere else."""
    return pprint.pformat(value, width=10_000, sort_dicts=False).replace("'", '"')


def main() -> None:
    """Rewrites every parameters cell that differs."""
    for name, table in parameter_table.NOTEBOOKS.items():
        path = paths.checkout() / "notebooks" / f"{name}.ipynb"
        content = json.loads(path.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            if notebooks.PARAMETERS_TAG in cell["metadata"].get("tags", ()):
                cell["source"] = source(table).splitlines(keepends=True)
        content["metadata"]["darkroom"] |= {"schema": name}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(path.name)


if __name__ == "__main__":
    main()
