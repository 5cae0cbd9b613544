"""Explanations: eight heat-map methods behind one call, and tests of the maps."""

from lib import (
    attach,
    models,  # noqa: F401 - loads the backend quietly
)
from lib.explain.attribution_methods import METHODS, explain

__all__ = ["METHODS", "explain"]

__getattr__ = attach(__name__)
