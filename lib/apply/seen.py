"""What is kept of a long walk over pictures: counts, and a few examples, never more of them than a
page shows.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.apply.pictures import ACCEPTED, UNREAD, UNSURE, Answer

NUM_BINS = 20
_OF_A_CLASS, _UNSURE, _UNREAD = 8, 36, 200


class Seen:
    """Counts by verdict and class, a histogram of probabilities, and examples of each.

    `accepted` holds the first eight paths of a class; `unsure` the 36 least sure of all, least sure
    first, as (probability, path, label); `unread` the first 200 as (path, problem). `bins` is int64
    (20,), probabilities of 0 to 1.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.num = 0
        self.verdicts: Counter[str] = Counter({ACCEPTED: 0, UNSURE: 0, UNREAD: 0})
        self.by_class = {name: Counter({ACCEPTED: 0, UNSURE: 0}) for name in class_names}
        self.accepted: dict[str, list[tuple[float, str]]] = {name: [] for name in class_names}
        self.unread: list[tuple[str, str]] = []
        self.bins = np.zeros(NUM_BINS, dtype=np.int64)
        self._heap: list[tuple[float, str, str]] = []

    @property
    def unsure(self) -> list[tuple[float, str, str]]:
        """The least sure pictures, least sure first: (probability, path, label)."""
        return sorted((-negative, path, label) for negative, path, label in self._heap)

    @property
    def table(self) -> pd.DataFrame:
        """One row a class, the fullest first: how many were accepted, and how many are to be looked
        at.
        """
        table = pd.DataFrame(self.by_class).T.rename_axis("class")
        return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    def add(self, path: str, answer: Answer) -> None:
        """Counts one answer."""
        self.num += 1
        self.verdicts[answer.verdict] += 1
        if answer.verdict == UNREAD:
            if len(self.unread) < _UNREAD:
                self.unread.append((path, answer.problem or ""))
            return
        self.by_class[answer.label][answer.verdict] += 1
        self.bins[min(int(answer.probability * NUM_BINS), NUM_BINS - 1)] += 1
        if answer.verdict == ACCEPTED and len(self.accepted[answer.label]) < _OF_A_CLASS:
            self.accepted[answer.label].append((answer.probability, path))
        if answer.verdict == UNSURE:
            heapq.heappush(self._heap, (-answer.probability, path, answer.label))
            if len(self._heap) > _UNSURE:
                heapq.heappop(self._heap)  # the surest of them goes
