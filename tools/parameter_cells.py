"""Writes the parameters cells of the suite's notebooks from `lib.schema`: python -m
tools.parameter_cells
"""

from __future__ import annotations

import json

from lib import notebooks, paths, schema


def main() -> None:
    """Rewrites every parameters cell that differs."""
    for name, table in schema.NOTEBOOKS.items():
        path = paths.checkout() / "notebooks" / f"{name}.ipynb"
        content = json.loads(path.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            if notebooks.PARAMETERS_TAG in cell["metadata"].get("tags", ()):
                cell["source"] = table.cell().splitlines(keepends=True)
        content["metadata"]["darkroom"] |= {"schema": name}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(path.name)


if __name__ == "__main__":
    main()
