"""A model on a whole folder, file by file, in memory that does not grow with it: `labels.csv`,
`labels.parquet`, `report.html`.

What cannot be read is a row of the tables like the rest, and stops nothing. The folder itself is
only read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib import paths
from lib.apply import pictures, tables
from lib.apply.classifier import Classifier
from lib.apply.copies import Copies
from lib.apply.pictures import ACCEPTED, UNREAD, UNSURE, Answer
from lib.apply.seen import Seen
from lib.data import file_listing
from lib.data.file_listing import ListedFile
from lib.errors import DarkroomError

_BATCH, _AHEAD = 64, 3  # pictures answered together, and how many such batches are decoded ahead
_THREADS = 4


Answers = Callable[
    [Classifier, Path, Sequence[ListedFile], float | None], Iterator[tuple[ListedFile, Answer]]
]
"""Whoever answers for the files of a folder: classifier, folder, files and threshold in, (file,
answer) out, in their order.
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a folder; `seen` keeps the counts and the few pictures that the page shows."""

    folder: Path
    classifier: Classifier
    wished: float
    threshold: float | None
    seen: Seen
    seconds: float
    copied_to: Path | None = None

    @property
    def numbers(self) -> dict[str, Any]:
        """Plain numbers for `result.json`."""
        told = {
            name.replace(" ", "_"): self.seen.verdicts[name] for name in (ACCEPTED, UNSURE, UNREAD)
        }
        return {
            "pictures": self.seen.num,
            **told,
            "wished_accuracy": self.wished,
            "threshold": self.threshold,
            "temperature": self.classifier.temperature,
            "seconds": round(self.seconds, 2),
        }

    def _num_validation(self) -> str:
        return f" with {len(self.classifier.known.split('val')):,} validation images"

    @property
    def sentence(self) -> str:
        """What was done, in words."""
        verdicts, wished = self.seen.verdicts, f"{100 * self.wished:g} % accuracy"
        told = (
            f"{self.classifier.name} looked at {self.seen.num:,} files: {verdicts[ACCEPTED]:,} "
            "accepted, "
            f"{verdicts[UNSURE]:,} to look at, {verdicts[UNREAD]:,} not read. "
        )
        if self.threshold is None:
            num = "" if self.classifier.known is None else self._num_validation()
            return told + f"{wished} cannot be promised{num}, so nothing was accepted."
        told += (
            f"Accepted is a probability of {self.threshold:.3f} or more, which promises {wished} "
            "with 95 % confidence"
        )
        tested = self.classifier.tested(self.threshold)
        if tested is None:
            return told + "."
        if not tested["coverage"]:
            return told + "; no test image was that sure."
        sure, right = (f"{100 * tested[name]:.1f} %" for name in ("coverage", "accuracy"))
        return (
            told
            + f"; of the run's own test images {sure} were that sure, and {right} of these right."
        )


def where(pictures: str) -> Path:
    """Returns the folder that `pictures` means: a path, or the raw files of the data set of that
    name.
    """
    place = paths.typed(pictures)
    if place.is_dir() or any(sign in pictures for sign in "/\\~."):
        return place
    from lib.data import sources

    return sources.bring(pictures).raw


def check(
    classifier: Classifier,
    folder: Path,
    *,
    accuracy: float,
    copy_to: Path | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Raises DarkroomError for a wish that `apply` would refuse, without writing anything."""
    classifier.threshold(accuracy)
    _files(paths.typed(folder), 1)
    Copies(copy_to, folder, classes, classifier.class_names)


def apply(
    classifier: Classifier,
    folder: Path,
    out: Path,
    *,
    accuracy: float = 0.95,
    copy_to: Path | None = None,
    classes: Sequence[str] = (),
    limit: int = 0,
    progress: Callable[[int, int], None] | None = None,
    answers: Answers | None = None,
) -> Outcome:
    """Labels every file below `folder`, writes the tables into `out` and returns what came of it;
    see `page` for the report.

    Args:
        classifier: what to apply, see `classifier.load`.
        folder: any folder of pictures, with or without folders inside; links out of it are not
            followed. out: where `labels.csv` and `labels.parquet` go; both are there only when all
            is done. accuracy: the accuracy that accepted pictures are wished to have, above 0 and
            at most 1. copy_to: a folder, new or empty, outside `folder`, that accepted pictures are
            copied to, one folder a class. classes: only accepted pictures of these classes are
            copied; none means all. limit: look at so many files at most, spread evenly over the
            folder; 0 for all. progress: called with (files done, files in all). answers: who
            computes; None does it here.

    Raises:
        DarkroomError: `folder` is none or holds no file, `copy_to` is not fit, `classes` names an
            unknown class.
    """
    folder, began = paths.typed(folder), time.monotonic()
    threshold = classifier.threshold(accuracy)
    files = _files(folder, limit)
    seen = Seen(classifier.class_names)
    copying = Copies(copy_to, folder, classes, classifier.class_names)
    with copying as copies, tables.Labels(out, classifier.class_names) as labels:
        for found, answer in (answers or answer_all)(classifier, folder, files, threshold):
            labels.add(found.path, answer)
            seen.add(found.path, answer)
            copies.add(found.path, answer)
            if progress is not None and (seen.num % _BATCH == 0 or seen.num == len(files)):
                progress(seen.num, len(files))
    seconds = time.monotonic() - began
    return Outcome(
        folder, classifier, accuracy, threshold, seen, seconds, Path(copy_to) if copy_to else None
    )


def _files(folder: Path, limit: int) -> list[ListedFile]:
    if not folder.is_dir():
        raise DarkroomError(
            f"There is no folder {str(folder)!r}; give the folder that holds the new pictures."
        )
    files = file_listing.files(folder)
    if not files:
        raise DarkroomError(f"The folder {str(folder)!r} holds no files.")
    if limit and limit < len(files):
        files = [
            files[place] for place in np.unique(np.linspace(0, len(files) - 1, limit).astype(int))
        ]
    return files


def answer_all(
    classifier: Classifier, folder: Path, files: Sequence[ListedFile], threshold: float | None
) -> Iterator[tuple[ListedFile, Answer]]:
    """Yields every file with its answer, in order; only a few batches of pictures are in memory at
    any time.
    """
    for batch, read in _read_ahead(classifier, folder, files):
        pixels = [each for each in read if isinstance(each, np.ndarray)]
        rows = iter(classifier.probabilities(np.stack(pixels)) if pixels else ())
        for found, each in zip(batch, read, strict=True):
            is_read = isinstance(each, np.ndarray)
            yield (
                found,
                pictures.answer(classifier, next(rows), threshold)
                if is_read
                else Answer(UNREAD, problem=each),
            )


def _read_ahead(
    classifier: Classifier, folder: Path, files: Sequence[ListedFile]
) -> Iterator[tuple[Sequence[ListedFile], list[np.ndarray | str]]]:
    """Yields batches of files with their pixels (or problems); only a few batches are in memory at
    any time.
    """

    def read(found: ListedFile) -> np.ndarray | str:
        if found.problem is not None:
            return f"{found.problem}: {found.detail}" if found.detail else found.problem
        return pictures.read_picture(folder / found.path, classifier)

    waiting: deque[tuple[Sequence[ListedFile], list[Future]]] = deque()
    with ThreadPoolExecutor(
        _THREADS
    ) as pool:  # decoders and resizing run without the interpreter's lock
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            waiting.append((batch, [pool.submit(read, found) for found in batch]))
            if len(waiting) == _AHEAD:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        for batch, futures in waiting:
            yield batch, [future.result() for future in futures]
