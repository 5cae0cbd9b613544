"""Metrics, statistics and comparisons, computed from prediction tables only.

`compare([run, other])` says which difference is real.
"""

from lib import attach

__getattr__ = attach(__name__)
