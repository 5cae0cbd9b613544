"""The feature space of a network: features, maps of it, and numbers that say what it separates."""

from lib import lazy

__getattr__ = lazy.attach(__name__)
