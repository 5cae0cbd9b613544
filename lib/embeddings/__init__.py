"""The feature space of a network: features, maps of it, and numbers that say what it separates."""

from lib import api

__getattr__ = api.attach(__name__)
