import json

from lib import hashing


def write(path, *sources, prose="# Title"):
    cells = [{"cell_type": "markdown", "source": [prose]}]
    cells += [
        {"cell_type": "code", "source": source.splitlines(keepends=True)} for source in sources
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return hashing.cells("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_prose_comments_and_layout_do_not_count(tmp_path):
    first = write(tmp_path / "a.ipynb", "x = 1  # one\ny = f(x)")
    second = write(tmp_path / "b.ipynb", "# changed\nx = 1\ny = f( x )", prose="# Another title")
    third = write(tmp_path / "c.ipynb", "x = 2\ny = f(x)")
    assert of(first) == of(second)
    assert of(first) != of(third)


def test_the_parts_of_a_digest_cannot_flow_into_each_other():
    assert hashing.digest("ab", "c") != hashing.digest("a", "bc")
