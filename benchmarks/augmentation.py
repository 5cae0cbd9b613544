"""Claim: one fused warp on the host costs a fraction of the CPU time of Keras' augmentation layers
in the graph.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks.parts import measure
from lib.data import augmentation
from lib.data.augmentation import Policy

SIDE, BATCH = 128, 64
# What the triage source does, and what its three layers do.
POLICY = Policy(flip_horizontal=True, flip_vertical=True, rotation=36, zoom=0.1)


def main() -> None:
    rounds, batches = (3, 4) if measure.arguments(__doc__).quick else (9, 16)
    images = np.random.default_rng(0).integers(0, 255, (BATCH, SIDE, SIDE, 3), np.uint8)
    layers = _layers()
    layers(images)  # traced once, not counted

    def ours() -> None:
        for epoch in range(batches):
            draws = augmentation.draws(BATCH, seed=0, epoch=epoch)
            augmentation.augment(images, POLICY, draws)

    def theirs() -> None:
        for _ in range(batches):
            layers(images)

    pairs = [(measure.timed(ours)[1], measure.timed(theirs)[1]) for _ in range(rounds)]
    mine, keras_ms = (
        1000 * statistics.median(side) / (batches * BATCH) for side in zip(*pairs, strict=True)
    )
    print(f"CPU-ms an image at {SIDE} x {SIDE}: one warp {mine:.3f}, Keras layers {keras_ms:.3f}")
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    measure.claim("one warp against Keras' layers, CPU time", ratio, 8)


def _layers() -> Callable[[np.ndarray], object]:
    model = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal_and_vertical"),
            keras.layers.RandomRotation(0.1, fill_mode="nearest"),
            keras.layers.RandomZoom(0.1, fill_mode="nearest"),
        ]
    )
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return tensorflow.function(lambda images: model(images, training=True))
    return lambda images: np.asarray(model(images, training=True))


if __name__ == "__main__":
    main()
