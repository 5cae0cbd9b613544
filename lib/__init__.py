"""Darkroom: reproducible image-classification experiments in Keras.

Each package imports only from those before it: `runs`, `data`, `models`, `evaluation`, `reporting`,
`cleaning`, `training`, `batch`, `tuning`, `baselines`, `explain`, `embeddings`, `apply`, `web` and
the command line `cli`. `lib.api` lists the public names.
"""

import os
from importlib.util import find_spec

# Keras itself defaults to TensorFlow.
if "KERAS_BACKEND" not in os.environ and not find_spec("tensorflow") and find_spec("jax"):
    os.environ["KERAS_BACKEND"] = "jax"
