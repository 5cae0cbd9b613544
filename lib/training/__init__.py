"""Training: `train(pictures, architecture=…, strategy=…)`, or step by step as a `Session`."""

from lib import attach

__getattr__ = attach(__name__)
