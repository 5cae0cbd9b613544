"""The search for better parameters: a typed space, methods that propose, trials that are not lost,
a winner to believe.
"""

from lib import lazy

__getattr__ = lazy.attach(__name__)
