"""Hyperparameter search: a typed space, search methods, resumable trials, a verified winner."""

from lib import attach

__getattr__ = attach(__name__)
