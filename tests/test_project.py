"""`darkroom init`, and which folder is the project."""

import json
import os
import re
import subprocess
import sys

import pytest

from lib import paths
from lib.cli import commands, main
from lib.errors import DarkroomError


def test_init_lays_out_what_a_project_needs(tmp_path, capsys):
    assert main(["init", str(tmp_path / "mine")]) == 0
    made = {path.name for path in (tmp_path / "mine").iterdir()}
    folders = {"notebooks", "studies", "datasets", "checkpoints", "logs"}
    assert made == folders | {"requirements.txt", "darkroom.toml"}
    shipped = {path.name for path in paths.shipped().glob("notebooks/*.ipynb")}
    assert {path.name for path in (tmp_path / "mine" / "notebooks").iterdir()} == shipped
    assert "darkroom run quickstart" in capsys.readouterr().out


def test_init_overwrites_nothing(tmp_path):
    (tmp_path / "logs").mkdir()
    with pytest.raises(DarkroomError, match="already has logs. Nothing was written"):
        commands.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_folder_with_a_lib_of_its_own_is_refused(tmp_path):
    (tmp_path / "lib").mkdir()
    with pytest.raises(DarkroomError, match="`lib` of its own"):
        commands.create(tmp_path)


@pytest.mark.parametrize("name", ["lib/__init__.py", "lib.py"])
def test_a_lib_that_hides_ours_is_reported(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    asked = subprocess.run(
        [sys.executable, "-c", "import darkroom; darkroom.data"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(paths.checkout() / "tools")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "hides Darkroom's package `lib`. Rename it" in asked.stderr


def test_lab_is_not_opened_beside_another_lib(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DARKROOM_HOME", str(commands.create(tmp_path / "mine")))
    (tmp_path / "mine" / "notebooks" / "lib.py").touch()
    assert main(["lab"]) == 2
    assert "has a `lib` of its own" in capsys.readouterr().err


def test_a_process_below_a_project_writes_there(tmp_path):
    made = commands.create(tmp_path / "mine")
    environment = {name: value for name, value in os.environ.items() if name != "DARKROOM_HOME"}
    environment["PYTHONPATH"] = str(paths.checkout())
    script = "import json; from lib import paths; print(json.dumps([str(paths.root()), str(paths.notebooks())]))"
    asked = subprocess.run(
        [sys.executable, "-c", script],
        cwd=made / "notebooks",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(asked.stdout) == [str(made), str(made / "notebooks")]


def test_the_three_lists_of_requirements_differ_in_the_backend_alone():
    def others(name):
        lines = (paths.checkout() / name).read_text().splitlines()
        pins = {re.split(r"[\[;=]", line)[0]: line for line in lines if line[:1].isalpha()}
        return {pin: line for pin, line in pins.items() if not re.match("tensorflow|jax", pin)}

    assert others("requirements.txt") == others("requirements-gpu.txt")
    assert others("requirements.txt") == others("requirements-jax.txt")


def test_the_lock_holds_every_pin_of_the_requirements():
    locked = (paths.checkout() / "requirements.lock").read_text()
    for line in (paths.checkout() / "requirements.txt").read_text().splitlines():
        pin = re.match(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", line)
        if pin:
            assert re.search(
                rf"^{re.escape(pin[1])}=={re.escape(pin[2])}\b", locked, re.M | re.I
            ), line
