"""From files to batches: sources, one decoder, the manifest, splits, the pixel cache, augmentation.

`load("path/to/folder")` returns a data set, cleaned.
"""

from lib import lazy

__getattr__ = lazy.attach(__name__, load="lib.cleaning.clean")
