"""Applies a trained model to new images: labels, calibrated probabilities, and which to check.

For a few images: `load("quickstart/train/custom-s0").predict(["photo.jpg"])`.
"""

from lib import attach
from lib.apply.classifier import Classifier, load

__all__ = ["Classifier", "load"]

__getattr__ = attach(__name__)
