"""The Simpsons source's loading: every picture read by OpenCV, resized, put into a list, the list
made one float array.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from benchmarks.parts.measure import Clock, report


def main(folder: str) -> None:
    clock = Clock()
    with clock.block():
        pictures, labels = [], []
        for place in sorted(Path(folder).iterdir()):
            for file in sorted(place.iterdir()):
                picture = cv2.imread(str(file))
                pictures.append(cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), (128, 128)))
                labels.append(place.name)
        array = np.array(pictures).astype("float32") / 255.0
    report(clock, num_images=len(array))


if __name__ == "__main__":
    main(sys.argv[1])
