"""The commands are killed at random moments, most of them five times before they may end: nothing
stays alive, nothing unfinished counts as finished, and the same command ends with the same numbers.

A moment is a share of the CPU time that the undisturbed command takes, which does not depend on
how busy the machine is.
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
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pandas
import psutil
import pytest
from jupyter_client import BlockingKernelClient
from PIL import Image

from lib.batch import status
from lib.data import dataset
from lib.runs import record

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "3_train.ipynb"
NETWORK = {"image_side": 16, "preset": "triage", "filters": [4], "dense_units": [6]}
TRAINING = {"data": "pets", "arm": "a", "seed": 3, "image_side": 16, "epochs": 4}
OPTIONS = {"preset": "triage", "filters": [4], "dense_units": [6]}
STAGES = {
    "train": {"epochs": 4, **NETWORK},
    "tune": {
        "base": {**NETWORK, "augmentation": "none"},
        "space": {"learning_rate": [0.001, 0.01]},
        "method": "grid",
        "epochs": 2,
        "top": 1,
        "retrain_seeds": [1],
        "at_once": 1,
    },
    "features": {"trained": "train/train/a-s3", "map_methods": ["pca"], "shuffles": 19},
}
MODULE = [sys.executable, "-m"]
DARKROOM = [*MODULE, "lib.cli"]
PAPERMILL = [*MODULE, "papermill", str(NOTEBOOK), "out.ipynb", "-p", "study", "train"]
PAPERMILL += [word for name, value in TRAINING.items() for word in ("-p", name, str(value))]
PAPERMILL += ["-y", json.dumps({"options": OPTIONS})]


def study(stage):
    """The text of a study with one run of a stage."""
    notebooks = {"train": "3_train", "tune": "4_tune", "features": "8_features"}
    values = "\n".join(f"{name} = {toml(value)}" for name, value in STAGES[stage].items())
    seeds = "" if stage == "tune" else "seeds = [3]\n"
    return (
        f'question = "Who?"\n[shared]\ndata = "pets"\n[[stage]]\nname = "{stage}"\nnotebook = "{notebooks[stage]}"\n'
        f"{seeds}[stage.arms.a]\n{values}\n"
    )


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


def make_home(home):
    """Forty pictures of 24 px in two classes, one of them cut and one twice, and three studies."""
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
    for stage in STAGES:
        (home / "studies" / f"{stage}.toml").write_text(study(stage))


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
        words = [word.format(home=self.home) for word in self.words]
        with (self.home / "said").open("w") as said:
            self.process = subprocess.Popen(
                words,
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


class Lab(Command):
    """3_train in a kernel of JupyterLab, the cells run one after the other; the command is the
    server.
    """

    def begin(self):
        super().begin()
        runtime, self.replies = self.home / "runtime", None
        while not (servers := list(runtime.glob("jpserver-*.json"))):
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        known = json.loads(servers[0].read_text())
        asked = urllib.request.Request(f"{known['url']}api/kernels", b"{}", method="POST")
        asked.add_header("Authorization", f"token {known['token']}")
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(asked) as answer:
                kernel = json.load(answer)["id"]
                break
            time.sleep(0.05)
        self.client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel}.json"))
        self.client.load_connection_file()
        self.client.start_channels()
        given = {**TRAINING, "study": "train", "options": OPTIONS}
        for cell in json.loads(NOTEBOOK.read_text())["cells"]:
            source = "".join(cell["source"])
            if "parameters" in cell["metadata"].get("tags", ()):
                source += "\n" + "\n".join(f"{name} = {given[name]!r}" for name in given)
            if cell["cell_type"] == "code":
                last = self.client.execute(source)
        self.last = last

    def poll(self):
        """Returns 0 when the last cell has been executed, or how the server ended."""
        with contextlib.suppress(Exception):
            while (reply := self.client.get_shell_msg(timeout=0))["parent_header"]:
                if reply["content"]["status"] != "ok":
                    return f"cell: {reply['content']}"
                if reply["parent_header"]["msg_id"] == self.last:
                    return 0
        return self.process.poll()

    def end(self):
        self.client.stop_channels()
        if self.process.poll() is None:
            self.process.terminate()
        took = super().end()
        shutil.rmtree(self.home / "runtime")
        return took


def cleaned(home):
    if "pets" not in dataset.names() or not dataset.load("pets").cleaned():
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


LAB = [*DARKROOM, "lab", "--no-browser", "--port=0", "--allow-root", "--ServerApp.root_dir={home}"]
KINDS = {
    "clean": (Command, [*DARKROOM, "clean", "./pets"], cleaned, ()),
    "train by batch": (Command, [*DARKROOM, "run", "train"], finished_runs("train"), ("clean",)),
    "train by papermill": (Command, PAPERMILL, finished_runs("train"), ("clean",)),
    "train in JupyterLab": (Lab, LAB, finished_runs("train"), ("clean",)),
    "tune": (Command, [*DARKROOM, "run", "tune"], finished_runs("tune"), ("clean",)),
    "features": (
        Command,
        [*DARKROOM, "run", "features"],
        finished_runs("features"),
        ("clean", "train by batch"),
    ),
    "apply": (
        Command,
        [*DARKROOM, "apply", "train/train/a-s3", "./pets"],
        finished_runs("apply"),
        ("clean", "train by batch"),
    ),
}


def make_command(kind, home, **environment):
    command, words, outcome, _ = KINDS[kind]
    if command is Lab:
        environment |= {"JUPYTER_RUNTIME_DIR": str(home / "runtime")}
    return command(home, words, outcome, **environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "backend"), [*((kind, "tensorflow") for kind in KINDS), ("train by batch", "jax")]
)
def test_killed_at_random_moments(tmp_path, monkeypatch, kind, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    kill_again_and_again(tmp_path, monkeypatch, kind, kills=25, seed=f"{kind} {backend}")


def kill_again_and_again(folder, monkeypatch, kind, *, kills, seed):
    ready, moments = folder / "ready", random.Random(seed)
    make_home(ready)
    for before in KINDS[kind][3]:
        make_command(before, ready).complete()
    homes = [shutil.copytree(ready, folder / name, symlinks=True) for name in ("calm", "killed")]
    calm, killed = (make_command(kind, home) for home in homes)
    monkeypatch.setenv("DARKROOM_HOME", str(calm.home))
    expected, whole = calm.complete()
    assert expected
    monkeypatch.setenv("DARKROOM_HOME", str(killed.home))
    counts, longest, in_a_row = Counter(), 0.0, 0
    while counts["kills"] < kills:
        moment = moments.uniform(0, whole)
        whom = moments.choice(("all", "all", "command", "command", "other"))
        killed.begin()
        while killed.poll() is None and killed.cpu() < moment:
            time.sleep(0.1)
        if is_killed := killed.poll() is None:
            killed.kill(whom)
            counts["kills"] += 1
            counts[whom] += 1
        longest = max(longest, killed.end())
        found = killed.outcome(killed.home)
        assert found in ({}, expected), f"finished with other numbers: {found}"
        assert is_killed or (killed.poll() == 0 and found), killed.said()
        in_a_row += is_killed
        if not found and (in_a_row == 5 or counts["kills"] == kills):
            found, _ = killed.complete()
            assert found == expected
        if found:
            counts["ends"] += 1
            in_a_row = 0
            shutil.rmtree(killed.home)
            shutil.copytree(ready, killed.home, symlinks=True)
    print(f"{kind}: {dict(counts)}, {whole:.1f} CPU-s, alive for {longest:.1f} s at most")
