"""Applies a trained model to new images: labels, calibrated probabilities, and which to check.

For a few images: `classify(load("quickstart/train/custom-s0"), [bytes_of_a_file])`.
"""

from lib import api
from lib.apply.classifier import Answer, Classifier, classify, load

__all__ = ["Answer", "Classifier", "classify", "load"]

__getattr__ = api.attach(__name__)
