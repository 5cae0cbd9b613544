"""Figures, tables, the HTML report and TensorBoard files. No Keras."""

from lib import api

__getattr__ = api.attach(__name__)
