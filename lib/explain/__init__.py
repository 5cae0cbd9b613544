"""Explanations: heat-maps by eight methods behind one call, and tests of the maps."""

from lib import (
    lazy,
    models,  # noqa: F401 - loads the backend quietly
)
from lib.explain.explanation import METHODS, explain

__all__ = ["METHODS", "explain"]

__getattr__ = lazy.attach(__name__)
