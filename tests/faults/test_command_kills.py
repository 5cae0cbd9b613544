"""Trainings, searches, feature maps and applications that are killed at random moments, in a
notebook's kernel, by batch and by papermill: nothing stays alive, nothing unfinished counts as
finished, and the same command ends with the same numbers.
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

import pandas
import psutil
import pytest

from lib.runs import record

LIVES = Path(__file__).parent / "command_lives.py"
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "3_train.ipynb"
STUDY = """
[shared]
data = "digits"
[[stage]]
name = "train"
notebook = "3_train"
seeds = [3]
[stage.arms.a]
image_side = 16
epochs = 2
"""
GIVEN = {"data": "digits", "tiny": True, "arm": "a", "seed": 3, "image_side": 16, "epochs": 2}
WORDS = [word for name, value in GIVEN.items() for word in ("-p", name, str(value))]
COMMANDS = {
    "batch": ["-m", "lib.cli", "run", "one", "--tiny", "--json"],
    "papermill": ["-m", "papermill", "--engine", "darkroom", str(NOTEBOOK), "out.ipynb", *WORDS],
    "plain": ["-m", "papermill", str(NOTEBOOK), "out.ipynb", *WORDS],
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("kind", ["train", "tune", "features", "apply"])
def test_killed_in_a_kernel(kind, backend, tmp_path):
    done = subprocess.run(
        [sys.executable, str(LIVES), str(tmp_path / "homes"), kind, "25", "1"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    print(counts)
    assert counts["same"] and counts["kills"] >= 10


class Door:
    """A training by one of the doors, in a home of its own."""

    def __init__(self, home: Path, door: str):
        (home / "studies").mkdir(parents=True)
        (home / "studies" / "one.toml").write_text(STUDY)
        self.home, self.door = home, door

    def begin(self):
        return subprocess.Popen(
            [sys.executable, *COMMANDS[self.door]],
            env={**os.environ, "DARKROOM_HOME": str(self.home)},
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def alive(self):
        numbers = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DARKROOM_HOME") == str(self.home):
                    numbers.append(process.pid)
            except psutil.Error:
                continue
        return numbers

    def folders(self):
        return [file.parent for file in self.home.glob("logs/*/train/*/result.json")]

    def outcome(self):
        [folder] = self.folders()
        table = pandas.read_parquet(folder / "predictions.parquet")
        return record.read(folder)["metrics"], table.to_json()


@pytest.mark.slow
@pytest.mark.parametrize("door", COMMANDS)
def test_killed_by_its_door(door, tmp_path):
    calm, moments = Door(tmp_path / "calm", door), random.Random(2)
    began = time.monotonic()
    process = calm.begin()
    complaint = process.communicate()[1]
    assert process.returncode == 0, complaint
    whole, killed = time.monotonic() - began, Door(tmp_path / "killed", door)
    kills = 0
    for _ in range(25):
        process = killed.begin()
        time.sleep(moments.uniform(0.1, 0.95) * whole)
        victims = killed.alive()
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(victims), signal.SIGKILL)
                kills += 1
        process.communicate()
        while killed.alive():
            time.sleep(0.05)
        assert all(record.damage(folder) == "" for folder in killed.folders())
        if killed.folders():  # it came to its end all the same
            shutil.rmtree(killed.home / "logs")
            shutil.rmtree(killed.home / "checkpoints")
    process = killed.begin()
    complaint = process.communicate()[1]
    assert process.returncode == 0 and kills >= 10, complaint
    assert killed.outcome() == calm.outcome()
    print(f"{door}: {kills} kills")
