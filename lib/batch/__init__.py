"""Studies in batch: plan, check, run, report."""

from lib import attach

__getattr__ = attach(__name__)
