"""Studies in batch: plan, check, run, report."""

from lib import api

__getattr__ = api.attach(__name__)
