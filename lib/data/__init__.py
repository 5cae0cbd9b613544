"""From files to batches: sources, decoder, manifest, splits, pixel cache, augmentation.

`load("path/to/folder")` returns a data set, cleaned.
"""

from lib import attach

__getattr__ = attach(__name__)
