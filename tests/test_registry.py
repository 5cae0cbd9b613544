import json

import numpy as np
import pytest
from PIL import Image

from lib import cli
from lib.cleaning import clean
from lib.data import dataset as datasets
from lib.data import intake
from lib.errors import DarkroomError


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).save(path)
    there = intake.bring(str(tmp_path / "pets"))
    clean.clean(there, workers=1)
    return there


def test_list_rename_and_forget(data, capsys):
    assert cli.main(["data", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (row["name"], row["files"], row["kept"], row["classes"]) == ("pets", 4, 4, 2)
    assert cli.main(["data", "rename", "pets", "animals"]) == 0
    assert datasets.names() == ["animals"] and len(datasets.load("animals").accepted()) == 4
    assert intake.bring(str(data.raw), name="animals").name == "animals"
    assert cli.main(["data", "forget", "animals"]) == 0
    assert datasets.names() == [] and len(list(data.raw.rglob("*.png"))) == 4
    with pytest.raises(DarkroomError, match="no data set 'animals'"):
        datasets.rename("animals", "pets")


def test_a_moved_folder_is_found_again(data, tmp_path):
    with pytest.raises(DarkroomError, match="holds 0 of the 4 files"):
        datasets.relink("pets", tmp_path)
    data.raw.rename(tmp_path / "moved")
    with pytest.raises(DarkroomError, match="darkroom data relink pets FOLDER"):
        datasets.load("pets")
    assert datasets.relink("pets", tmp_path / "moved").raw == tmp_path / "moved"
    assert intake.bring(str(tmp_path / "moved")).name == "pets"
