"""Baselines on thumbnails: linear models, SVMs and small networks on a few hundred pixels."""

from lib import lazy

__getattr__ = lazy.attach(__name__)
