"""Hyperparameter search: a typed space, search methods, resumable trials, a verified winner."""

from lib import api

__getattr__ = api.attach(__name__)
