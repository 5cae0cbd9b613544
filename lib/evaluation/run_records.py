"""One finished run as the comparison sees it: its arm and seed, its prediction table, and what it
says of itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lib.errors import DarkroomError
from lib.evaluation import predictions as tables
from lib.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Unit:
    """One finished run: its arm and seed, its predictions, its history and what it says of itself."""

    folder: Path
    arm: str
    seed: int
    predictions: Predictions
    result: dict[str, Any] = field(default_factory=dict)
    history: pd.DataFrame | None = None

    def about(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files (`environment`, `parameters`), or {} where it has none."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read(folder: Path) -> Unit:
    """One finished run's folder as a unit. Raises DarkroomError where it has not finished."""
    path = folder / "result.json"
    if not path.is_file():
        raise DarkroomError(f"The run {folder} has not finished: it has no result.json.")
    result = json.loads(path.read_text(encoding="utf-8"))
    arm = result.get("arm") or folder.name.rsplit("-s", 1)[0]
    history = folder / "history.csv"
    return Unit(
        folder=folder,
        arm=arm,
        seed=int(result.get("seed") or 0),
        predictions=tables.read(folder / "predictions.parquet"),
        result=result,
        history=pd.read_csv(history) if history.is_file() else None,
    )
