"""Claims: the posters source's grids several times faster than scikit-learn one by one; losses for
little; GridFS at speed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import threadpoolctl
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from benchmarks.parts import measure
from lib.baselines import fitting, search
from lib.baselines.data import Part
from lib.baselines.estimators import MLP

warnings.simplefilter("ignore")
# The source's first grid.
SHAPES = [[8], [16], [32], [8, 8], [16, 16], [32, 32], [8, 16, 8], [450], [450, 450]]
RATES = [0.001, 0.01]
SIZE = (15, 10)
PARTS = ("shapes", "seeds", "networks", "margins", "losses", "store")
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
    """The source's 72 results with fewer epochs on both sides: seconds are proportional to epochs."""
    scale = 200 if quick else 20
    epochs = [1000 // scale, 2000 // scale]
    grid = fitting.parameter_grid(
        "mlp",
        {"hidden_layers": SHAPES, "learning_rate": RATES, "epochs": epochs, "optimizer": ["sgd"]},
    )
    joblib.Parallel(os.cpu_count())(
        joblib.delayed(_ready)() for _ in range(8 * os.cpu_count())
    )  # imports are not counted
    wall, differences = [0.0, 0.0], []
    for classes in (2, 3):
        drawn = Drawn(classes)
        seconds, _, table = measure.timed(lambda d=drawn: search.run("mlp", grid, [SIZE], d))
        wall[0] += seconds
        for row in sorted(table.to_dict("records"), key=_shape):
            values = json.loads(row["parameters"])
            seconds, _, score = measure.timed(lambda v=values, d=drawn: _scikit_network(v, d))
            wall[1] += seconds
            differences.append(row["val_accuracy"] - score)
    # Rates and epochs of one shape share their first weights, so a shape on one set of classes
    # counts once.
    shapes = np.array(differences).reshape(2, len(SHAPES), -1).mean(axis=2).ravel()
    apart, error = float(shapes.mean()), float(shapes.std(ddof=1) / np.sqrt(len(shapes)))
    what = f"{len(differences)} networks at 1/{scale} of the epochs against scikit-learn one by one"
    measure.claim(f"{what} ({wall[0]:.1f} and {wall[1]:.1f} s)", wall[1] / wall[0], 5)
    print(
        f"validation accuracy, ours less theirs: {100 * apart:+.2f} ± {100 * error:.2f} points "
        "(mean, standard error)"
    )


def _shape(row: dict) -> int:
    return SHAPES.index(json.loads(row["parameters"])["hidden_layers"])


def seeds(*, quick: bool) -> None:
    """Accuracies of networks of two shapes, ours and scikit-learn's, over seeds of their first
    weights and orders.
    """
    num = 4 if quick else 20
    drawn = Drawn(3)
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    for shape, rate in (([8], 0.01), ([16, 16], 0.01)):
        values = {"hidden_layers": shape, "learning_rate": rate, "epochs": 50, "optimizer": "sgd"}
        pairs = np.empty((num, 2))
        for seed in range(num):
            with threadpoolctl.threadpool_limits(1):
                fitted = fitting.fit("mlp", values, train, seed=seed)
            mine = fitting.is_correct(fitting.outputs(fitted.pipeline, val.X), val.y).mean()
            pairs[seed] = mine, _scikit_network(values, drawn, seed)
        apart, error = (
            pairs[:, 0] - pairs[:, 1],
            100 * (pairs.var(axis=0, ddof=1).sum() / num) ** 0.5,
        )
        print(
            f"{shape}, {num} seeds: ours less theirs {100 * apart.mean():+.2f} ± {error:.2f} "
            "points (standard error)"
        )


def shapes(*, quick: bool) -> None:
    """CPU time of every shape, ours and scikit-learn in turn on one core, for results at e and at 2
    e epochs.
    """
    drawn = Drawn(3)
    train = drawn.part("train", SIZE)
    X, totals = StandardScaler().fit_transform(train.X.astype(np.float64)), [0.0, 0.0]
    settings = {"solver": "sgd", "learning_rate_init": 0.001, "tol": 0, "n_iter_no_change": 10**9}
    for shape in SHAPES:
        few = 3 if max(shape) > 100 else 10
        values = {"hidden_layers": shape, "learning_rate": 0.001, "optimizer": "sgd"}
        pairs = []
        for _ in range(1 if quick else 5):
            mine = _cpu(
                lambda v=values, e=few: fitting.fit_path("mlp", v, [e, 2 * e], train, seed=0)
            )
            networks = [
                MLPClassifier(tuple(shape), max_iter=epochs, **settings)
                for epochs in (few, 2 * few)
            ]
            theirs = _cpu(lambda n=networks: [network.fit(X, train.y) for network in n])
            pairs.append((mine / few, theirs / few))
        totals = [
            total + part for total, part in zip(totals, np.median(pairs, axis=0), strict=True)
        ]
    print(
        "nine shapes, results at e and 2 e epochs, CPU time on one core: "
        f"{totals[1] / totals[0]:.1f} times less than "
        f"scikit-learn ({1000 * totals[0]:.0f} against {1000 * totals[1]:.0f} ms for each e)"
    )


def _ready() -> None:
    time.sleep(0.05)


def _scikit_network(values: dict, drawn: Drawn, seed: int = 0) -> float:
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    with threadpoolctl.threadpool_limits(1):
        scaler = StandardScaler().fit(train.X.astype(np.float64))
        network = MLPClassifier(
            tuple(values["hidden_layers"]),
            solver="sgd",
            learning_rate_init=values["learning_rate"],
            max_iter=values["epochs"],
            tol=0,
            n_iter_no_change=10**9,
            random_state=seed,
        )
        network.fit(scaler.transform(train.X.astype(np.float64)), train.y)
        return float(network.score(scaler.transform(val.X.astype(np.float64)), val.y))


def margins(*, quick: bool) -> None:
    """40 values of C; in the quick form scikit-learn fits two of them, and its time counts 20 times."""
    drawn, every = Drawn(3), 20 if quick else 1
    ours, _, table = measure.timed(lambda: search.run("svm_linear", {"C": COSTS}, [SIZE], drawn))
    mine = {
        json.loads(row["parameters"])["C"]: row["val_accuracy"] for row in table.to_dict("records")
    }
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    scaler = StandardScaler().fit(train.X)
    X, scored = scaler.transform(train.X).astype(np.float64), scaler.transform(val.X)
    theirs, apart = 0.0, []
    for cost in COSTS[every // 2 :: every]:
        machine = LinearSVC(C=cost, tol=1e-4, max_iter=100_000)
        with threadpoolctl.threadpool_limits(1):
            theirs += every * measure.seconds_of(lambda m=machine: m.fit(X, train.y))
        apart.append(abs(mine[cost] - machine.score(scored, val.y)))
    what = f"40 linear SVMs against scikit-learn one by one ({ours:.1f} and {theirs:.0f} s)"
    measure.claim(what, theirs / ours, 5)
    print(f"validation accuracy of the same C: at most {100 * max(apart):.2f} points apart")


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
