"""Baselines on thumbnails: linear models, SVMs and small networks on a few hundred pixels."""

from lib import attach

__getattr__ = attach(__name__)
