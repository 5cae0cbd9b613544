"""Findings about raw files, and what follows from them. Nothing is ever moved or deleted."""

from lib import lazy

__getattr__ = lazy.attach(__name__)
