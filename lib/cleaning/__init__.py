"""Findings about raw files, and what follows from them. Nothing is ever moved or deleted."""

from lib import api

__getattr__ = api.attach(__name__)
