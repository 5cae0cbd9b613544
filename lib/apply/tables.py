"""The answers as two tables that grow on disk and not in memory: CSV for people, Parquet with every
class's probability.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib import files
from lib.apply.pictures import Answer
from lib.evaluation.predictions import probability_columns

COLUMNS = ("path", "label", "probability", "verdict", "problem")
_ROWS = 8192  # rows of a Parquet row group: what is held back before it is written


class Labels:
    """Writes `labels.csv` and `labels.parquet`; both appear when the block ends well, and neither
    when it does not.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder, self.class_names = Path(folder), tuple(class_names)
        self._open = contextlib.ExitStack()
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Labels:
        import pyarrow
        import pyarrow.parquet

        told = [
            (name, pyarrow.float32() if name == "probability" else pyarrow.string())
            for name in COLUMNS
        ]
        named = [(name, pyarrow.float32()) for name in probability_columns(self.class_names)]
        self._schema = pyarrow.schema([*told, *named])
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
        sure = "" if answer.probability is None else f"{answer.probability:.4f}"
        self._csv.writerow([path, answer.label or "", sure, answer.verdict, answer.problem or ""])
        told = {name: getattr(answer, name) for name in COLUMNS[1:]}
        columns = zip(probability_columns(self.class_names), self.class_names, strict=True)
        named = {column: answer.probabilities.get(name) for column, name in columns}
        self._rows.append({"path": path, **told, **named})
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._parquet.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []
