"""Findings about raw files and decisions on them. No file is moved or deleted."""

from lib import api

__getattr__ = api.attach(__name__)
