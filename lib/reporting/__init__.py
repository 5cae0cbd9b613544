"""Figures, tables, the HTML report and TensorBoard files. No Keras."""

from lib import attach

__getattr__ = attach(__name__)
