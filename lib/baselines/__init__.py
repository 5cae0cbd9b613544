"""Classic models on thumbnails: what a linear model, an SVM or a small network reaches on a few
hundred numbers an image.
"""

from lib import lazy

__getattr__ = lazy.attach(__name__)
