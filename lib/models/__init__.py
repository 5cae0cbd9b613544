"""Networks: custom CNN, pretrained backbones, heads, predictions and features.

Every model takes RGB images of 0 to 255 with the shape (batch, height, width, 3), does its
preprocessing itself, is one un-nested functional graph, returns logits, and carries its class names
(`heads.of(model)`).
"""

import logging

from lib import processes

with processes.without_native_messages():
    import keras  # noqa: F401  the backend loads here, once

# TensorFlow warns where a process predicts with many models; `best` and tuning do so by design.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

from lib.models import losses  # noqa: E402, F401  registered, for models saved with their loss
from lib.models.factory import build  # noqa: E402

__all__ = ["build"]
