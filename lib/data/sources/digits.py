"""Handwritten digits: the 1,797 pictures of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NAME = "digits"
ABOUT = "1,797 handwritten digits, 8 x 8 pixels, ten classes"
LICENCE = "CC BY 4.0"
CITATION = (
    "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
    "Repository (1998)."
)


def intake(raw: Path) -> dict[str, Any]:
    """Writes the digits as PNG files into class folders of the empty folder `raw`; returns what to
    note about them.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 0..16 -> (1797, 8, 8) of 0..255
    for number, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
        folder = raw / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    return {
        "licence": LICENCE,
        "citation": CITATION,
        "label_rule": "the digit, which is the folder's name",
    }
