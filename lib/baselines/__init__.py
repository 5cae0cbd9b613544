"""Baselines on thumbnails: linear models, SVMs and small networks on a few hundred pixels."""

from lib import api

__getattr__ = api.attach(__name__)
