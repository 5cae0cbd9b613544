"""Why a model said what it said: heat-maps by eight methods behind one call, and tests of the maps themselves."""

from lib.explain.explanation import METHODS, explain

__all__ = ["METHODS", "explain"]
