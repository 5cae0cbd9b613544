"""A trained model on new pictures: a label and a calibrated probability for each, and which of them
a person should look at.

For a few pictures, as a web page has them: `classify(load("quickstart/train/custom-s0"),
[bytes_of_a_file])`.
"""

from lib.apply.classifier import Classifier, load
from lib.apply.pictures import Answer, classify

__all__ = ["Answer", "Classifier", "classify", "load"]
