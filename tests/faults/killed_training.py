"""Trains one small model in a child process that may be killed, as often as it takes: `python
killed_training.py FOLDER RECIPE DEATH...`.

A death is the name of a write point (`generation-00002:written`), a number of seconds after which
the child is killed, or `none`. Whatever came before, the last child is left alone. Libraries are
loaded once; each child starts from nothing else.
"""

import os
import signal
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pandas

from lib import files, runs
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.models import predictor, serialization
from lib.training import callbacks, fit, network, strategies
from lib.training.settings import Settings

NAMES = ["blue", "red"]
DROPPING = {
    "preset": "triage",
    "filters": [3],
    "dense_units": [5],
    "dropout": 0.4,
    "batch_normalization": "all",
}
BACKBONE = {"architecture": "mobilenet", "alpha": 0.25, "weights": "none"}
NETWORKS = {"scratch": DROPPING, "fine_tune": BACKBONE, "full": BACKBONE}


def material(folder: Path) -> strategies.TrainingData:
    labels = np.arange(60) % 2
    images = np.random.default_rng(0).integers(0, 200, (60, 32, 32, 3), dtype=np.uint8)
    images[labels == 0, ..., 2] += 40
    paths = [f"{number:02}.png" for number in range(60)]
    frame = pandas.DataFrame(
        {"path": paths, "label": np.where(labels == 0, *NAMES), "group": range(60), "pixels": paths}
    )
    split = Split(
        "id",
        "grouped",
        "label",
        frame.assign(split=["train"] * 40 + ["val"] * 10 + ["test"] * 10),
        NAMES,
    )
    return strategies.TrainingData(
        Pixels(images, pandas.Series(range(60), index=paths), "k"), split, folder / "features"
    )


def live(folder: Path, strategy: str) -> None:
    """One life: begins or goes on, and at its end leaves `outcome.npz`."""
    given = material(folder)
    unit = folder / "logs" / "unit"
    unit.mkdir(parents=True, exist_ok=True)
    run = runs.Run(
        unit,
        folder / "checkpoints",
        {},
        {},
        "train",
        None,
        False,
        filelock.FileLock(folder / "lock"),
    )
    fit.begin(
        seed=os.getpid(), dtype_policy="float32", run=run
    )  # what Keras drew from before must not matter ...
    model = network.build(NETWORKS[strategy], given)
    first = np.random.default_rng(7)  # ... but the first weights are the seed's
    model.set_weights([first.normal(0, 0.1, weight.shape) ** 2 for weight in model.get_weights()])
    settings = Settings(
        epochs=6,
        batch_size=8,
        learning_rate=0.01,
        schedule="cosine",
        augmentation="gentle",
        mix="mixup",
        seed=5,
    )
    callbacks._CHECKPOINT_SHARE = 1e9  # a generation after every epoch, however short it was
    trained = strategies.train(strategy, model, given, settings=settings, run=run)
    serialization.save(model, folder / "model.keras", card={})
    weights = np.concatenate(
        [weight.ravel() for weight in serialization.load(folder / "model.keras").get_weights()]
    )
    history = trained.fitted.history.drop(columns=["seconds", "phase"]).to_numpy()
    probabilities = predictor.predict_proba(model, given.pixels.array)
    with files.replacing(folder / "outcome.npz") as aside, aside.open("wb") as file:
        np.savez(file, weights=weights, history=history, probabilities=probabilities)


def child(folder: Path, strategy: str, death: str) -> int:
    """Returns how the child ended: 0, or minus the signal that killed it."""
    number = os.fork()
    if number == 0:
        if not death[0].isdigit():
            os.environ["DARKROOM_FAULT"] = death
        status = 1
        try:
            live(folder, strategy)
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    if death[0].isdigit():
        time.sleep(float(death))
        os.kill(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


if __name__ == "__main__":
    place, chosen, *deaths = sys.argv[1:]
    ends = [child(Path(place), chosen, death) for death in deaths]
    print("ends", *ends)
    sys.exit(child(Path(place), chosen, "none"))
