"""Claim: one fused warp on the host costs a fraction of the CPU time of Keras' augmentation layers
in the graph.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from lib.data import augmentation
from lib.data.augmentation import Policy

SIDE, BATCH = 128, 64
# What the triage source does, and what its three layers do.
POLICY = Policy(flip_horizontal=True, flip_vertical=True, rotation=36, zoom=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds, batches = (3, 4) if parser.parse_args().quick else (9, 16)
    images = np.random.default_rng(0).integers(0, 255, (BATCH, SIDE, SIDE, 3), np.uint8)
    layers = _layers()
    layers(images)  # traced once, not counted
    ours = lambda epoch: augmentation.augment(  # noqa: E731
        images, POLICY, augmentation.draws(BATCH, seed=0, epoch=epoch)
    )  # noqa: E731
    theirs = lambda _: layers(images)  # noqa: E731
    pairs = [(_cpu_ms(ours, batches), _cpu_ms(theirs, batches)) for _ in range(rounds)]
    mine, keras_ms = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    print(f"CPU-ms an image at {SIDE} x {SIDE}: one warp {mine:.3f}, Keras layers {keras_ms:.3f}")
    print(
        f"one warp against Keras' layers, CPU time: {ratio:.1f} times (goal 8) "
        f"{'ok' if ratio >= 8 else 'short'}"
    )


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


def _cpu_ms(step: Callable[[int], object], batches: int) -> float:
    began = time.process_time()
    for number in range(batches):
        step(number)
    return 1000 * (time.process_time() - began) / (batches * BATCH)


if __name__ == "__main__":
    main()
