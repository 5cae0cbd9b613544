"""Pictures from anywhere, read by the suite's one decoder, and the answers for a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.apply.classifier import Classifier
from lib.data import decode
from lib.errors import DarkroomError

MAX_BYTES = 512 << 20
"""A larger file is not read: no photograph is that large, and a few at once would fill the memory.
"""

ACCEPTED, UNSURE, UNREAD = "accepted", "look at it", "not read"


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture: label and calibrated probability, and all `probabilities`
    by class name.

    `verdict` is "accepted", "look at it" (less sure than the wished accuracy takes) or "not read";
    then `problem` says why.
    """

    verdict: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    problem: str | None = None


def classify(
    classifier: Classifier, pictures: Sequence[bytes | Path | np.ndarray], *, accuracy: float = 0.95
) -> list[Answer]:
    """Returns one answer a picture, in their order; what cannot be read is an answer too.

    A picture is the bytes of a file, a path, or uint8 RGB of shape (height, width, 3). `accuracy`
    is what the accepted ones are wished to reach; it sets how sure the model must be. All pictures
    are in memory at once: this is for a few.
    """
    threshold = classifier.threshold(accuracy)
    read = [read_picture(picture, classifier) for picture in pictures]
    pixels = [each for each in read if isinstance(each, np.ndarray)]
    rows = iter(classifier.probabilities(np.stack(pixels)) if pixels else ())
    return [
        answer(classifier, next(rows), threshold)
        if isinstance(each, np.ndarray)
        else Answer(UNREAD, problem=each)
        for each in read
    ]


def answer(classifier: Classifier, probabilities: np.ndarray, threshold: float | None) -> Answer:
    """Returns the answer for one row of calibrated probabilities; without a threshold nothing is
    accepted.
    """
    best = int(probabilities.argmax())
    sure = threshold is not None and probabilities[best] >= threshold
    named = dict(zip(classifier.class_names, map(float, probabilities), strict=True))
    return Answer(
        ACCEPTED if sure else UNSURE,
        classifier.class_names[best],
        float(probabilities[best]),
        named,
    )


def read_picture(picture: bytes | Path | np.ndarray, classifier: Classifier) -> np.ndarray | str:
    """Returns uint8 pixels of the classifier's size, resized as its training images were, or why
    there are none.
    """
    try:
        pixels = (
            picture if isinstance(picture, np.ndarray) else decode.decode(_bytes(picture)).pixels
        )
    except decode.ImageError as error:
        return f"{error.reason}: {error}"
    except OSError as error:
        return f"unreadable: {error.strerror or error}"
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DarkroomError(
            f"A picture must be uint8 RGB (height, width, 3). Received: {pixels.dtype} "
            f"{pixels.shape}."
        )
    height, width = classifier.size
    return decode.resize(pixels, height=height, width=width, fit=classifier.resize)


def _bytes(picture: bytes | Path) -> bytes:
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    with Path(picture).open("rb") as file:
        head = file.read(64)
        if decode.kind(head) is None:  # a film or an archive in the pile is not read to its end
            raise decode.ImageError(
                "not_an_image",
                "the bytes are no image format that we know" if head else "empty file",
            )
        rest = file.read(MAX_BYTES)
        if len(rest) == MAX_BYTES:
            raise decode.ImageError("too_large", f"more than {MAX_BYTES >> 20} MiB")
        return head + rest
