"""Commands on small data in a home of their own, with their processes, their CPU time and what they
leave.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import psutil
from PIL import Image

from lib.batch import status
from lib.data import dataset
from lib.runs import record

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "3_train.ipynb"
TRAINING = {"data": "pets", "arm": "a", "seed": 3, "image_side": 16, "epochs": 4}
OPTIONS = {"preset": "triage", "filters": [4], "dense_units": [6]}
STUDY = """
question = "Who?"
[shared]
data = "pets"
[[stage]]
name = "train"
notebook = "3_train"
seeds = [3]
[stage.arms.a]
image_side = 16
epochs = 4
preset = "triage"
filters = [4]
dense_units = [6]
"""
MODULE = [sys.executable, "-m"]
DARKROOM = [*MODULE, "lib.cli"]
PAPERMILL = [*MODULE, "papermill", str(NOTEBOOK), "out.ipynb", "-p", "study", "train"]
PAPERMILL += [word for name, value in TRAINING.items() for word in ("-p", name, str(value))]
PAPERMILL += ["-y", json.dumps({"options": OPTIONS})]


def make_home(home):
    """Forty pictures of 24 px in two classes, one of them cut and one twice, and a study."""
    for label, blue in (("cat", 40), ("dog", 160)):
        (home / "pets" / label).mkdir(parents=True)
        for number in range(20):
            rng = np.random.default_rng(number + blue)
            coarse = rng.integers(0, 255, (6, 6, 3), np.uint8)
            coarse[..., 2] = blue
            picture = Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)
            picture.save(home / "pets" / label / f"{number:02}.png")
    shutil.copyfile(home / "pets/cat/00.png", home / "pets/cat/copy.png")
    content = (home / "pets/dog/00.png").read_bytes()
    (home / "pets/dog/cut.png").write_bytes(content[: len(content) // 2])
    (home / "studies").mkdir()
    (home / "studies" / "train.toml").write_text(STUDY)


class Command:
    """A command in a home of its own; `outcome` reads what it has left there, {} where that is not
    finished.
    """

    def __init__(self, home, words, outcome, **environment):
        self.home, self.words, self.outcome = home, words, outcome
        threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"), "1")
        self.environment = {**os.environ, **threads, **environment}
        self.process, self.spent = None, {}

    def begin(self):
        with (self.home / "said").open("w") as said:
            self.process = subprocess.Popen(
                self.words,
                env={**self.environment, "DARKROOM_HOME": str(self.home)},
                cwd=self.home,
                stdout=said,
                stderr=said,
            )
        self.spent = {}

    def poll(self):
        return self.process.poll()

    def alive(self):
        """The ids of the processes that have this home in their environment."""
        return [process.pid for process in self._processes()]

    def _processes(self):
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_here = process.environ().get("DARKROOM_HOME") == str(self.home)
                if is_here and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def cpu(self):
        """The CPU seconds of all its processes, also of those that have ended."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self.spent[process.pid] = times.user + times.system
        return sum(self.spent.values())

    def kill(self, whom):
        """Kills all its processes, the command alone, or one of the others."""
        victims = self.alive()
        if whom == "command" or victims == [self.process.pid]:
            victims = [self.process.pid]
        elif whom == "other":
            others = [pid for pid in victims if pid != self.process.pid]
            victims = [random.Random(len(others)).choice(others)] if others else []
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    def end(self):
        """Waits until it has ended and no process is left; returns the seconds of the latter."""
        self.process.wait(timeout=600)
        began = time.monotonic()
        while self.alive():
            assert time.monotonic() < began + 600, f"alive: {self.alive()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def complete(self):
        """Runs to the end; returns the outcome and the CPU seconds that it took."""
        self.begin()
        while self.poll() is None:
            self.cpu()
            time.sleep(0.2)
        self.end()
        assert self.poll() == 0, self.said()
        return self.outcome(self.home), self.cpu()

    def said(self):
        return (self.home / "said").read_text()[-3000:]


def cleaned(home):
    if not (home / "datasets" / "pets" / "source.json").is_file():
        return {}
    if not dataset.load("pets").cleaned():
        return {}
    return {"manifest": dataset.load("pets").manifest().to_json()}


def finished_runs(stage):
    """Reads the numbers of the finished runs of a stage."""

    def outcome(home):
        numbers = {}
        for folder in sorted(home.glob(f"logs/*/{stage}/[!.]*/")):
            if status.of_run(folder).state != "finished":
                continue
            metrics = record.read(folder)["metrics"]
            content = {name: value for name, value in metrics.items() if "second" not in name}
            for file in ("predictions.parquet", "labels.parquet"):
                if (folder / file).is_file():
                    content[file] = pandas.read_parquet(folder / file).to_json()
            numbers[folder.name] = content
        return numbers

    return outcome


KINDS = {
    "clean": ([*DARKROOM, "clean", "./pets"], cleaned, ()),
    "train by batch": ([*DARKROOM, "run", "train"], finished_runs("train"), ("clean",)),
    "train by papermill": (PAPERMILL, finished_runs("train"), ("clean",)),
    "apply": (
        [*DARKROOM, "apply", "train/train/a-s3", "./pets"],
        finished_runs("apply"),
        ("clean", "train by batch"),
    ),
}


def make_command(kind, home, **environment):
    words, outcome, _ = KINDS[kind]
    return Command(home, words, outcome, **environment)
