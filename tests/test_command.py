"""Data sets told on the command line: what is wrong with them is said before anything runs."""

import json
import re

import cv2
import numpy as np
import pytest

from lib import cli

STUDY = """
question = "How many?"
[shared]
data = "digits"
[[stage]]
name = "clean"
notebook = "read"
"""


@pytest.fixture
def home(batch_home):
    (batch_home / "studies" / "count.toml").write_text(STUDY)
    return batch_home


def pictures(folder, **counts):
    """A folder a class, each with so many small noisy images."""
    noise = np.random.default_rng(0)
    for name, number in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            _, coded = cv2.imencode(".png", noise.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            (folder / name / f"{index}.png").write_bytes(coded.tobytes())
    return folder


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: pictures(folder, cat=3), "only the class 'cat'"),
        (lambda folder: pictures(folder, cat=3, dog=1), "class 'dog' .* has only one image"),
        (
            lambda folder: pictures(folder, a=0, b=0) and (folder / "a" / "a.txt").write_text("a"),
            "holds no picture",
        ),
        (lambda folder: None, "no such file or folder"),
    ],
)
def test_unusable_data_is_refused_in_one_sentence(home, capsys, make, told):
    make(home / "mine")
    assert cli.main(["run", "count", "--set", f"data={home / 'mine'}"]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1 and captured.startswith("darkroom: ")
    assert re.search(told, captured)
    assert not (home / "logs").exists()


def test_a_missing_data_set_is_named(home, capsys):
    assert cli.main(["run", "count", "--set", "data=digit"]) == 2
    assert "There is no data set 'digit'" in capsys.readouterr().err


def test_a_folder_is_read_in_place_and_a_new_file_makes_the_run_stale(home, capsys):
    mine = pictures(home / "mine 漢字", **{"chat noir": 3, "犬 🐕": 2})
    assert cli.main(["run", "count", "--set", f"data={mine}", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["complete"] and outcome["study"] == "count@mine_漢字"
    result = json.loads(
        (home / "logs" / "count@mine_漢字" / "clean" / "all" / "result.json").read_text()
    )
    assert result["metrics"] == {"num_files": 5} and result["data"] == "mine_漢字"
    assert cli.main(["run", "count", "--set", f"data={mine}", "--dry-run"]) == 0
    assert "skip  clean/all" in capsys.readouterr().out
    (mine / "chat noir" / "9.png").write_bytes((mine / "chat noir" / "0.png").read_bytes())
    assert cli.main(["run", "count", "--set", f"data={mine}", "--dry-run"]) == 0
    assert "run  clean/all  (changed: the data)" in capsys.readouterr().out
