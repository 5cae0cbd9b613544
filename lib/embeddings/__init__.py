"""The feature space of a network: features, maps, and linear probes."""

from lib import attach

__getattr__ = attach(__name__)
