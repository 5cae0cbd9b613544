"""Lives a notebook or a command many times in child processes that are killed at random moments:
`python command_lives.py FOLDER KIND KILLS SEED`.

The libraries are loaded once. What is killed goes on from what the lives before have left; where
one came to its end, the next begins from nothing. The last life is left alone, and ends with the
numbers of one that nobody disturbed. Prints the counts as JSON.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import keras
import pandas
import psutil

from lib import cli, paths
from lib.apply import classifier  # noqa: F401 - loaded before the forks
from lib.embeddings import feature_spaces  # noqa: F401
from lib.runs import record
from lib.training import session  # noqa: F401
from lib.tuning import search  # noqa: F401

SMALL = {"data": "digits", "tiny": True, "study": "one"}
TRAINED = {**SMALL, "arm": "a", "image_side": 16, "epochs": 2}
SPACE = {"learning_rate": [0.001, 0.01]}
HERE = {}


def cells(name, **values):
    """Executes a notebook's code cells in this process, as a kernel does."""
    content = json.loads((paths.checkout() / "notebooks" / f"{name}.ipynb").read_text())
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), HERE)
            if "parameters" in cell["metadata"].get("tags", ()):
                HERE.update(values)


def train():
    cells("3_train", **TRAINED)


def tune():
    cells("4_tune", **SMALL, space=SPACE, method="grid", epochs=2, top=1, retrain_seeds=[1, 2])


def features():
    cells("8_features", **SMALL, arm="lite0", image_side=32)


def apply():
    assert cli.main(["apply", "one/train/a-s0", str(paths.root() / "pictures")]) == 0


def prepare():
    """Gets the data, a model and pictures."""
    train()
    raw = sorted((paths.datasets() / "digits").glob("raw/*/*.*"))[:60]
    for file in raw:
        target = paths.root() / "pictures" / f"{file.parent.name}_{file.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
    assert raw


KINDS = {"train": train, "tune": tune, "features": features, "apply": apply}
STAGES = {"train": "train", "tune": "tune", "features": "features", "apply": "apply"}


def live(home, work, *, seconds=None):
    """Returns how a child ended that does `work`: 0, or minus the signal that killed it."""
    number = os.fork()
    if number == 0:
        status = 1
        try:
            os.environ["DARKROOM_HOME"] = str(home)
            with (home / "said").open("w") as said, contextlib.redirect_stdout(said):
                work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def left_alive(home):
    """The processes of a home, other than this one."""
    alive = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("DARKROOM_HOME") == str(home):
                alive.append(process.pid)
    return alive


def finished(home, stage):
    """The folders of the runs that count as finished."""
    folders = [file.parent for file in home.glob(f"logs/*/{stage}/*/result.json")]
    return [folder for folder in folders if record.result(folder) is not None]


def outcome(home, stage):
    """The numbers of the finished runs."""
    numbers = {}
    for folder in finished(home, stage):
        metrics = dict(record.read(folder)["metrics"])
        numbers[folder.name] = {
            name: value for name, value in metrics.items() if "second" not in name
        }
        for file in ("predictions.parquet", "labels.parquet"):
            if (folder / file).is_file():
                numbers[folder.name][file] = pandas.read_parquet(folder / file).to_json()
    return numbers


def main(folder, kind, kills, seed):
    work, stage, moments = KINDS[kind], STAGES[kind], random.Random(int(seed))
    calm, killed, ready = (Path(folder) / name for name in ("calm", "killed", "ready"))
    ready.mkdir(parents=True)
    assert live(ready, prepare) == 0
    if kind == "train":
        shutil.rmtree(ready / "logs")
        shutil.rmtree(ready / "checkpoints")
    for home in (calm, killed):
        shutil.copytree(ready, home, symlinks=True)
    began = time.monotonic()
    assert live(calm, work) == 0
    whole = time.monotonic() - began
    counts = {"kind": kind, "kills": 0, "ended_before": 0, "seconds": round(whole, 2)}
    for _ in range(int(kills)):
        before = finished(killed, stage)
        end = live(killed, work, seconds=moments.uniform(0, 1.05) * whole)
        assert end in (0, -signal.SIGKILL), (killed / "said").read_text()
        while left_alive(killed):
            time.sleep(0.05)
        counts["kills" if end else "ended_before"] += 1
        if end == 0 or finished(killed, stage) != before:
            shutil.rmtree(killed)  # complete, perhaps but for what follows its last file
            shutil.copytree(ready, killed, symlinks=True)
    assert live(killed, work) == 0, (killed / "said").read_text()
    expected, ended = outcome(calm, stage), outcome(killed, stage)
    assert ended == expected and expected, (expected, ended)
    print(json.dumps({**counts, "same": True, "backend": keras.backend.backend()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
