"""Claims: the posters source's grids several times faster than scikit-learn one by one; losses for
little; GridFS at speed.

With DARKROOM_SAMPLES also the table of all models on its posters, at three sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
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
import pandas
import psutil
import threadpoolctl
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from lib.baselines import data, finalise, fitting, search
from lib.baselines.data import Part
from lib.baselines.estimators import MLP
from lib.evaluation import confidence, test_access

warnings.simplefilter("ignore")
SHAPES = [
    [8],
    [16],
    [32],
    [8, 8],
    [16, 16],
    [32, 32],
    [8, 16, 8],
    [450],
    [450, 450],
]  # the source's first grid
RATES = [0.001, 0.01]
SIZE = (15, 10)
SOURCE = 0.5193
HOME = os.environ.get("DARKROOM_HOME")
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


def networks(scale: int) -> None:
    """The source's 72 results with `scale` times fewer epochs on both sides: seconds are
    proportional to epochs.
    """
    epochs = [1000 // scale, 2000 // scale]
    grid = fitting.parameter_grid(
        "mlp",
        {"hidden_layers": SHAPES, "learning_rate": RATES, "epochs": epochs, "optimizer": ["sgd"]},
    )
    joblib.Parallel(os.cpu_count())(
        joblib.delayed(_ready)() for _ in range(8 * os.cpu_count())
    )  # imports are not counted
    wall, cpu, differences = [0.0, 0.0], [0.0, 0.0], []
    for classes in (2, 3):
        drawn = Drawn(classes)
        before = _cpu_of_all()
        seconds, found = _timed(lambda drawn=drawn: search.run("mlp", grid, [SIZE], drawn))
        wall[0], cpu[0] = wall[0] + seconds, cpu[0] + _cpu_of_all() - before
        for row in sorted(found.to_dict("records"), key=_shape):
            before = _cpu_of_all()
            values = json.loads(row["parameters"])
            seconds, score = _timed(
                lambda values=values, drawn=drawn: _scikit_network(values, drawn)
            )
            wall[1], cpu[1] = wall[1] + seconds, cpu[1] + _cpu_of_all() - before
            differences.append(row["val_accuracy"] - score)
    # Rates and epochs of one shape share their first weights, so a shape on one set of classes
    # counts once.
    shapes = np.array(differences).reshape(2, len(SHAPES), -1).mean(axis=2).ravel()
    apart, error = float(shapes.mean()), float(shapes.std(ddof=1) / np.sqrt(len(shapes)))
    told = f"ours {wall[0]:.1f} s on {os.cpu_count()} cores, scikit-learn {wall[1]:.1f} s on one"
    print(f"{len(differences)} networks at 1/{scale} of the epochs: {told}")
    print(
        f"  CPU seconds: ours {cpu[0]:.1f}, scikit-learn {cpu[1]:.1f}, {cpu[1] / cpu[0]:.1f} times"
    )
    _claim("the source's first grid against scikit-learn one by one", wall[1] / wall[0], 5, "times")
    print(
        f"validation accuracy, ours less theirs: {100 * apart:+.2f} ± {100 * error:.2f} points "
        "(mean, standard error)"
    )


def _shape(row: dict) -> int:
    return SHAPES.index(json.loads(row["parameters"])["hidden_layers"])


def seeds(num: int) -> None:
    """Accuracies of networks of two shapes, ours and scikit-learn's, over seeds of their first
    weights and orders.
    """
    drawn = Drawn(3)
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    for shape, rate in (([8], 0.01), ([16, 16], 0.01)):
        values = {"hidden_layers": shape, "learning_rate": rate, "epochs": 50, "optimizer": "sgd"}
        pairs = np.empty((num, 2))
        for seed in range(num):
            with threadpoolctl.threadpool_limits(1):
                found = fitting.fit("mlp", values, train, seed=seed)
            mine = fitting.is_correct(fitting.outputs(found.pipeline, val.X), val.y).mean()
            pairs[seed] = mine, _scikit_network(values, drawn, seed)
        apart, error = (
            pairs[:, 0] - pairs[:, 1],
            100 * (pairs.var(axis=0, ddof=1).sum() / num) ** 0.5,
        )
        print(
            f"{shape}, {num} seeds: ours less theirs {100 * apart.mean():+.2f} ± {error:.2f} "
            "points (standard error)"
        )


def shapes(rounds: int) -> None:
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
        for _ in range(rounds):
            mine, _ = _cpu(
                lambda v=values, e=few: fitting.fit_path("mlp", v, [e, 2 * e], train, seed=0)
            )
            with threadpoolctl.threadpool_limits(1):
                theirs = sum(
                    _cpu(
                        lambda e=e, s=shape: MLPClassifier(tuple(s), max_iter=e, **settings).fit(
                            X, train.y
                        )
                    )[0]
                    for e in (few, 2 * few)
                )
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


def _cpu_of_all() -> float:
    """CPU seconds of this process and of those that it has started."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


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


def margins(every: int) -> None:
    """40 values of C; scikit-learn fits each `every`-th of them, and its time is multiplied by
    that.
    """
    drawn, before = Drawn(3), _cpu_of_all()
    ours, found = _timed(lambda: search.run("svm_linear", {"C": COSTS}, [SIZE], drawn))
    cpu = [_cpu_of_all() - before, 0.0]
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    scaler = StandardScaler().fit(train.X)
    X, scored = scaler.transform(train.X).astype(np.float64), scaler.transform(val.X)
    theirs, apart = 0.0, []
    mine = {
        json.loads(row["parameters"])["C"]: row["val_accuracy"] for row in found.to_dict("records")
    }
    for cost in COSTS[every // 2 :: every]:
        with threadpoolctl.threadpool_limits(1):
            before = _cpu_of_all()
            seconds, machine = _timed(
                lambda cost=cost: LinearSVC(C=cost, tol=1e-4, max_iter=100_000).fit(X, train.y)
            )
        theirs, cpu[1] = theirs + every * seconds, cpu[1] + every * (_cpu_of_all() - before)
        apart.append(abs(mine[cost] - machine.score(scored, val.y)))
    print(
        f"40 values of C: ours {ours:.1f} s, scikit-learn {theirs:.0f} s ({40 // every} of 40 "
        f"fitted, the sum times {every})"
    )
    print(
        f"  CPU seconds: ours {cpu[0]:.1f}, scikit-learn {cpu[1]:.1f}, {cpu[1] / cpu[0]:.1f} times"
    )
    _claim("40 linear SVMs against scikit-learn one by one", theirs / ours, 5, "times")
    print(f"validation accuracy of the same C: at most {100 * max(apart):.2f} points apart")


def losses(rounds: int) -> None:
    """What train and validation loss after every epoch cost: the same training with and without, in
    turn.
    """
    drawn = Drawn(3)
    train, val = drawn.part("train", SIZE), drawn.part("val", SIZE)
    for shape in ((8,), (32, 32), (450,)):
        epochs = 60 if shape[0] < 100 else 12
        ratios = []
        for _ in range(rounds):
            network = MLP(shape, 0.001, epochs, optimizer="sgd")
            with threadpoolctl.threadpool_limits(1):
                plain, _ = _cpu(lambda network=network: network.fit(train.X, train.y))
                noted, _ = _cpu(
                    lambda network=network: network.fit(train.X, train.y, validation=(val.X, val.y))
                )
            ratios.append(noted / plain - 1)
        cost = 100 * float(np.median(ratios))
        print(
            f"losses every epoch, {shape}: {cost:+.0f} % (the source paid 25 to 30 %) "
            f"{'ok' if cost < 25 else 'short'}"
        )


def store(num: int) -> None:
    """GridFS on loopback, with the server that the tests use; pictures of 6 kB."""
    server = Path(sys.executable).with_name("secantusd-py")
    if not server.exists():
        print("GridFS: skipped, since the test server is not installed (pip install -e '.[test]').")
        return
    from lib.data import intake
    from lib.data.sources import gridfs

    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        os.environ |= {
            "DARKROOM_HOME": f"{folder}/home",
            gridfs.URL: f"mongodb://127.0.0.1:{port}/darkroom",
        }
        words = [
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--storage-path",
            f"{folder}/db",
            "--log-level",
            "ERROR",
        ]
        process = subprocess.Popen(
            [server, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
                before = _cpu_of_all()
                seconds, _ = _timed(work)
                rates.append((num / seconds, num / (_cpu_of_all() - before)))
        finally:
            process.kill()
            process.wait()
    for (rate, of_cpu), what, goal in zip(rates, ("written", "read"), (300, 1000), strict=True):
        _claim(f"GridFS {what} on loopback (server: secantusdb, in Python)", rate, goal, "images/s")
        print(f"  {of_cpu:,.0f} images for each CPU second of client and server together")


def posters(sizes: list[str], samples: str | None) -> None:
    """All models of the table at some sizes on the sample posters, and the linear SVM on three
    genres.
    """
    if not samples:
        print("Table of all models: skipped, since DARKROOM_SAMPLES names no folder with posters/.")
        return
    from lib.cleaning import clean
    from lib.data import intake

    own = HOME or tempfile.mkdtemp()
    os.environ["DARKROOM_HOME"] = own
    dataset = clean.ensure(intake.bring(f"{samples}/posters"))
    rows = []
    for target in ("label", "label=Action_Adventure|Animation|Horror_Thriller"):
        thumbs = data.load(dataset, target=target)
        for kind in fitting.MODELS if target == "label" else ("svm_linear",):
            for size in sizes if target == "label" else ["15x10"]:
                rows.append(_row(kind, size, thumbs, target))
                print(json.dumps(rows[-1]), flush=True)
    shown = pandas.DataFrame(rows[:-1])
    opened = test_access.count(dataset.folder, data.load(dataset).split.id)
    print(
        f"the test split of all genres was opened {opened} times, once for each of {len(shown)} "
        "models unless it was before"
    )
    percent = 100 * shown[["accuracy", "low", "high"]]
    shown["test"] = [
        f"{each.accuracy:.1f} ({each.low:.1f} to {each.high:.1f})" for each in percent.itertuples()
    ]
    print(
        shown.pivot(index="model", columns="size", values="test")
        .loc[list(fitting.MODELS)]
        .to_string()
    )
    last = rows[-1]
    ours = f"{last['accuracy']:.3f} ({last['low']:.3f} to {last['high']:.3f}), {last['values']}"
    print(
        f"linear SVM at 15 × 10 on three genres: {ours}, n {last['n']}; the source: {SOURCE}, C "
        "chosen by its test score"
    )
    if not HOME:
        shutil.rmtree(own)


def _row(kind: str, size: str, thumbs: data.ThumbnailData, target: str) -> dict:
    began = time.perf_counter()
    found = search.run(
        kind, fitting.parameter_grid(kind), [data.parse_size(size)], thumbs, log=search.ResultLog()
    )
    _, model = finalise.fit_best(found, thumbs, seed=0)
    test_access.record(
        thumbs.dataset.folder, thumbs.split.id, f"benchmarks/thumbnails/{kind}-{size}"
    )
    part = thumbs.part("test", model.size)
    right = fitting.is_correct(fitting.outputs(model.pipeline, part.X), part.y)
    low, high = confidence.wilson(int(right.sum()), len(right))
    return {
        "model": kind,
        "size": size,
        "classes": len(thumbs.class_names),
        "n": len(right),
        "accuracy": round(float(right.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "val": round(float(found["val_accuracy"].iloc[0]), 4),
        "values": found["parameters"].iloc[0],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def _cpu(work: Callable[[], object]) -> tuple[float, object]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def _claim(claim: str, value: float, goal: float, unit: str) -> None:
    print(
        f"{claim}: {value:,.1f} {unit} (goal {goal:,}) {'ok' if value >= goal else 'short'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    every = "shapes,seeds,networks,margins,losses,store,posters"
    parser.add_argument("--only", default=every, help="some of these, with commas")
    asked = parser.parse_args()
    quick = asked.quick
    parts = {
        "shapes": lambda: shapes(1 if quick else 5),
        "seeds": lambda: seeds(4 if quick else 20),
        "networks": lambda: networks(200 if quick else 20),
        "margins": lambda: margins(20 if quick else 1),
        "losses": lambda: losses(3 if quick else 9),
        "store": lambda: store(1000 if quick else 5000),
        "posters": lambda: posters(
            ["15x10"] if quick else ["10x10", "15x10", "20x20"], os.environ.get("DARKROOM_SAMPLES")
        ),
    }
    for name in asked.only.split(","):
        parts[name]()


if __name__ == "__main__":
    main()
