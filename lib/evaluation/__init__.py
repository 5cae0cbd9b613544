"""Metrics, statistics and comparisons, computed from prediction tables only.

`compare([run, other])` says which difference is real.
"""

from lib import api

__getattr__ = api.attach(__name__)
