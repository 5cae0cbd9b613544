"""Applies a model to a folder in constant memory: `labels.csv`, `labels.parquet` and a summary.

Files that cannot be read are rows of the tables and stop nothing. The folder is only read.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import heapq
import itertools
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files, hashing, paths, processes
from lib.apply import classifier as models
from lib.apply.classifier import ACCEPTED, SEPARATOR, UNREAD, UNSURE, Answer, Classifier
from lib.data import file_listing
from lib.data.file_listing import ListedFile
from lib.errors import DarkroomError, suggest
from lib.evaluation.predictions import probability_columns
from lib.processes import PATIENCE_S, Lost

if TYPE_CHECKING:
    from lib.batch.executor import Executor

COLUMNS = ("path", "label", "probability", "verdict", "problem")
_ROWS = 8192  # of a Parquet row group, which is held in memory
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell
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
        self._heap: list[tuple[float, str, str]] = []

    @property
    def unsure(self) -> list[tuple[float, str, str]]:
        """The 36 least certain images, least certain first: (confidence, path, label)."""
        return sorted((-negative, path, label) for negative, path, label in self._heap)

    @property
    def table(self) -> pd.DataFrame:
        """One row a class, most images first: accepted ones, and ones to look at."""
        table = pd.DataFrame(self.by_class).T.rename_axis("class")
        return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    def add(self, path: str, answer: Answer) -> None:
        """Counts one answer; a multilabel image counts for each of its labels."""
        self.num += 1
        self.verdicts[answer.verdict] += 1
        if answer.verdict == UNREAD:
            if len(self.unread) < _MAX_UNREAD:
                self.unread.append((path, answer.problem or ""))
            return
        labels = [answer.label] if answer.label in self.by_class else answer.label.split(SEPARATOR)
        for label in filter(None, labels):
            self.by_class[label][answer.verdict] += 1
            if answer.verdict == ACCEPTED and len(self.accepted[label]) < _MAX_ACCEPTED:
                self.accepted[label].append((answer.probability, path))
        self.bins[min(int(answer.probability * NUM_BINS), NUM_BINS - 1)] += 1
        if answer.verdict == UNSURE:
            heapq.heappush(self._heap, (-answer.probability, path, answer.label))
            if len(self._heap) > _MAX_UNSURE:
                heapq.heappop(self._heap)  # the most certain of them


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
        verdicts = {
            name.replace(" ", "_"): self.summary.verdicts[name]
            for name in (ACCEPTED, UNSURE, UNREAD)
        }
        return {
            "pictures": self.summary.num,
            **verdicts,
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
    if executor is None:
        answers = answer_files(classifier, folder, listed, threshold)
    else:
        answers = _answer_by(executor, classifier, folder, listed, threshold, model, part_size)
    copying = Copies(copy_to, folder, classes, classifier.class_names)
    with copying as copies, Labels(out, classifier.class_names) as labels:
        for file, answer in zip(listed, answers, strict=True):
            labels.add(file.path, answer)
            summary.add(file.path, answer)
            copies.add(file.path, answer)
            is_last = summary.num == len(listed)
            if progress is not None and (summary.num % _BATCH == 0 or is_last):
                progress(summary.num, len(listed))
    seconds = time.monotonic() - began
    copied_to = Path(copy_to) if copy_to else None
    return Outcome(folder, classifier, accuracy, threshold, summary, seconds, copied_to)


def answer_files(
    classifier: Classifier, folder: Path, listed: Sequence[ListedFile], threshold: float | None
) -> Iterator[Answer]:
    """Yields the answer for every file, in order; a few batches of images are in memory.

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
        while batch := list(itertools.islice(images, _BATCH)):
            read = [f"crashed: {one.why}" if isinstance(one, Lost) else one for one in batch]
            yield from models.answer_images(classifier, read, threshold)


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
    answers = list(answer_files(classifier, Path(folder), listed, None))
    names = classifier.class_names
    values = {
        column: np.float32([answer.probabilities.get(name, np.nan) for answer in answers])
        for name, column in zip(names, probability_columns(names), strict=True)
    }
    problems = pd.array([answer.problem for answer in answers], dtype="string")
    return pd.DataFrame({**values, "problem": problems})


def _answer_by(
    executor: Executor,
    classifier: Classifier,
    folder: Path,
    listed: Sequence[ListedFile],
    threshold: float | None,
    model: str,
    part_size: int,
) -> Iterator[Answer]:
    """Answers in parts on an executor; finished parts stay on disk until all are done."""
    store = paths.logs() / ".parts" / hashing.digest(model, str(folder.resolve()))
    fields = [[file.path, file.size, file.mtime_ns, file.problem, file.detail] for file in listed]
    parts = [fields[start : start + part_size] for start in range(0, len(fields), part_size)]
    columns = probability_columns(classifier.class_names)
    common = (str(folder.resolve()), model)
    for _, table in executor.map(probability_table, parts, *common, folder=store):
        shares = table[columns].to_numpy(np.float32)
        answers = models.answer_probabilities(classifier, shares, threshold)
        for answer, problem in zip(answers, table["problem"], strict=True):
            yield answer if pd.isna(problem) else Answer(UNREAD, problem=problem)
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


class Labels:
    """Writes `labels.csv` and `labels.parquet`; both appear if the block ends without an error."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder, self.class_names = Path(folder), tuple(class_names)
        self._open = contextlib.ExitStack()
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Labels:
        import pyarrow
        import pyarrow.parquet

        columns = [
            (name, pyarrow.float32() if name == "probability" else pyarrow.string())
            for name in COLUMNS
        ]
        columns += [(name, pyarrow.float32()) for name in probability_columns(self.class_names)]
        self._schema = pyarrow.schema(columns)
        with contextlib.ExitStack() as stack:
            csv_aside = stack.enter_context(files.replacing(self.folder / "labels.csv"))
            parquet_aside = stack.enter_context(files.replacing(self.folder / "labels.parquet"))
            file = stack.enter_context(csv_aside.open("w", encoding="utf-8", newline=""))
            self._csv = csv.writer(file, lineterminator="\n")
            self._parquet = stack.enter_context(
                pyarrow.parquet.ParquetWriter(parquet_aside, self._schema)
            )
            self._csv.writerow(COLUMNS)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._open.__exit__(*error)

    def add(self, path: str, answer: Answer) -> None:
        """Adds one row."""
        score = "" if answer.probability is None else f"{answer.probability:.4f}"
        label, problem = answer.label or "", answer.problem or ""
        self._csv.writerow([_text(path), _text(label), score, answer.verdict, _text(problem)])
        fields = {name: getattr(answer, name) for name in COLUMNS[1:]}
        columns = zip(probability_columns(self.class_names), self.class_names, strict=True)
        shares = {column: answer.probabilities.get(name) for column, name in columns}
        self._rows.append({"path": path, **fields, **shares})
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._parquet.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def _text(cell: str) -> str:
    """The cell with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


class Copies:
    """Copies accepted pictures to `<target>/<class>/<path below the source>`.

    The target appears if the block ends without an error; without a target nothing is copied. A
    picture keeps its whole path, so that equal names never collide.
    """

    def __init__(
        self, target: Path | None, source: Path, classes: Sequence[str], class_names: Sequence[str]
    ) -> None:
        unknown = [name for name in classes if name not in class_names]
        if unknown:
            raise DarkroomError(
                f"The model has no class {unknown[0]!r}; it has {', '.join(class_names)}."
                f"{suggest(unknown[0], tuple(class_names))}"
            )
        if classes and target is None:
            raise DarkroomError(
                "`classes` selects the pictures to copy and needs `copy_to` (--copy). "
                "Received: no folder."
            )
        self.target = None if target is None else _checked(paths.typed(target), Path(source))
        self.source, self.wanted = Path(source), frozenset(classes or class_names)
        self.folders = {name: folder_name(name, class_names) for name in class_names}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Copies:
        if self.target is not None:
            self._aside = self._open.enter_context(files.directory(self.target))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)

    def add(self, path: str, answer: Answer) -> None:
        """Copies an accepted picture into the folder of each of its classes that is wanted."""
        if self.target is None or answer.verdict != ACCEPTED:
            return
        labels = [answer.label] if answer.label in self.folders else answer.label.split(SEPARATOR)
        for label in self.wanted.intersection(labels):
            copy = self._aside / self.folders[label] / path
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.source / path, copy)
            except OSError as error:
                raise DarkroomError(
                    f"{path} could not be copied to {self.target} ({error.strerror or error}); no "
                    "copies were kept."
                ) from error


def folder_name(class_name: str, class_names: Sequence[str]) -> str:
    """Returns a class's name as a folder name on any system, unique among the classes."""
    plain = _plain(class_name)
    twins = [name for name in class_names if _plain(name).casefold() == plain.casefold()]
    return plain if len(twins) < 2 else f"{plain} {twins.index(class_name) + 1}"


def _plain(name: str) -> str:
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip(". ") or "_"


def _checked(target: Path, source: Path) -> Path:
    inner, outer = target.resolve(), source.resolve()
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
