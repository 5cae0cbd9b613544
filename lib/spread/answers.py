"""A model on a whole folder of pictures, its parts answered by the workers of an executor."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.apply import classifier as models
from lib.apply import folder as folders
from lib.apply import pictures
from lib.apply.classifier import Classifier
from lib.apply.folder import Answers
from lib.apply.pictures import UNREAD, Answer
from lib.batch.executor import PART_SIZE, Executor, split_parts
from lib.data.file_listing import ListedFile
from lib.evaluation.predictions import probability_columns


def by(executor: Executor, model: str, *, kept: Path, size: int = PART_SIZE) -> Answers:
    """Returns who answers in place of this process, for `apply.folder.apply`; `model` as for
    `classifier.load`.

    The answers of finished parts lie in the folder `kept` until all are there.
    """

    def answers(
        classifier: Classifier, folder: Path, files: Sequence[ListedFile], threshold: float | None
    ) -> Iterator[tuple[ListedFile, Answer]]:
        parts = split_parts(
            [[each.path, each.size, each.mtime_ns, each.problem, each.detail] for each in files],
            size=size,
        )
        columns = probability_columns(classifier.class_names)
        for index, table in executor.map(
            probabilities, parts, str(folder.resolve()), model, folder=kept
        ):
            values = table[columns].to_numpy(np.float32)
            for place, problem in enumerate(table["problem"]):
                known = pd.isna(problem)
                told = (
                    pictures.answer(classifier, values[place], threshold)
                    if known
                    else Answer(UNREAD, problem=problem)
                )
                yield files[index * size + place], told
        shutil.rmtree(kept, ignore_errors=True)

    return answers


def probabilities(part: Sequence[Sequence], folder: str, model: str) -> pd.DataFrame:
    """Returns one row a file: its calibrated probabilities, or the problem that it has; runs on a
    worker.
    """
    classifier = _loaded(model)
    files = [
        ListedFile(path, size, mtime_ns, problem, detail)
        for path, size, mtime_ns, problem, detail in part
    ]
    told = [answer for _, answer in folders.answer_all(classifier, Path(folder), files, None)]
    names = dict(
        zip(classifier.class_names, probability_columns(classifier.class_names), strict=True)
    )
    values = {
        column: np.float32([each.probabilities.get(name, np.nan) for each in told])
        for name, column in names.items()
    }
    return pd.DataFrame(
        {**values, "problem": pd.array([each.problem for each in told], dtype="string")}
    )


@functools.lru_cache(maxsize=1)
def _loaded(model: str) -> Classifier:
    return models.load(model)
