"""Writers of `labels.csv` and `labels.parquet`, and of copies of accepted pictures."""

from __future__ import annotations

import contextlib
import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib import files, paths
from lib.apply.classifier import ACCEPTED, SEPARATOR, Answer
from lib.errors import DarkroomError, suggest
from lib.evaluation.predictions import probability_columns

COLUMNS = ("path", "label", "probability", "verdict", "problem")
_ROWS = 8192  # of a Parquet row group, which is held in memory
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell


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
