"""Commands on small data in a home of their own, with their processes, their CPU time and what they
leave.
"""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
import psutil
import pytest
from PIL import Image

from lib.batch import status
from lib.data import dataset
from lib.runs import record

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "3_train.ipynb"
NETWORK = {"preset": "triage", "filters": [4], "dense_units": [6]}
TRAINING = {"data": "pets", "arm": "a", "seed": 3, "image_side": 16, "epochs": 4}
SEARCH = {"data": "pets", "epochs": 3, "num_trials": 5, "top": 1, "retrain_seeds": [1, 2]}
SEARCH |= {"base": {"image_side": 16, **NETWORK}}
SEARCH |= {"space": {"learning_rate": [0.001, 0.003, 0.01], "batch_size": [8, 16]}}
FEATURES = {
    "data": "pets",
    "seed": 3,
    "trained": "train/train/a-s3",
    "map_methods": ["pca", "tsne"],
}
THUMBNAILS = {"data": "pets", "seed": 3, "classifier": "mlp", "sizes": ["4x4", "6x6"]}
OPENED = {  # by study: stage, notebook, parameters
    "train": ("train", "3_train", {**TRAINING, "options": NETWORK}),
    "hyperband": ("tune", "4_tune", {**SEARCH, "method": "hyperband"}),
    "tpe": ("tune", "4_tune", {**SEARCH, "method": "tpe"}),
    "features": ("features", "8_features", {**FEATURES, "shuffles": 50}),
    "thumbnails": ("thumbnails", "5_thumbnails", THUMBNAILS),
}
"""The notebooks that are opened in JupyterLab."""
STUDY = """
question = "Who?"
[shared]
data = "pets"
[[stage]]
name = "train"
notebook = "3_train"
seeds = [3, 4]
[stage.arms.a]
image_side = 16
epochs = 4
preset = "triage"
filters = [4]
dense_units = [6]
"""
TUNE = """
question = "How?"
[[stage]]
name = "tune"
notebook = "4_tune"
[stage.parameters]
data = "pets"
method = "tpe"
epochs = 3
num_trials = 5
top = 1
retrain_seeds = [1, 2]
base = {image_side = 16, preset = "triage", filters = [4], dense_units = [6]}
space = {learning_rate = [0.001, 0.003, 0.01], batch_size = [8, 16]}
"""
MODULE = [sys.executable, "-m"]
DARKROOM = [*MODULE, "lib.cli"]
PAPERMILL = [*MODULE, "papermill", str(NOTEBOOK), "out.ipynb", "-p", "study", "train"]
PAPERMILL += [word for name, value in TRAINING.items() for word in ("-p", name, str(value))]
PAPERMILL += ["-y", json.dumps({"options": NETWORK})]


def make_notebook(study):
    """Returns a notebook with its parameters as a person edits them, tiny."""
    _, notebook, parameters = OPENED[study]
    content = json.loads((NOTEBOOK.with_name(f"{notebook}.ipynb")).read_text())
    [cell] = [c for c in content["cells"] if c["metadata"].get("tags") == ["parameters"]]
    edits = {**parameters, "study": study, "arm": "a", "tiny": True}
    cell["source"] += [f"\n{name} = {value!r}" for name, value in edits.items()]
    return json.dumps(content)


def make_home(home):
    """Forty pictures of 24 px in two classes, one of them cut and one twice, with studies
    and notebooks.
    """
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
    (home / "studies" / "tune.toml").write_text(TUNE)
    for name in OPENED:
        (home / f"{name}.ipynb").write_text(make_notebook(name))


class Command:
    """A command in a home of its own."""

    def __init__(self, home, words, outcome, **environment):
        self.home, self.words, self._outcome = home, words, outcome
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

    def outcome(self):
        """What it has left in its home, {} where nothing has finished."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DARKROOM_HOME", str(self.home))
            return self._outcome(self.home)

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

    def kernels(self):
        """The ids of the kernels, without the process that they are forked from."""
        parents = {}
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if "kernel" in " ".join(process.cmdline()):
                    parents[process.pid] = process.ppid()
        return [number for number in parents if number not in parents.values()]

    def cpu(self):
        """The CPU seconds of all its processes, also of those that have ended."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self.spent[process.pid] = times.user + times.system
        return sum(self.spent.values())

    def kill(self, whom, rng=random):
        """Kills all its processes, the command alone, its kernel, or another of its processes;
        returns whom, which is the command where there is no other.
        """
        own, family = self.process.pid, self.alive()
        others = sorted(set(family) - {own})
        kernels = self.kernels()
        if whom == "kernel" and not kernels:
            whom = "other"
        if whom == "other" and not others:
            whom = "command"
        chosen = {"all": [family], "command": [[own]], "kernel": [[n] for n in kernels]}
        for victim in rng.choice(chosen.get(whom) or [[number] for number in others]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        return whom

    def end(self):
        """Waits until it has ended and no process is left; returns the seconds of the latter."""
        self.wait()
        began = time.monotonic()
        while self.alive():
            assert time.monotonic() < began + 600, f"alive: {self.alive()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def wait(self):
        self.process.wait(timeout=600)

    def complete(self):
        """Runs to the end; returns the outcome and the CPU seconds that it took."""
        self.begin()
        while self.poll() is None:
            self.cpu()
            time.sleep(0.2)
        self.end()
        assert self.poll() == 0, self.said()
        return self.outcome(), self.cpu()

    def said(self):
        return (self.home / "said").read_text()[-3000:]


class Opened(Command):
    """A notebook that is run in a kernel of a server, as in JupyterLab: the kernel is killed, or
    one of the processes that it has started.
    """

    servers = {}

    def begin(self):
        backend = self.environment.get("KERAS_BACKEND")
        if backend not in self.servers:
            self.servers[backend] = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("lab.py"))],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.servers[backend].stdout.readline()  # it is ready
        self.server, self.code, self.spent = self.servers[backend], None, {}
        study = self.words
        request = [str(self.home / f"{study}.ipynb"), OPENED[study][0], str(self.home)]
        server = psutil.Process(self.server.pid)
        self.idle = [server, *server.children(recursive=True)]
        self.server.stdin.write(f"{json.dumps(request)}\n")
        self.server.stdin.flush()
        self.process = psutil.Process(int(self.server.stdout.readline()))

    @classmethod
    def close_servers(cls):
        for server in cls.servers.values():
            with server:
                server.stdin.close()
        cls.servers.clear()

    def poll(self):
        if self.code is None and select.select([self.server.stdout], [], [], 0)[0]:
            self.code = int(self.server.stdout.readline())
        return self.code

    def _processes(self):
        with contextlib.suppress(psutil.Error):
            if self.process.status() != psutil.STATUS_ZOMBIE:
                yield self.process
        yield from (each for each in super()._processes() if each not in self.idle)

    def wait(self):
        while self.poll() is None:
            time.sleep(0.1)

    def said(self):
        return "see above"


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
            for file in sorted([*folder.glob("*.parquet"), *folder.glob("*.csv")]):
                is_csv = file.suffix == ".csv"
                table = pandas.read_csv(file) if is_csv else pandas.read_parquet(file)
                timed = [name for name in table.columns if "second" in name or name == "time"]
                content[file.name] = table.drop(columns=timed).to_json()
            numbers[folder.name] = content
        return numbers

    return outcome


class Kind(NamedTuple):
    """A kind of command: its words, or the study whose notebook is opened; what reads its outcome;
    which kinds must have run before; its environment.
    """

    words: list[str] | str
    outcome: Callable[[Path], dict]
    before: tuple[str, ...] = ("clean",)
    environment: Mapping[str, str] = {}


def opened(name, *before, **environment):
    """The kind that runs the notebook of a study in JupyterLab."""
    return Kind(name, finished_runs(OPENED[name][0]), ("clean", *before), environment)


KINDS = {
    "clean": Kind([*DARKROOM, "clean", "./pets"], cleaned, ()),
    "train by batch": Kind([*DARKROOM, "run", "train"], finished_runs("train")),
    "tune by batch": Kind([*DARKROOM, "run", "tune"], finished_runs("tune")),
    "train by papermill": Kind(PAPERMILL, finished_runs("train")),
    "train in JupyterLab": opened("train"),
    "train in JupyterLab, JAX": opened("train", KERAS_BACKEND="jax"),
    "tune by Hyperband in JupyterLab": opened("hyperband"),
    "tune by Optuna in JupyterLab": opened("tpe"),
    "features in JupyterLab": opened("features", "train in JupyterLab"),
    "thumbnails in JupyterLab": opened("thumbnails"),
    "apply": Kind(
        [*DARKROOM, "apply", "train/train/a-s3", "./pets"],
        finished_runs("apply"),
        ("clean", "train by batch"),
    ),
}


def make_command(kind, home, **environment):
    words, outcome, _, own = KINDS[kind]
    return (Opened if isinstance(words, str) else Command)(
        home, words, outcome, **own, **environment
    )
