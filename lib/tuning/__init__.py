"""The search for better parameters: a typed space, methods that propose, trials that are not lost,
a winner to believe.
"""

from lib import api

__getattr__ = api.attach(__name__)
