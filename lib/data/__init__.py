"""From files to batches: sources, one decoder, the manifest, splits, the pixel cache, augmentation.

`load("path/to/folder")` returns a data set, cleaned.
"""

from lib import api

__getattr__ = api.attach(__name__)
