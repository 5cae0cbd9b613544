"""Claims: a folder of any size in the same memory; several times as many pictures a second as one
Keras call a picture.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import psutil

from benchmarks.parts import measure
from lib import models as networks
from lib.apply import Classifier, folder
from lib.models import predictor

DIFFERENT, SIDE = 200, 96


def main() -> None:
    num = 2_000 if measure.arguments(__doc__).quick else 10_000
    model = networks.build("custom", class_names=("a", "b", "c"), image_side=SIDE)
    ours = Classifier(
        "random weights",
        ("a", "b", "c"),
        (SIDE, SIDE),
        lambda pixels: predictor.predict_proba(model, pixels),
        advice=({"wished": 1.0, "threshold": 0.5},),
    )
    with tempfile.TemporaryDirectory() as place:
        pile = _pile(Path(place) / "pile", num)
        folder.apply(ours, pile, Path(place) / "warm", limit=256)
        resident: list[float] = []
        process = psutil.Process()

        def watch(*_: object) -> None:
            resident.append(process.memory_info().rss / 1e6)

        out = Path(place) / "out"
        seconds = measure.seconds_of(lambda: folder.apply(ours, pile, out, progress=watch))
        alone = _one_by_one(model, sorted(pile.rglob("*.jpg"))[:200])
    early = max(resident[: len(resident) // 5])
    growth = f"memory growth over {num:,} images after the first fifth"
    measure.claim(growth, max(resident) - early, 60, "MB", most=True)
    speed = f"{num / seconds:,.0f} images/s, against load_img and predict for each image"
    measure.claim(speed, num / seconds * alone, 2)


def _pile(place: Path, num: int) -> Path:
    """`num` JPEGs of 640 x 480, of which 200 are different; the rest are links to them, so that
    little disk is needed.
    """
    rng = np.random.default_rng(0)
    for number in range(DIFFERENT):
        (place / f"{number % 10}").mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        large = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(place / f"{number % 10}" / f"{number:06}.jpg"), large)
    for number in range(DIFFERENT, num):
        first = number % DIFFERENT
        os.link(
            place / f"{first % 10}" / f"{first:06}.jpg",
            place / f"{first % 10}" / f"{number:06}.jpg",
        )
    return place


def _one_by_one(model, paths: list[Path]) -> float:
    """Seconds a picture of what a tutorial does: load, predict, next."""
    import keras

    def ask(path: Path) -> None:
        image = keras.utils.load_img(path, target_size=(SIDE, SIDE))
        model.predict(keras.utils.img_to_array(image)[None], verbose=0)

    ask(paths[0])
    return measure.seconds_of(lambda: [ask(path) for path in paths]) / len(paths)


if __name__ == "__main__":
    main()
