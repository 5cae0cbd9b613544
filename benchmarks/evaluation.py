"""Claims: all metrics of a million images in 200 classes within a minute and 4 GB; a hundred runs
compared in half a minute.
"""

from __future__ import annotations

import json
import statistics as middle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.parts import measure
from lib.evaluation import comparison, predictions, statistics
from lib.reporting import comparison_page

CLASSES = 200


def main() -> None:
    quick = measure.arguments(__doc__).quick
    with tempfile.TemporaryDirectory() as folder:
        metrics(Path(folder), num=100_000 if quick else 1_000_000)
        runs(Path(folder), arms=10, seeds=3 if quick else 10)
    intervals(num=20_000, rounds=3 if quick else 7)


def metrics(folder: Path, *, num: int) -> None:
    """Reads one table with all its checks and computes every number of it, in a process of its own."""
    path, size = folder / "large.parquet", f"{num:,} images in {CLASSES} classes"
    measure.in_a_process(_write_large, path, num)
    read, computed, peak = measure.in_a_process(_measure_large, path)
    print(f"{size}: read and checked in {read:.1f} s")
    what = f"all metrics of {size} with intervals"
    measure.claim(what, computed, 60 * num / 1_000_000, "s", most=True)
    what = f"memory for it, the table of {num * CLASSES * 4 / 1e9:.2f} GB included"
    measure.claim(what, peak, 4, "GB", most=True)


def runs(folder: Path, *, arms: int, seeds: int) -> None:
    """Compares runs of 2,600 images, each seed with a split of its own, and writes the page."""
    made = [_write_run(folder / "train", arm, seed) for arm in range(arms) for seed in range(seeds)]
    compared, _, result = measure.timed(lambda: comparison.comparison(made))
    written = measure.seconds_of(lambda: comparison_page.write(result, folder / "compare"))
    print(f"{len(made)} runs: {compared:.1f} s for the numbers, {written:.1f} s for the report")
    what = f"comparison of {len(made)} runs with its report"
    measure.claim(what, compared + written, 0.3 * len(made), "s", most=True)


def intervals(*, num: int, rounds: int) -> None:
    """Intervals of five metrics, against 1,000 resamples of rows handed to scikit-learn."""
    from sklearn import metrics as reference

    generator = np.random.default_rng(0)
    truth = generator.integers(10, size=num)
    predicted = np.where(generator.random(num) < 0.8, truth, generator.integers(10, size=num))

    names = [f"class {index}" for index in range(10)]
    about = {"splits": ["test"] * num, "groups": range(num), "class_names": names}
    labels, paths = [names[index] for index in truth], [f"{index:05d}" for index in range(num)]
    frame = predictions.table(paths, labels=labels, probabilities=np.eye(10)[predicted], **about)
    part = predictions.Predictions(frame, tuple(names))

    def theirs() -> None:
        rows = generator.integers(num, size=num)
        reference.accuracy_score(truth[rows], predicted[rows])
        reference.balanced_accuracy_score(truth[rows], predicted[rows])
        reference.f1_score(truth[rows], predicted[rows], average="macro")
        reference.cohen_kappa_score(truth[rows], predicted[rows])
        reference.matthews_corrcoef(truth[rows], predicted[rows])

    def ours() -> None:
        statistics.intervals(part, "test")

    ratios = [measure.seconds_of(theirs) * 1000 / measure.seconds_of(ours) for _ in range(rounds)]
    what = "intervals of five metrics against 1,000 resamples of rows by scikit-learn"
    measure.claim(what, middle.median(ratios), 20)


def _write_large(path: Path, num: int) -> None:
    generator = np.random.default_rng(0)
    names = [f"class {index:03d}" for index in range(CLASSES)]
    truth = generator.integers(CLASSES, size=num)
    scores = generator.random((num, CLASSES), dtype=np.float32)
    scores[np.arange(num), truth] += np.float32(0.9)
    scores /= scores.sum(axis=1, keepdims=True)
    frame = pd.DataFrame(scores, columns=predictions.probability_columns(names), copy=False)
    frame.insert(0, "group", np.arange(num))
    frame.insert(0, "label", pd.Categorical.from_codes(truth, names).astype(str))
    frame.insert(0, "split", "test")
    frame.insert(0, "path", [f"{index:07d}.png" for index in range(num)])
    predictions.write(path, frame, {"class_names": names, "data_hash": "h"})


def _measure_large(path: Path) -> tuple[float, float, float]:
    read, _, table = measure.timed(lambda: predictions.read(path))
    computed = measure.seconds_of(lambda: statistics.headline(table))
    return read, computed, measure.peak_memory() / 1e9


def _write_run(folder: Path, arm: int, seed: int, *, num: int = 2_600, classes: int = 5) -> Path:
    split = np.random.default_rng(seed).permutation(
        np.repeat(["train", "val", "test"], [1_560, 390, 650])
    )
    generator = np.random.default_rng([arm, seed])
    names, truth = [f"class {index}" for index in range(classes)], np.arange(num) % classes
    predicted = np.where(
        generator.random(num) < 0.8 + arm / 100, truth, generator.integers(classes, size=num)
    )
    frame = predictions.table(
        [f"{index:04d}.png" for index in range(num)],
        splits=split,
        labels=[names[index] for index in truth],
        groups=np.arange(num) // 2 * 2,
        probabilities=np.eye(classes)[predicted] * 0.9 + 0.1 / classes,
        class_names=names,
    )
    place = folder / f"arm{arm}-s{seed}"
    place.mkdir(parents=True)
    predictions.write(
        place / "predictions.parquet", frame, {"class_names": names, "data_hash": f"split {seed}"}
    )
    epochs = np.arange(1, 21)
    losses = {"loss": 1 / epochs, "val_loss": 1 / epochs}
    history = pd.DataFrame({"epoch": epochs, **losses, "accuracy": 0.8, "val_accuracy": 0.8})
    history.to_csv(place / "history.csv", index=False)
    result = {"arm": f"arm{arm}", "seed": seed, "seconds": 60, "num_parameters": 1_000_000}
    (place / "result.json").write_text(json.dumps({**result, "audit": []}))
    return place


if __name__ == "__main__":
    main()
