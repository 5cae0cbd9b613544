"""Findings about raw files and decisions on them. No file is moved or deleted."""

from lib import attach

__getattr__ = attach(__name__)
