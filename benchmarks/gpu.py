"""Claims: on one GPU ResNet101V2 trains at a good share of the matrix peak, and the input never is
the limit.

    KERAS_BACKEND=jax python -m benchmarks gpu

Whole training steps of full fine-tuning at 128 x 128 in mixed bfloat16, batches of 64 and of 256,
fed as a training is fed; then the whole chain by papermill. Without a GPU it runs small, to show
that it runs; its figures mean nothing there.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from benchmarks.parts import measure
from lib.data.batches import Batches, Examples
from lib.models import distribution
from lib.training import fit, network
from lib.training.settings import Settings

SIMPSONS = 10_540
"""Images of the Simpsons source's train split, for which it needed 109 s an epoch."""
NAMES = [f"class {number:02}" for number in range(19)]


def main() -> None:
    large = distribution.has_gpu() and not measure.arguments(__doc__).quick
    keras.config.set_dtype_policy("mixed_bfloat16")
    backend = importlib.import_module(keras.backend.backend())
    devices = ", ".join(keras.distribution.list_devices())
    print(f"{backend.__name__} {backend.__version__} on {devices}")
    if not distribution.has_gpu():
        print("No GPU: a small form, which shows that it runs; no figure below means anything.")
    peak = matrix_peak(8192 if large else 512)
    print(f"matrix peak in bfloat16, measured: {peak / 1e12:.2f} TFLOP/s", flush=True)
    sizes = ((64, 128), (256, 128)) if large else ((4, 64),)
    for batch_size, image_side in sizes:
        steps(
            batch_size,
            image_side,
            peak=peak,
            architecture="resnet101v2" if large else "resnet18",
            num=40 if large else 3,
        )
    chain(large=large)


def matrix_peak(side: int) -> float:
    """Returns FLOP a second of the best of several products of two square bfloat16 matrices."""
    left = keras.random.normal((side, side), dtype="bfloat16", seed=0)
    product = _compiled(lambda matrix: keras.ops.matmul(matrix, matrix))
    np.asarray(keras.ops.cast(product(left)[0, :1], "float32"))

    def ten() -> None:
        result = left
        for _ in range(10):
            result = product(result)
        np.asarray(keras.ops.cast(result[0, :1], "float32"))  # waits for the device

    times = [measure.seconds_of(ten) for _ in range(10)]
    return 2 * side**3 / (min(times) / 10)


def steps(batch_size: int, image_side: int, *, peak: float, architecture: str, num: int) -> None:
    """Training steps on one batch that lies ready, then the same from the input pipeline."""
    model = network.describe(
        {"architecture": architecture, "weights": "none"}, class_names=NAMES, image_side=image_side
    )
    fit._compile(model, Settings(batch_size=batch_size, learning_rate=1e-4), 1000)
    rng = np.random.default_rng(0)
    num_images = batch_size * num
    images = rng.integers(0, 256, (num_images, image_side, image_side, 3), dtype=np.uint8)
    given = Examples(images, np.arange(num_images), rng.integers(0, len(NAMES), num_images))
    batch = Batches(given, batch_size=batch_size)[0]
    model.train_on_batch(*batch)
    alone = statistics.median(
        measure.seconds_of(lambda: model.train_on_batch(*batch)) for _ in range(num)
    )
    fed = Batches(given, batch_size=batch_size, seed=0, policy="gentle")
    model.fit(fed, epochs=1, shuffle=False, verbose=0)  # compiles the loop
    whole = measure.seconds_of(lambda: model.fit(fed, epochs=1, shuffle=False, verbose=0)) / num
    host = measure.seconds_of(lambda: [fed[index] for index in range(len(fed))]) / num
    flops = 3 * forward_flops(model) * batch_size
    speed = batch_size / whole
    share = flops / whole / peak
    print(
        f"{architecture} at {image_side} px, batch {batch_size}: {speed:,.0f} images/s fed "
        f"({batch_size / alone:,.0f} from one "
        f"batch that lies ready; the host alone prepares {batch_size / host:,.0f}), {share:.1%} of "
        "the matrix peak, "
        f"{SIMPSONS / speed:.1f} s for {SIMPSONS:,} images (the source: 109 s)",
        flush=True,
    )
    measure.claim(f"share of the matrix peak, batch {batch_size}", share, 0.3)
    measure.claim(f"the step alone against the step fed, batch {batch_size}", alone / whole, 0.9)


def forward_flops(model: keras.Model) -> float:
    """Returns the FLOP of one image through all convolutions and dense layers, two for each
    multiplication with its sum.
    """
    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            height, width = layer.output.shape[1:3]
            total += 2 * float(np.prod(layer.kernel.shape)) * height * width
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * float(np.prod(layer.kernel.shape))
    return total


def chain(*, large: bool) -> None:
    """Cleaning and one training by plain papermill, as a user runs them; tells the seconds of its
    epochs.
    """
    given = {
        "data": "planted",
        "architecture": "resnet101v2",
        "strategy": "full",
        "weights": "none",
        "epochs": 3,
        "batch_size": 256,
        "image_side": 128,
        "dtype_policy": "mixed_bfloat16",
        "arm": "gpu",
    }
    if not large:
        given |= {"data": "digits", "architecture": "efficientnet_lite0", "tiny": True}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DARKROOM_HOME": folder, "PYTHONPATH": str(measure.ROOT)}
        for name in ("1_clean", "3_train"):
            values = given if name == "3_train" else {"data": given["data"]}
            words = [word for key, value in values.items() for word in ("-p", key, str(value))]
            files = [str(measure.ROOT / "notebooks" / f"{name}.ipynb"), f"{folder}/{name}.ipynb"]
            subprocess.run(
                [sys.executable, "-m", "papermill", *files, *words, "--no-progress-bar"],
                env=environment,
                cwd=measure.ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        [result] = Path(folder).glob("logs/interactive/train/*/result.json")
        seconds = json.loads(result.read_text(encoding="utf-8"))["seconds"]
        rows = (result.parent / "history.csv").read_text(encoding="utf-8").splitlines()
        column = rows[0].split(",").index("seconds")
        epochs = ", ".join(f"{float(row.split(',')[column]):.1f}" for row in rows[1:])
        print(f"chain by papermill: {seconds:.0f} s, epochs of {epochs} s")


def _compiled(function: Callable) -> Callable:
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow

    return tensorflow.function(function)


if __name__ == "__main__":
    main()
