"""The page on the Python API: every example runs."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import lib

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("blue", "green", "red")):
        folder = tmp_path / "path" / "to" / "folder" / name
        folder.mkdir(parents=True)
        for index in range(20):
            image = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            image[..., number] += 100
            cv2.imwrite(str(folder / f"{index}.png"), image)
    names = {}
    for block in BLOCK.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8")):
        exec(compile(block, "docs/api.md", "exec"), names)
    run, other = names["run"], names["other"]
    assert run.folder != other.folder and run.folder.parent == other.folder.parent
    assert run.confusion_matrix().to_numpy().sum() == 15
    assert (tmp_path / "confusion.png").stat().st_size > 1000
    assert len(names["losses"]) == 1
    assert names["result"]["metrics"]["num_images"] == 15
    assert set(names["predictions"]["label"]) <= {"blue", "green", "red"}


def test_type_checkers_and_editors_see_the_public_names():
    for package, names in lib.PUBLIC.items():
        stub = (ROOT / package.replace(".", "/") / "__init__.pyi").read_text(encoding="utf-8")
        lines = {f"from {module} import {name} as {name}" for name, module in names.items()}
        assert set(stub.splitlines()) == lines


def test_the_reference_shows_every_public_name():
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for names in lib.PUBLIC.values():
        for name, module in names.items():
            blocks = [block for block in page.split("::: ") if block.startswith(module)]
            assert any(re.search(rf"\b{name}\b", block) for block in blocks), name


def test_the_examples_of_the_page_pass_a_type_checker(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed (extra `test`)")
    page = tmp_path / "page.py"
    blocks = BLOCK.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    page.write_text("\n".join(blocks), encoding="utf-8")
    lenient = ["--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *lenient, str(page)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    assert checked.returncode == 0, checked.stdout
