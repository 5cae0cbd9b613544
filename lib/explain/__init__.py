"""Why a model said what it said: heat-maps by eight methods behind one call, and tests of the maps
themselves.
"""

from lib import models  # noqa: F401  the backend loads there, quietly
from lib.explain.explanation import METHODS, explain

__all__ = ["METHODS", "explain"]
