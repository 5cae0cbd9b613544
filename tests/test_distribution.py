"""Two devices, simulated on the CPU, learn what one learns."""

import os
import subprocess
import sys

import pytest

from lib.errors import DarkroomError
from lib.models import distribution

SCRIPT = """
import os, sys
import filelock, keras, numpy as np
from pathlib import Path
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    one = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [one, one])
from lib import models, runs
from lib.data.batches import Examples
from lib.models import distribution, predictor
from lib.training.fit import fit
from lib.training.settings import Settings

labels = np.arange(31) % 2
images = np.random.default_rng(0).integers(0, 255, (31, 16, 16, 3), dtype=np.uint8)
train, val = Examples(images, np.arange(19), labels[:19]), Examples(images, np.arange(19, 31), labels[19:])

CLIPPED = {"gradient_clip": 0.1, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.5}

def learn(name, train=train, **changes):
    folder = Path(sys.argv[1]) / name
    folder.mkdir(parents=True)
    run = runs.Run(folder, folder / "c", {}, {}, "train", None, False, filelock.FileLock(folder / "lock"))
    model = models.build("custom", class_names=("a", "b"), image_side=16, filters=(4,), pool_after=(), batch_normalization=())
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    told = {"class_weights": "balanced", "learning_rate": 0.01, "gradient_clip": 0.0, **changes}
    settings = Settings(epochs=3, batch_size=8, **told)
    history = fit(model, train, val, settings=settings, run=run).history
    return history[["loss", "val_loss", "accuracy", "val_accuracy"]].to_numpy(), predictor.predict_proba(model, images[:9])

# All alike, so each device's part of the gradient is half of the whole, and what it is clipped to
# must be half as long.
alike = Examples(images, np.zeros(16, int), labels[np.zeros(16, int)])
alone, short = learn("one"), learn("one-clipped", alike, class_weights="none", **CLIPPED)
assert distribution.share(0) == distribution.count() == 2
both, cut = learn("two"), learn("two-clipped", alike, class_weights="none", **CLIPPED)
print(np.abs(short[1] - cut[1]).max() < 1e-5, np.abs(short[0][:, :2] - cut[0][:, :2]).max() < 1e-5)
print(np.abs(alone[1] - both[1]).max() < 1e-5, np.abs(alone[0][:, 1:] - both[0][:, 1:]).max() < 1e-5)
# The last batch of 3 is filled up to 4; Keras weighs it so in the mean over batches, and in that
# alone.
print(np.abs(alone[0][:, 0] - both[0][:, 0]).max() < 0.05)
try:
    distribution.check(7)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "jax"])
def test_two_devices_learn_what_one_learns(tmp_path, backend):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused = "2 devices share each batch, so `batch_size` must be a multiple of 2. Received: 7."
    assert done.stdout.splitlines()[-4:] == ["True True", "True True", "True", refused]


def test_more_devices_than_there_are_are_refused():
    assert distribution.share(1) == distribution.count() == 1
    with pytest.raises(DarkroomError, match="`devices` is 64, and the backend sees 1: cpu:0"):
        distribution.share(64)
