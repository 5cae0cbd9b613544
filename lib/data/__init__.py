"""From files to batches: sources, decoder, manifest, splits, pixel cache, augmentation.

`load("path/to/folder")` returns a data set, cleaned.
"""

from lib import api

__getattr__ = api.attach(__name__)
