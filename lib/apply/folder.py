"""Applies a model to a folder in constant memory: `labels.csv`, `labels.parquet` and a summary.

Files that cannot be read are rows of the tables and stop nothing. The folder is only read.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files, hashing, paths, processes
from lib.apply import classifier as models
from lib.apply.classifier import ACCEPTED, SEPARATOR, UNREAD, UNSURE, Classifier
from lib.data import file_listing
from lib.data.file_listing import ListedFile
from lib.errors import DarkroomError, check_choice
from lib.evaluation.predictions import probability_columns
from lib.processes import PATIENCE_S, Lost

if TYPE_CHECKING:
    from lib.batch.dask_executor import Executor

COLUMNS = ("path", "label", "probability", "verdict", "problem")
_ROWS = 8192  # of a Parquet row group, which is held in memory
NUM_BINS = 20
PART_SIZE = 2000
"""Files in one part of an executor."""
_BATCH, _AHEAD = 64, 3  # images answered together, and batches decoded ahead
_WORKERS = 4  # processes that decode
_MAX_ACCEPTED, _MAX_UNSURE, _MAX_UNREAD = 8, 36, 200  # examples: of a class, of all, of all


class Summary:
    """Counts by verdict and class, a histogram of confidence, and a few examples of each.

    `accepted` holds the first eight images of a class as (confidence, path); `unread` the first 200
    as (path, problem). `bins` is int64 (20,) over confidences of 0 to 1.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.num = 0
        self.verdicts: Counter[str] = Counter({ACCEPTED: 0, UNSURE: 0, UNREAD: 0})
        self.by_class = {name: Counter({ACCEPTED: 0, UNSURE: 0}) for name in class_names}
        self.accepted: dict[str, list[tuple[float, str]]] = {name: [] for name in class_names}
        self.unread: list[tuple[str, str]] = []
        self.bins = np.zeros(NUM_BINS, dtype=np.int64)
        self._unsure = pd.DataFrame(columns=["probability", "path", "label"])

    @property
    def unsure(self) -> list[tuple[float, str, str]]:
        """The 36 least certain images, least certain first: (confidence, path, label)."""
        return list(self._unsure.itertuples(index=False, name=None))

    @property
    def table(self) -> pd.DataFrame:
        """One row a class, most images first: accepted ones, and ones to look at."""
        table = pd.DataFrame(self.by_class).T.rename_axis("class")
        return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    def add(self, answers: pd.DataFrame) -> None:
        """Counts answers; a multilabel image counts for each of its labels."""
        answers = answers[list(COLUMNS)]  # without the many probabilities
        self.num += len(answers)
        self.verdicts.update(answers["verdict"])
        unread = answers["verdict"] == UNREAD
        problems = zip(answers["path"][unread], answers["problem"][unread], strict=True)
        self.unread = [*self.unread, *problems][:_MAX_UNREAD]
        for row in answers[~unread].itertuples():
            for label in labels_of(row.label, self.by_class):
                self.by_class[label][row.verdict] += 1
                if row.verdict == ACCEPTED and len(self.accepted[label]) < _MAX_ACCEPTED:
                    self.accepted[label].append((row.probability, row.path))
        self.bins += np.histogram(answers["probability"][~unread].clip(0, 1), NUM_BINS, (0, 1))[0]
        unsure = answers.loc[answers["verdict"] == UNSURE, list(self._unsure)]
        both = pd.concat([self._unsure, unsure]) if len(self._unsure) else unsure
        self._unsure = both.sort_values(["probability", "path"]).head(_MAX_UNSURE)


def labels_of(label: str, class_names: Container[str]) -> list[str]:
    """Returns the classes in a label, several of a multilabel image."""
    return [label] if label in class_names else [name for name in label.split(SEPARATOR) if name]


@dataclass(frozen=True)
class Outcome:
    """The result of applying a model to a folder."""

    folder: Path
    classifier: Classifier
    target_accuracy: float
    threshold: float | None
    summary: Summary
    seconds: float
    copied_to: Path | None = None

    @property
    def numbers(self) -> dict[str, Any]:
        """Plain numbers for `result.json`."""
        counted = self.summary.verdicts.items()
        return {
            "pictures": self.summary.num,
            **{verdict.replace(" ", "_"): number for verdict, number in counted},
            "target_accuracy": self.target_accuracy,
            "threshold": self.threshold,
            "temperature": self.classifier.temperature,
            "seconds": round(self.seconds, 2),
        }

    @property
    def sentence(self) -> str:
        """The result in words."""
        verdicts, target = self.summary.verdicts, f"{100 * self.target_accuracy:g} % accuracy"
        text = (
            f"{self.classifier.name} read {self.summary.num:,} files: {verdicts[ACCEPTED]:,} "
            f"accepted, {verdicts[UNSURE]:,} to look at, {verdicts[UNREAD]:,} not read. "
        )
        if self.threshold is None:
            known = self.classifier.known
            num = "" if known is None else f" with {len(known.split('val')):,} validation images"
            return text + f"{target} cannot be promised{num}, so nothing was accepted."
        text += (
            f"Accepted is a probability of {self.threshold:.3f} or more, which promises {target} "
            "with 95 % confidence"
        )
        tested = self.classifier.tested(self.threshold)
        if tested is None:
            return text + "."
        if not tested["coverage"]:
            return text + "; no test image reaches it."
        coverage, accuracy = (f"{100 * tested[name]:.1f} %" for name in ("coverage", "accuracy"))
        return text + f"; on the run's test images coverage {coverage}, accuracy {accuracy}."


def find_folder(pictures: str) -> Path:
    """Returns the folder of pictures: a path, or the raw files of the data set of that name."""
    path = paths.typed(pictures)
    if path.is_dir() or any(sign in pictures for sign in "/\\~."):
        return path
    from lib.data import intake

    return intake.bring(pictures).raw


def check(
    classifier: Classifier,
    folder: Path,
    *,
    accuracy: float,
    copy_to: Path | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Raises DarkroomError for arguments that `apply` would refuse; writes nothing."""
    classifier.threshold(accuracy)
    _list_files(paths.typed(folder), 1)
    _check_copies(copy_to, folder, classes, classifier.class_names)


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
    executor: Executor | None = None,
    model: str = "",
    part_size: int = PART_SIZE,
) -> Outcome:
    """Labels every file below `folder` and writes the tables into `out`.

    Args:
        classifier: the model, see `classifier.load`.
        folder: any folder of pictures; links out of it are not followed.
        out: for `labels.csv` and `labels.parquet`, which appear when all files are done.
        accuracy: the target accuracy of accepted pictures, above 0 and at most 1.
        copy_to: a new or empty folder outside `folder` for copies of accepted pictures, one folder
            a class.
        classes: the classes to copy; all if empty.
        limit: largest number of files, spread evenly over the folder; 0 for all.
        progress: called with (files done, files in all).
        executor: whose workers compute the answers; None computes them here.
        model: the classifier's name as for `classifier.load`, for the executor's workers.
        part_size: files in one part of the executor.

    Raises:
        DarkroomError: `folder` does not exist or is empty, `copy_to` cannot be used, or `classes`
            names an unknown class.
    """
    folder, began = paths.typed(folder), time.monotonic()
    threshold = classifier.threshold(accuracy)
    listed = _list_files(folder, limit)
    summary = Summary(classifier.class_names)
    target = _check_copies(copy_to, folder, classes, classifier.class_names)
    if executor is None:
        tables = answer_files(classifier, folder, listed, threshold)
    else:
        tables = _answer_by(executor, classifier, folder, listed, threshold, model, part_size)
    copying = _copying(target, folder, classifier.class_names, wanted=classes)
    with copying as copy, _writing(out, classifier.class_names) as write:
        for table in tables:
            write(table)
            summary.add(table)
            copy(table)
            if progress is not None:
                progress(summary.num, len(listed))
    seconds = time.monotonic() - began
    return Outcome(folder, classifier, accuracy, threshold, summary, seconds, target)


def answer_files(
    classifier: Classifier, folder: Path, listed: Sequence[ListedFile], threshold: float | None
) -> Iterator[pd.DataFrame]:
    """Yields the answers for the files in order, with their `path`; a few batches of images are in
    memory.

    Files are decoded by worker processes, so that one that kills or hangs its reader is a row, too.
    """
    images = processes.stream(
        read_pictures,
        [(str(folder / file.path), file.problem, file.detail) for file in listed],
        classifier.reading,
        workers=min(_WORKERS, processes.num_cores()),
        patience_s=PATIENCE_S,
        ahead=_AHEAD * _BATCH,
    )
    with contextlib.closing(images):
        for start in range(0, len(listed), _BATCH):
            names = [file.path for file in listed[start : start + _BATCH]]
            batch = itertools.islice(images, len(names))
            read = [f"crashed: {one.why}" if isinstance(one, Lost) else one for one in batch]
            yield classifier.answers(read, threshold).assign(path=names)


def read_pictures(
    files: Sequence[tuple[str, str | None, str]], reading: dict[str, Any]
) -> Iterator[np.ndarray | str]:
    """Yields the pixels of files, or why one cannot be read; runs in a worker."""
    for path, problem, detail in files:
        if problem is not None:
            yield f"{problem}: {detail}" if detail else problem
        else:
            yield models.read_picture(Path(path), **reading)


def probability_table(part: Sequence[Sequence], folder: str, model: str) -> pd.DataFrame:
    """Returns one row a file: calibrated probabilities or a problem; runs on a worker."""
    classifier = _load_cached(model)
    listed = [ListedFile(*fields) for fields in part]
    table = pd.concat(answer_files(classifier, Path(folder), listed, None), ignore_index=True)
    columns = [*probability_columns(classifier.class_names), "problem"]
    return table[columns].astype({"problem": "string"})


def _answer_by(
    executor: Executor,
    classifier: Classifier,
    folder: Path,
    listed: Sequence[ListedFile],
    threshold: float | None,
    model: str,
    part_size: int,
) -> Iterator[pd.DataFrame]:
    """Answers in parts on an executor; finished parts stay on disk until all are done."""
    store = paths.logs() / ".parts" / hashing.digest(model, str(folder.resolve()))
    fields = [[file.path, file.size, file.mtime_ns, file.problem, file.detail] for file in listed]
    parts = [fields[start : start + part_size] for start in range(0, len(fields), part_size)]
    columns = probability_columns(classifier.class_names)
    common = (str(folder.resolve()), model)
    for index, table in executor.map(probability_table, parts, *common, folder=store):
        problems = table["problem"].astype(object).where(table["problem"].notna(), None)
        answers = classifier.judged(table[columns].to_numpy(np.float32), list(problems), threshold)
        yield answers.assign(path=[path for path, *_ in parts[index]])
    shutil.rmtree(store, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def _load_cached(model: str) -> Classifier:
    return models.load(model)


def _list_files(folder: Path, limit: int) -> list[ListedFile]:
    if not folder.is_dir():
        raise DarkroomError(
            f"There is no folder {str(folder)!r}; give the folder of the new pictures."
        )
    listed = file_listing.files(folder)
    if not listed:
        raise DarkroomError(f"The folder {str(folder)!r} has no files.")
    if limit and limit < len(listed):
        rows = np.unique(np.linspace(0, len(listed) - 1, limit).astype(int))
        listed = [listed[row] for row in rows]
    return listed


@contextlib.contextmanager
def _writing(folder: Path, class_names: Sequence[str]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that adds answers to `labels.csv` and `labels.parquet`; both appear if the
    block ends without an error.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    kinds = dict.fromkeys(COLUMNS, pyarrow.string()) | {"probability": pyarrow.float32()}
    kinds |= dict.fromkeys(probability_columns(class_names), pyarrow.float32())
    schema = pyarrow.schema(kinds)
    waiting: list[pd.DataFrame] = []

    def flush() -> None:
        rows = pd.concat(waiting)[list(kinds)]
        parquet.write_table(pyarrow.Table.from_pandas(rows, schema=schema, preserve_index=False))
        waiting.clear()

    def add(table: pd.DataFrame) -> None:
        harmless = files.harmless(table[list(COLUMNS)])
        harmless.to_csv(sheet, header=False, index=False, float_format="%.4f")
        waiting.append(table)
        if sum(map(len, waiting)) >= _ROWS:
            flush()

    with (
        files.replacing(Path(folder) / "labels.csv") as csv_aside,
        files.replacing(Path(folder) / "labels.parquet") as parquet_aside,
        csv_aside.open("w", encoding="utf-8", newline="") as sheet,
        ParquetWriter(parquet_aside, schema) as parquet,
    ):
        sheet.write(",".join(COLUMNS) + "\n")
        yield add
        if waiting:
            flush()


@contextlib.contextmanager
def _copying(
    target: Path | None, source: Path, class_names: Sequence[str], *, wanted: Sequence[str]
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that copies accepted pictures to `<target>/<class>/<path below source>`.

    The target appears if the block ends without an error; without a target nothing is copied. A
    picture keeps its whole path, so that equal names never collide.
    """
    if target is None:
        yield lambda table: None
        return
    folders = files.folder_names(class_names)
    with files.directory(target) as aside:

        def copy(table: pd.DataFrame) -> None:
            for row in table.loc[table["verdict"] == ACCEPTED, list(COLUMNS)].itertuples():
                for label in set(wanted or class_names).intersection(labels_of(row.label, folders)):
                    place = aside / folders[label] / row.path
                    try:
                        place.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(source / row.path, place)
                    except OSError as error:
                        raise DarkroomError(
                            f"{row.path} could not be copied to {target} "
                            f"({error.strerror or error}); no copies were kept."
                        ) from error

        yield copy


def _check_copies(
    target: Path | None, source: Path, classes: Sequence[str], class_names: Sequence[str]
) -> Path | None:
    """Returns where to copy to; raises DarkroomError for what cannot be."""
    for name in classes:
        check_choice("class", name, class_names, where="the model")
    if classes and target is None:
        raise DarkroomError(
            "`classes` (--only) selects the pictures to copy and needs `copy_to` (--copy). "
            "Received: no folder."
        )
    if target is None:
        return None
    target = paths.typed(target)
    inner, outer = target.resolve(), Path(source).resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise DarkroomError(
            f"Copies must go to a folder outside that of the pictures. Received: {str(target)!r}."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DarkroomError(
            "Copies need a new or empty folder, so that nothing is overwritten. Received: "
            f"{str(target)!r}."
        )
    return inner
