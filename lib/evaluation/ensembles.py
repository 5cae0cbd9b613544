"""Ensembles as rows of a comparison: the stored probabilities of finished runs, averaged image by
image. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lib.errors import DarkroomError, suggest
from lib.evaluation.predictions import probability_columns
from lib.evaluation.run_records import RunRecord


def of_runs(runs: Sequence[RunRecord], ensembles: Mapping[str, Sequence[str]]) -> list[RunRecord]:
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
            if arm not in by_arm:
                raise DarkroomError(
                    f"The ensemble {name!r} names {arm!r}, which is no arm among the finished "
                    f"runs: {', '.join(sorted(by_arm))}.{suggest(arm, list(by_arm))}"
                )
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
