import shutil
from pathlib import Path

import pytest

STUDY = """
question = "Does it work?"
budget_minutes = 1
[shared]
seconds = 0.0
[[stage]]
name = "begin"
notebook = "begin"
[[stage]]
name = "work"
notebook = "ok"
after = ["begin"]
seeds = [0, 1]
seed_sets = ["split_seed"]
[stage.arms.plain]
[stage.arms.double]
factor = 2
[[stage]]
name = "gather"
notebook = "gather"
after = ["work"]
[tiny]
seeds = [7]
parameters = {seconds = 0.001}
[published]
someone = {score = 1.5}
"""


@pytest.fixture
def batch_home(tmp_path, monkeypatch):
    """A root folder with the fixture notebooks and the study `one`: begin, then 2 arms × 2 seeds, then gather."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    shutil.copytree(Path(__file__).parent / "notebooks", tmp_path / "notebooks")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "one.toml").write_text(STUDY)
    return tmp_path
