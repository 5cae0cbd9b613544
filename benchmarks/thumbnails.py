"""Claims: the posters source's grids in minutes; losses for little; GridFS at speed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import threadpoolctl

from benchmarks.parts import measure
from lib.baselines import estimators, search
from lib.baselines.data import Part
from lib.baselines.estimators import MLP

warnings.simplefilter("ignore")
# The source's first grid.
SHAPES = [[8], [16], [32], [8, 8], [16, 16], [32, 32], [8, 16, 8], [450], [450, 450]]
RATES = [0.001, 0.01]
SIZE = (15, 10)
PARTS = ("networks", "margins", "losses", "store")
COSTS = [float(cost) for cost in np.geomspace(0.01, 100, 40)]


class Drawn:
    """As many pictures as the source had, 1,000 a class, that linear models tell apart about half
    of the time.
    """

    resize, multilabel, split = "stretch", False, type("Split", (), {"id": "drawn"})

    def __init__(self, classes: int, num: int = 1000) -> None:
        rng = np.random.default_rng(0)
        self.class_names = [f"class {number}" for number in range(classes)]
        y = np.arange(num * classes) % classes
        centres = rng.normal(size=(3, 12, 450))[:classes]
        X = (
            0.1 * centres[y, rng.integers(0, 12, len(y))]
            + np.cumsum(rng.normal(size=(len(y), 450)), axis=1) / 15
        )
        X = (0.5 + 0.15 * X).astype(np.float32)
        cut = int(0.8 * len(y))
        self._parts = {"train": Part(X[:cut], y[:cut]), "val": Part(X[cut:], y[cut:])}

    def data_hash(self) -> str:
        return str(len(self.class_names))

    def paths(self, name: str) -> range:
        return range(len(self._parts[name].y))

    def part(self, name: str, size: tuple[int, int]) -> Part:
        return self._parts[name]


def networks(*, quick: bool) -> None:
    """The source's 72 results with fewer epochs: seconds are proportional to epochs."""
    scale, cpu = 200 if quick else 20, 0.0
    grid = estimators.parameter_grid(
        "mlp",
        {
            "hidden_layers": SHAPES,
            "learning_rate": RATES,
            "epochs": [1000 // scale, 2000 // scale],
            "optimizer": ["sgd"],
        },
    )
    for classes in (2, 3):
        drawn = Drawn(classes)
        cpu += _cpu(lambda d=drawn: search.run("mlp", grid, [SIZE], d, jobs=1))
    what = f"the source's 72 networks ({cpu:.0f} CPU-s at 1/{scale} of the epochs)"
    measure.claim(what, scale * cpu / 60, 60, "CPU minutes", most=True)


def margins(*, quick: bool) -> None:
    """40 values of C; five in the quick form."""
    costs = COSTS[::8] if quick else COSTS
    seconds = _cpu(lambda: search.run("svm_linear", {"C": costs}, [SIZE], Drawn(3), jobs=1))
    measure.claim("40 linear SVMs", seconds * len(COSTS) / len(costs), 60, "CPU-s", most=True)


def losses(*, quick: bool) -> None:
    """What train and validation loss after every epoch cost: the same training with and without, in
    turn.
    """
    drawn = Drawn(3)
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    for shape in ((8,), (32, 32), (450,)):
        network = MLP(shape, 0.001, 60 if shape[0] < 100 else 12, optimizer="sgd")
        ratios = []
        for _ in range(3 if quick else 9):
            plain = _cpu(lambda n=network: n.fit(train.X, train.y))
            with_losses = _cpu(lambda n=network: n.fit(train.X, train.y, validation=(val.X, val.y)))
            ratios.append(with_losses / plain - 1)
        what = f"cost of losses after every epoch, {shape} (the source: 25 to 30 %)"
        measure.claim(what, 100 * float(np.median(ratios)), 25, "%", most=True)


def store(*, quick: bool) -> None:
    """GridFS on loopback, with the server that the tests use; pictures of 6 kB."""
    server = Path(sys.executable).with_name("secantusd-py")
    if not server.exists():
        measure.skip("GridFS", "since its test server is not installed (pip install -e '.[test]')")
        return
    from lib.data import intake
    from lib.data.sources import gridfs

    num = 1000 if quick else 5000
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        os.environ |= {
            "DARKROOM_HOME": f"{folder}/home",
            gridfs.URL: f"mongodb://127.0.0.1:{port}/darkroom",
        }
        words = f"--host 127.0.0.1 --port {port} --storage-path {folder}/db --log-level ERROR"
        process = subprocess.Popen(
            [server, *words.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(3)
            rng = np.random.default_rng(0)
            for number in range(num):
                place = Path(folder, "pictures", "ab"[number % 2], f"{number:05}.png")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"\x89PNG\r\n\x1a\n" + rng.bytes(6000))
            rates = []
            for work in (
                lambda: gridfs.put(intake.bring(f"{folder}/pictures"), tell=len),
                lambda: gridfs.get("pictures", called="back", tell=len),
            ):
                rates.append(num / measure.seconds_of(work))
        finally:
            process.kill()
            process.wait()
    for rate, what, goal in zip(rates, ("written", "read"), (300, 1000), strict=True):
        what = f"GridFS {what} on loopback (server: secantusdb, in Python)"
        measure.claim(what, rate, goal, "images/s")


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call on one core."""
    with threadpoolctl.threadpool_limits(1):
        return measure.timed(work)[1]


def main() -> None:
    asked = measure.arguments(__doc__, PARTS)
    for name in asked.only:
        globals()[name](quick=asked.quick)


if __name__ == "__main__":
    main()
