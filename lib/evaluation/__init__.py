"""What a run is worth, computed from its prediction table and from nothing else.

`compare([run, other])` says which difference is real.
"""

from lib import api

__getattr__ = api.attach(__name__)
