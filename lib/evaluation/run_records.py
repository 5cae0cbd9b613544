"""Finished runs as the comparison reads them: arm, seed, prediction table, result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import files
from lib.evaluation import predictions as tables
from lib.evaluation.predictions import Predictions
from lib.runs import record

_SAME = 5e-5


@dataclass(frozen=True)
class RunRecord:
    """One finished run: its arm and seed, its predictions, its history and its result.

    `title` is what its study calls the arm for people, "" where it gives no title. An ensemble has
    the folder and seed of the first run that it averages.
    """

    folder: Path
    arm: str
    seed: int
    predictions: Predictions
    result: dict[str, Any] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    title: str = ""
    is_ensemble: bool = False

    @cached_property
    def table_digest(self) -> str:
        """The SHA-256 of the paths and probabilities of the test images."""
        part = self.predictions.split("test")
        marks = hashlib.sha256("\0".join(part.frame["path"]).encode())
        marks.update(np.ascontiguousarray(part.probabilities).tobytes())
        return marks.hexdigest()

    def predicts_as(self, other: RunRecord) -> bool:
        """Whether both give the same test images the same probabilities, to four decimals."""
        one, two = (run.predictions.split("test") for run in (self, other))
        if not np.array_equal(one.frame["path"], two.frame["path"]):
            return False
        return all(  # the first images settle most cases
            one.probabilities.shape == two.probabilities.shape
            and np.abs(one.probabilities[rows] - two.probabilities[rows]).max() < _SAME
            for rows in (slice(50), slice(None))
        )

    def about(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files (`environment`, `parameters`), or {} where it has none."""
        if name == "parameters":
            return record.parameters(self.folder)
        return files.read_json(self.folder / f"{name}.json") or {}


def read(folder: Path) -> RunRecord:
    """The record of a finished run's folder.

    Raises:
        DarkroomError: the run has not finished, or its predictions are not those it finished with.
    """
    result = record.read(folder)
    arm = result.get("arm") or folder.name.rsplit("-s", 1)[0]
    file = folder / record.HISTORY
    history = epochs(pd.read_csv(file)) if file.is_file() else None
    return RunRecord(
        folder=folder,
        arm=arm,
        seed=int(result.get("seed") or 0),
        predictions=tables.read(folder / record.PREDICTIONS),
        result=result,
        history=None if history is None or history.empty else history,
        title=_title(folder, arm),
    )


def _title(folder: Path, arm: str) -> str:
    if len(folder.parts) < 3:
        return ""
    titles = (files.read_json(folder.parents[1] / record.STUDY) or {}).get("titles")
    title = titles.get(arm) if isinstance(titles, dict) else None
    return title if isinstance(title, str) else ""


def epochs(history: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of a history that are epochs, counted from 1.

    The candidates of a linear head, which have a `kind`, come before them; the row of a linear
    head on fine-tuned features comes last (in older runs, that of the mean of two states).
    """
    if "phase" in history:
        history = history[~history["phase"].isin(["linear", "mean"])]
    if "kind" not in history:
        return history
    rows = history[history["kind"].isna()]
    return rows.assign(epoch=rows["epoch"] - (len(history) - len(rows))).reset_index(drop=True)
