"""The feature space of a network: features, maps, and linear probes."""

from lib import api

__getattr__ = api.attach(__name__)
