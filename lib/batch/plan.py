"""The plan of a study: which runs have finished with their present key, why the others must run,
and what they need of disk and time.

A stage can be judged only when those before it have ended, since cleaning decides the data that
training's key is made of.

`logs/.durations.json` holds the last durations of each kind of run. Runs are of one kind when their
notebook and their parameters are the same but for arm, study and seeds. For a kind that has never
run here, `rough` goes by the number of images and epochs, and by what those cost on two cores.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import files, hashing, paths, runs, schema
from lib.batch.parameter_grid import RunSpec
from lib.batch.study import Stage, Study
from lib.errors import DarkroomError
from lib.runs import record

if TYPE_CHECKING:
    from lib.data.dataset import Dataset


OLDER_CODE = "finished with older code; `--force` to repeat"
"""The reason of a finished run since which code has changed, none of which decides its numbers."""
CHANGED = "changed: "
"""Begins the reason of a run that has finished with another key."""


@dataclass(frozen=True)
class Step:
    """The verdict on one run: `action` is `skip`, `run` or `wait` (for a stage before it), `reason`
    says why.
    """

    run: RunSpec
    action: str
    reason: str
    key: dict[str, Any] | None = None

    def folder(self) -> Path:
        """Returns the run's folder."""
        return paths.run(self.run.parameters["study"], self.run.stage, self.run.name)


def whole(
    study: Study, *, force: bool = False, absent: Mapping[str, str] | None = None
) -> list[Step]:
    """Returns a verdict on every run of a study, in order. Nothing is started or written.

    `absent` names data sets that are not here, with the reason to give for the runs that need them.
    """
    steps: list[Step] = []
    waiting: set[str] = set()
    for stage in study.stages:
        if blocked := [name for name in stage.after if name in waiting]:
            decided = [Step(run, "wait", f"after {blocked[0]}") for run in stage.runs]
        elif reason := _needs_absent(stage, absent or {}):
            decided = [Step(run, "run", reason) for run in stage.runs]
        else:
            decided = decide(stage, force=force)
        if any(step.action != "skip" for step in decided):
            waiting.add(stage.name)
        steps += decided
    return steps


def _needs_absent(stage: Stage, absent: Mapping[str, str]) -> str:
    reasons = [absent.get(run.parameters.get("data"), "") for run in stage.runs]
    return next(filter(None, reasons), "")


def decide(stage: Stage, *, force: bool = False) -> list[Step]:
    """Returns a verdict on every run of a stage whose predecessors have ended.

    Raises DarkroomError when the data that the stage needs cannot be read.
    """
    digests: dict[str | None, str | None] = {}
    steps = []
    for run in stage.runs:
        data = run.parameters.get("data")
        if data not in digests:  # reading the data for each run would take long
            dataset = _dataset(run)
            digests[data] = dataset and runs.data_digest(stage.notebook, dataset)
        known = record.key(Step(run, "wait", "").folder())
        key = runs.key(stage.notebook, run.parameters, data=digests[data], known=known)
        step = Step(run, "run", "forced" if force else "", key)
        if not force:
            reason = _reason(step.folder(), key)
            step = Step(
                run, "run" if reason else "skip", reason or _finished(step.folder(), key), key
            )
        steps.append(step)
    return steps


def counts(steps: Iterable[Step]) -> dict[str, int]:
    """Returns how many runs there are of each action."""
    totals = {"skip": 0, "run": 0, "wait": 0}
    for step in steps:
        totals[step.action] += 1
    return totals


def _dataset(run: RunSpec) -> Dataset | None:
    """The data set of a run, as its notebook hands it to `runs.start`."""
    if "data" not in run.parameters:
        return None
    from lib.cleaning import clean
    from lib.data import dataset

    loaded = dataset.load(run.parameters["data"])
    clean.sync(loaded)  # decisions made in the browser count before anything is judged finished
    return loaded


def _finished(folder: Path, key: dict[str, Any]) -> str:
    known = (record.result(folder) or {}).get("key") or {}
    return OLDER_CODE if runs.is_older(known, key) else "finished"


def _reason(folder: Path, key: dict[str, Any]) -> str:
    """Why a run must be done, or "" when it has finished with a key that decides the
    same numbers.
    """
    if (result := record.result(folder)) is not None:
        changes = runs.changes(result.get("key") or {}, key)
        return f"{CHANGED}{', '.join(changes)}" if changes else ""
    if (folder / record.RESULT).exists():
        return record.damage(folder)
    if (failure := record.failure(folder)) is not None:
        return f"failed before: {failure.get('exception')}"
    if (known := record.key(folder)) is not None:
        has_changed = bool(runs.changes(known, key))
        return "was interrupted, and has changed since" if has_changed else "was interrupted"
    return "new"


BYTES_A_TRAINING, BYTES_A_RUN = 25_000_000, 2_000_000
"""Disk space of a run that trains, its checkpoint included, and of any other (upper estimates)."""
BYTES_ALWAYS = 200_000_000
"""Disk space that is always kept free."""


def check_disk_space(steps: Sequence[Step]) -> None:
    """Raises DarkroomError when the disk of `logs/` cannot hold the runs that are to be done."""
    todo = [step for step in steps if step.action != "skip"]
    number = len(todo)
    if not number:
        return
    folder = paths.root()
    trainings = sum("epochs" in step.run.parameters for step in todo)
    needed = (
        BYTES_ALWAYS
        + trainings * BYTES_A_TRAINING
        + (number - trainings) * BYTES_A_RUN
        + _pixel_bytes(todo)
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DarkroomError(
            f"{number} runs need about {needed / 1e9:.1f} GB in {folder}, but its disk has "
            f"{free / 1e9:.1f} GB free. Make room "
            "(`darkroom prune`), or set DARKROOM_HOME to a folder on another disk."
        )


def _pixel_bytes(steps: Sequence[Step]) -> int:
    """Bytes of the pixel caches: one for each data set and image side."""
    sizes = {
        (step.run.parameters["data"], step.run.parameters["image_side"])
        for step in steps
        if {"data", "image_side"} <= set(step.run.parameters)
    }
    if not sizes:
        return 0
    from lib.data import dataset

    counted = {name: len(dataset.load(name).files()) for name in {name for name, _ in sizes}}
    return sum(counted[name] * side * side * 3 for name, side in sizes)


_TRAINING = ("3_train", "5_thumbnails")
ASSUMED_IMAGES = 2_000
"""Assumed number of images of a data set that has not been read."""
ASSUMED_TINY = 80
"""The same for the sample that a tiny study takes."""


def smallest_differences(study: Study) -> list[str]:
    """One sentence for every stage that trains two arms or more."""
    sentences = []
    for stage in study.stages:
        arms = sorted({run.arm for run in stage.runs if run.arm})
        if stage.notebook.name not in _TRAINING or len(arms) < 2:
            continue
        sentence = _of_stage(study, stage.runs, arms)
        sentences.append(f"{stage.name}: {sentence}")
    return sentences


def _of_stage(study: Study, runs: Sequence[RunSpec], arms: Sequence[str]) -> str:
    from lib.evaluation import design

    counted = num_images(str(runs[0].parameters.get("data", study.data)))
    images = counted or ASSUMED_IMAGES
    numbers = [[run for run in runs if run.arm == arm] for arm in arms]
    splits = {run.parameters.get("split_seed") for run in numbers[0]}
    shares = runs[0].parameters.get("fractions", [0.6, 0.15, 0.25])
    baselines = _baselines(study)
    estimate = design.before(
        num_arms=len(arms),
        num_runs=min(len(of_arm) for of_arm in numbers),
        num_test=max(1, round(shares[2] * images)),
        num_train=max(1, round(shares[0] * images)),
        is_splits=len(splits) > 1,
        num_pairs=len(arms) - 1 if baselines & set(arms) else None,
    )
    if counted is None:
        return f"If the data set has {ASSUMED_IMAGES:,} images: {estimate.sentence}"
    return estimate.sentence


def _baselines(study: Study) -> set[str]:
    return {
        str(run.parameters.get("baseline"))
        for stage in study.stages
        if stage.notebook.name == "6_compare"
        for run in stage.runs
        if run.parameters.get("baseline")
    }


def num_images(name: str) -> int | None:
    """Returns the number of accepted images of a data set, None where it is not here yet."""
    from lib.data import dataset

    if name not in dataset.names():
        return None
    try:
        return len(dataset.load(name).accepted())
    except DarkroomError:  # not cleaned yet
        return None


DURATIONS = ".durations.json"
_KEPT = 5  # durations of each kind
_KINDS = 2000
_NOT_COSTLY = ("study", "arm", "seed", "split_seed", "learning_rate", "patience")


_COUNTED_S = 30.0  # the images of a data set are counted that often
_START_S = 8.0  # to start a notebook, import the libraries and draw its figures
_IMAGE_S = 0.008  # EfficientNet-Lite0 on one image of 128 x 128 pixels
_CNN_S = 0.0035  # one epoch of a custom network on such an image
_BACKWARD = 3.0  # training a network against applying it
_TRIALS = 30  # that a search is taken to have


def rough(run: RunSpec) -> float | None:
    """Returns the seconds of a run by the number of its images and epochs, None for a notebook that
    is none of the suite's.
    """
    values = run.parameters
    of_data = (paths.datasets(), str(values.get("data", "")), int(time.monotonic() / _COUNTED_S))
    images = _images(*of_data) or (ASSUMED_TINY if values.get("tiny") else ASSUMED_IMAGES)
    images *= (values.get("image_side", 128) / 128) ** 2
    training = images * (_epochs(run) or 1) * _CNN_S
    if values.get("architecture", "custom") != "custom":
        is_tuned = values.get("strategy") in ("scratch", "fine_tune", "full")
        epochs = _epochs(run) or 1 if is_tuned else 0
        training = images * _IMAGE_S * (1 + _BACKWARD * epochs)
    work = {
        "clean": 0 if values.get("tiny") else images * _IMAGE_S,
        "explore": 0,
        "train": training,
        "tune": training * (values.get("num_trials") or _TRIALS),
        "thumbnails": images * _CNN_S,
        "compare": 5,
        "explain": 20,
        "features": images * _IMAGE_S,
        "apply": images * _IMAGE_S,
    }
    return _START_S + work[run.stage] if run.stage in work else None


@functools.lru_cache(maxsize=64)
def _images(_datasets: Path, name: str, _period: int) -> int | None:
    return num_images(name)


class Durations:
    """The noted durations, read once."""

    def __init__(self) -> None:
        content = files.read_json(_durations_file())
        self._noted: dict[str, dict[str, Any]] = content if isinstance(content, dict) else {}

    def expected(self, run: RunSpec) -> float | None:
        """Returns the seconds that a run probably takes, or None when none like it has been run.

        A training that differs from a known one in its epochs alone is scaled by them.
        """
        if (known := self._noted.get(_kind_of(run))) is not None:
            return statistics.median(known["seconds"])
        epochs = _epochs(run)
        if epochs is None:
            return None
        family = _kind_of(run, without_epochs=True)
        scaled = [
            statistics.median(known["seconds"]) * epochs / known["epochs"]
            for known in self._noted.values()
            if known.get("family") == family and known.get("epochs")
        ]
        return statistics.median(scaled) if scaled else None

    def note(self, run: RunSpec, seconds: float) -> None:
        """Notes the duration of a run that has finished; a full disk is no reason to stop."""
        kind = _kind_of(run)
        earlier = self._noted.pop(kind, {}).get("seconds", [])
        self._noted[kind] = {
            "family": _kind_of(run, without_epochs=True),
            "epochs": _epochs(run),
            "seconds": [*earlier[1 - _KEPT :], round(seconds, 2)],
        }
        with contextlib.suppress(OSError):
            files.write_json(_durations_file(), dict(list(self._noted.items())[-_KINDS:]))


def _epochs(run: RunSpec) -> int | None:
    """The epochs of a training, by default those of its strategy; None for other runs."""
    epochs = schema.with_strategy_defaults(run.parameters).get("epochs")
    return epochs if isinstance(epochs, int) else None


def _durations_file() -> Path:
    return paths.logs() / DURATIONS


def _kind_of(run: RunSpec, *, without_epochs: bool = False) -> str:
    left_out = {*_NOT_COSTLY, "epochs"} if without_epochs else set(_NOT_COSTLY)
    values: Mapping[str, Any] = run.parameters
    costly = {name: values[name] for name in sorted(values) if name not in left_out}
    return hashing.digest(run.stage, repr(costly))
