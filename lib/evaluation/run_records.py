"""Finished runs: what every kind of model writes into `result.json`, and how they are compared.

An ensemble of runs is the average of their stored probabilities, image by image; nothing is
trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import files
from lib.data.splits import Split
from lib.errors import DarkroomError, check_choice
from lib.evaluation import calibration, metrics, statistics, test_set_log
from lib.evaluation import predictions as tables
from lib.evaluation.predictions import Predictions, probability_columns
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


def averaged(runs: Sequence[RunRecord], ensembles: Mapping[str, Sequence[str]]) -> list[RunRecord]:
    """The records of ensembles, each named with its arms: of several arms one record a seed that
    all of them have, of one arm one record a split, the average of its seeds there.

    Raises:
        DarkroomError: an arm that is not there, a name that an arm bears, arms without a common
            seed, one arm with one training a split, or runs of one seed whose images or classes
            differ.
    """
    by_arm: dict[str, dict[int, RunRecord]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, {})[run.seed] = run
    records = []
    for name, arms in ensembles.items():
        for arm in arms:
            check_choice("arm", arm, sorted(by_arm), where=f"ensemble {name!r}")
        if name in by_arm:
            raise DarkroomError(f"{name!r} is an arm; give the ensemble another name.")
        members = [by_arm[arm] for arm in arms]
        if len(arms) == 1:
            groups = _by_split(list(members[0].values()))
        else:
            seeds = sorted(set.intersection(*map(set, members)))
            groups = [[by_seed[seed] for by_seed in members] for seed in seeds]
        if not groups or min(map(len, groups)) < 2:
            what = "have no seed in common" if len(arms) > 1 else "has one training a split"
            raise DarkroomError(
                f"The ensemble {name!r} has nothing to average: {', '.join(arms)} {what}."
            )
        records += [_average(name, group) for group in groups]
    return records


def _by_split(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(tuple(run.predictions.split("test").frame["path"]), []).append(run)
    return list(groups.values())


def _average(name: str, runs: Sequence[RunRecord]) -> RunRecord:
    first, tables = runs[0], [run.predictions for run in runs]
    for run, table in zip(runs, tables, strict=True):
        columns, other = ["path", "split"], first.predictions
        is_alike = (table.kind, table.class_names) == (other.kind, other.class_names)
        if (
            not is_alike
            or not table.frame[columns].equals(other.frame[columns])
            or not np.array_equal(table.truths, other.truths)
        ):
            raise DarkroomError(
                f"The ensemble {name!r} cannot average {first.folder} and {run.folder}: their "
                "images, labels or classes differ. Train both on the same data and split."
            )
    if first.predictions.kind == "score":
        raise DarkroomError(
            f"The ensemble {name!r} averages probabilities, which {first.folder} does not state."
        )
    mean = np.mean([table.probabilities for table in tables], axis=0)
    frame = tables[0].frame.copy()
    frame[probability_columns(tables[0].class_names)] = mean
    known = {name: first.result[name] for name in ("data", "split", "key") if name in first.result}
    for cost in ("seconds", "num_parameters"):
        values = [run.result.get(cost) for run in runs]
        known[cost] = None if None in values else sum(values)
    predictions = replace(tables[0], frame=frame, run=name, evaluated={})
    return replace(
        first,
        arm=name,
        title="",
        predictions=predictions,
        result=known,
        history=None,
        is_ensemble=True,
    )


def summary(scored: Predictions, split: Split, *, dataset_folder: Path) -> dict[str, Any]:
    """Returns metrics, split and calibration of a model whose predictions are `scored`.

    Metrics of the test split bear their plain names (`accuracy`, `kappa_low`), those of the others
    a prefix (`val_accuracy`).
    """
    numbers: dict[str, Any] = dict(statistics.headline(scored, "test"))
    for name in ("train", "val"):
        numbers |= {f"{name}_{key}": value for key, value in metrics.summary(scored, name).items()}
    advice = calibration.advice(scored)
    return {
        "metrics": numbers,
        "class_names": split.class_names,
        "split": split.id,
        "split_method": split.method,
        "split_counts": json.loads(split.counts().to_json()),
        "target": split.target,
        "data_hash": split.data_hash(),
        "calibration": advice,
        "temperature": advice["temperature"],
        "test_openings": test_set_log.count(dataset_folder, split.id),
    }
