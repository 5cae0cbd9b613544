"""What a run is worth, computed from its prediction table and from nothing else.

`compare([run, other])` says which difference is real.
"""

from lib import lazy

__getattr__ = lazy.attach(__name__, compare="lib.evaluation.comparison")
