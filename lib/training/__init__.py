"""Training: `train(pictures, architecture=…, strategy=…)`, or step by step as a `Session`."""

from lib import api

__getattr__ = api.attach(__name__)
