"""Studies in batch: plan, check, run, report."""

from lib import lazy

__getattr__ = lazy.attach(__name__)
