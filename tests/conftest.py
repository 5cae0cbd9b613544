import os
import shutil
import sys
from pathlib import Path

import pytest

if os.environ.get("DARKROOM_TEST_WITHOUT_TENSORFLOW"):  # as on a GPU machine with JAX alone
    sys.modules["tensorflow"] = None

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
    """A root folder with the fixture notebooks and the study `one`: begin, then 2 arms × 2 seeds,
    then gather.
    """
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    shutil.copytree(Path(__file__).parent / "notebooks", tmp_path / "notebooks")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "one.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture(scope="session")
def toy_material(tmp_path_factory):
    """Thirty noisy pictures of 32 px in three splits, a third of them bluer and the others redder,
    ready to train on.
    """
    import numpy as np
    import pandas

    from lib.data.pixel_cache import Pixels
    from lib.data.splits import Split
    from lib.training.strategies import TrainingData

    labels = np.arange(30) % 3 % 2
    images = np.random.default_rng(0).integers(0, 120, (30, 32, 32, 3), dtype=np.uint8)
    images[labels == 0, ..., 2] += 30
    images[labels == 1, :, :16, 0] += 30
    paths = [f"{number:02}.png" for number in range(30)]
    frame = pandas.DataFrame({"path": paths, "group": range(30), "pixels": paths})
    frame = frame.assign(
        label=np.where(labels == 0, "blue", "red"),
        split=["train"] * 18 + ["val"] * 6 + ["test"] * 6,
    )
    split = Split("id", "grouped", "label", frame, ["blue", "red"])
    return TrainingData(
        Pixels(images, pandas.Series(range(30), index=paths), "k"),
        split,
        tmp_path_factory.mktemp("toy"),
    )


@pytest.fixture
def toy_network():
    """Makes a small network for `toy_material`, always with the same first weights; parameters of
    3_train may be changed.
    """

    def build(**changes):
        import keras

        from lib.training import network

        keras.utils.set_random_seed(0)
        small = {"preset": "triage", "filters": [4], "dense_units": [6]}
        return network.describe(small | changes, class_names=["blue", "red"], image_side=32)

    return build


@pytest.fixture
def toy_run(tmp_path):
    """An open run in a folder of its own."""
    import filelock

    from lib import runs

    folder = tmp_path / "logs" / "study" / "train" / "arm-s0"
    folder.mkdir(parents=True)
    lock = filelock.FileLock(tmp_path / "lock")
    return runs.Run(folder, tmp_path / "checkpoints", {}, {}, "train", None, False, lock)
