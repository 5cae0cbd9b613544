"""Our side of the training benchmarks: `python -m benchmarks.parts.ours TASK FOLDER …`, measured as
the naive side is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import filelock
import keras
import numpy as np

from benchmarks.parts.measure import Clock, report
from benchmarks.parts.pictures import Cleaned
from lib import runs
from lib.data import pixel_cache
from lib.data.batches import Batches
from lib.data.splits import Split
from lib.models import feature_cache, timing, transfer
from lib.models import inference as engines
from lib.training import callbacks, fit, network, optimizers, strategies
from lib.training.settings import Settings

SIDE = 128
AS_THERE = {"batch_size": 64, "gradient_clip": 0.0}
"""The sources clip no gradients, so neither do we here."""
BACKBONE = {"architecture": "resnet101v2", "weights": "none"}


def material(home: Path, clock: Clock, side: int = SIDE) -> strategies.TrainingData:
    """The train and val pictures of `home`, decoded; decoding is the clock's first block."""
    cleaned = Cleaned(home / "ours", home)
    rows = cleaned.accepted()
    with clock.block():
        decoded = pixel_cache.cache(cleaned, side=side)
    frame = rows.assign(
        group=np.arange(len(rows)), split=[path.split("/")[0] for path in rows["path"]]
    )
    split = Split("id", "random", "label", frame, sorted(frame["label"].unique()))
    return strategies.TrainingData(decoded, split, home / "ours" / "features")


def run_in(home: Path) -> runs.Run:
    """A run of its own, with checkpoints and all."""
    folder = Path(tempfile.mkdtemp(dir=home))
    lock = filelock.FileLock(folder / "lock")
    return runs.Run(folder, folder / "checkpoints", {}, {}, "train", None, False, lock)


def triage(
    home: Path, policy: str, epochs: int, dtype_policy: str, seed: int, side: int = SIDE
) -> None:
    """The triage CNN from scratch, with everything a run of the suite does: checkpoints, history,
    TensorBoard.
    """
    built, clock, run = Clock(), Clock(), run_in(home)
    fit.begin(seed=seed, dtype_policy=dtype_policy, run=run)
    given = material(home, built, side)
    model = network.build({"preset": "triage"}, given)
    settings = Settings(epochs=epochs, augmentation=policy, seed=seed, **AS_THERE)
    measured(clock)
    history = strategies.train("scratch", model, given, settings=settings, run=run).fitted.history
    report(
        clock,
        build=built.cpu[0],
        val_accuracy=history["val_accuracy"].tolist(),
    )


def measured(clock: Clock) -> None:
    """Has the training's own callback tell the clock when an epoch begins and ends."""
    begin, end = callbacks.SeedLayers.on_epoch_begin, callbacks.WriteCheckpoints.on_epoch_end

    def on_epoch_begin(self, epoch, logs=None):
        clock.start()
        begin(self, epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        end(self, epoch, logs)
        clock.stop()

    callbacks.SeedLayers.on_epoch_begin = on_epoch_begin
    callbacks.WriteCheckpoints.on_epoch_end = on_epoch_end


def floor(_: Path, dtype_policy: str) -> None:
    """The step alone: the same batch from memory again and again; below it no input pipeline can
    bring the time.
    """
    keras.config.set_dtype_policy(dtype_policy)
    names = ["Painting", "Photo", "Schematics", "Sketch", "Text"]
    model = network.describe({"preset": "triage"}, class_names=names, image_side=SIDE)
    fit._compile(model, Settings(**AS_THERE), 100)
    rng = np.random.default_rng(0)
    batch, truth = rng.integers(0, 256, (64, SIDE, SIDE, 3), np.uint8), rng.integers(0, 5, 64)
    clock = Clock()
    for _ in range(12):
        with clock.block():
            model.train_on_batch(batch, truth)
    report(clock)


def frozen(home: Path, engine: str, epochs: int) -> None:
    """A head on the frozen backbone: features once, then epochs on them; block 1 the features,
    block 2 the epochs.
    """
    given, clock, run = material(home, Clock()), Clock(), run_in(home)
    keras.utils.set_random_seed(0)
    model = network.build(BACKBONE, given)
    settings = Settings(epochs=epochs, feature_backend=engine, **AS_THERE)
    transfer.freeze(model)
    with clock.block():
        features = feature_cache.ensure(
            model,
            given.pixels.array,
            images_key=given.pixels.key,
            folder=given.features_folder,
            engine=engine,
        )
    with clock.block():
        strategies.train("frozen", model, given, settings=settings, run=run)
    report(clock, engine=engines.resolve(engine), num_images=len(features))


def whole(home: Path, dtype_policy: str, steps: int) -> None:
    """Full fine-tuning: whole training steps of the backbone on augmented batches from the cache."""
    keras.config.set_dtype_policy(dtype_policy)
    given, clock = material(home, Clock()), Clock(by_step=True)
    model = network.build(BACKBONE, given)
    fit._compile(model, Settings(learning_rate=1e-4, **AS_THERE), 100)
    batches = Batches(given.examples("train"), batch_size=64, seed=0, policy="gentle")
    for index in range(steps):
        batch = batches[index % len(batches)]
        with clock.block():
            model.train_on_batch(*batch)
    report(clock)


def loading(home: Path) -> None:
    """The cache of decoded pixels, and one pass over it in batches."""
    clock = Clock()
    with clock.block():
        decoded = pixel_cache.cache(Cleaned(home / "ours", home), side=SIDE)
        total = sum(
            int(decoded.array[start : start + 64].sum())
            for start in range(0, len(decoded.array), 64)
        )
    report(clock, num_images=len(decoded.array), total=total)


def precision(home: Path) -> None:
    """What `auto` chooses for the triage CNN here."""
    clock = Clock()
    names = ["Painting", "Photo", "Schematics", "Sketch", "Text"]
    milliseconds = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = network.describe({"preset": "triage"}, class_names=names[:2], image_side=SIDE)
        optimizer = optimizers.build(Settings(**AS_THERE), total_steps=100)
        milliseconds[policy] = timing.steps(
            model, optimizer, image_side=SIDE, batch_size=64, num_steps=5
        )["train_ms"]
    report(clock, milliseconds=milliseconds)


if __name__ == "__main__":
    task, home, *words = sys.argv[1:]
    globals()[task](Path(home), *(int(word) if word.isdigit() else word for word in words))
