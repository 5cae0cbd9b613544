"""The smallest difference that a study can show, said before it runs, beside its cost."""

from __future__ import annotations

from collections.abc import Sequence

from lib.batch.parameter_grid import RunSpec
from lib.batch.study import Study
from lib.data import dataset
from lib.errors import DarkroomError
from lib.evaluation import design

_TRAINING = ("3_train", "5_thumbnails")
_ASSUMED_IMAGES = 2_000
"""Of a data set that has not been read yet."""


def smallest_differences(study: Study) -> list[str]:
    """One sentence for every stage that trains two arms or more."""
    sentences = []
    for stage in study.stages:
        arms = sorted({run.arm for run in stage.units if run.arm})
        if stage.notebook.name not in _TRAINING or len(arms) < 2:
            continue
        sentence = _of_stage(study, stage.units, arms)
        sentences.append(f"{stage.name}: {sentence}")
    return sentences


def _of_stage(study: Study, runs: Sequence[RunSpec], arms: Sequence[str]) -> str:
    counted = _num_images(str(runs[0].parameters.get("data", study.data)))
    images = counted or _ASSUMED_IMAGES
    numbers = [[run for run in runs if run.arm == arm] for arm in arms]
    splits = {run.parameters.get("split_seed") for run in numbers[0]}
    shares = runs[0].parameters.get("fractions", [0.6, 0.15, 0.25])
    baselines = _baselines(study)
    found = design.before(
        num_arms=len(arms),
        num_runs=min(len(of_arm) for of_arm in numbers),
        num_test=max(1, round(shares[2] * images)),
        num_train=max(1, round(shares[0] * images)),
        is_splits=len(splits) > 1,
        num_pairs=len(arms) - 1 if baselines & set(arms) else None,
    )
    if counted is None:
        return f"If the data set has {_ASSUMED_IMAGES:,} images: {found.sentence}"
    return found.sentence


def _baselines(study: Study) -> set[str]:
    return {
        str(run.parameters.get("baseline"))
        for stage in study.stages
        if stage.notebook.name == "6_compare"
        for run in stage.units
        if run.parameters.get("baseline")
    }


def _num_images(name: str) -> int | None:
    if name not in dataset.names():
        return None
    try:
        return len(dataset.load(name).accepted())
    except DarkroomError:  # not cleaned yet
        return None
