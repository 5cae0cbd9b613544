"""Darkroom: reproducible image-classification experiments in Keras.

Each package imports only from those before it: `runs`, `data`, `models`, `evaluation`, `reporting`,
`cleaning`, `training`, `batch`, `tuning`, `baselines`, `explain`, `embeddings`, `apply`, `web` and
the command line `cli`. `lib.api` lists the public names.
"""

import os
from importlib.util import find_spec

if not find_spec("tensorflow") and find_spec("jax"):  # Keras itself defaults to TensorFlow
    os.environ.setdefault("KERAS_BACKEND", "jax")
