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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import files, hashing, parameter_table, paths, runs
from lib.batch import status
from lib.batch import study as studies
from lib.batch.parameter_grid import RunSpec
from lib.batch.status import RunStatus
from lib.batch.study import Stage, Study
from lib.errors import DarkroomError
from lib.runs import record

if TYPE_CHECKING:
    from lib.data.dataset import Dataset


OLDER_CODE = "finished with older code; `--force` to repeat"
"""The reason of a finished run since which code has changed, none of which decides its numbers."""
_FINISHED = ("finished", OLDER_CODE)
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
        blocked = [name for name in stage.after if name in waiting]
        missing = [absent[data] for data in map(_data, stage.runs) if data in (absent or {})]
        if blocked:
            decided = [Step(run, "wait", f"after {blocked[0]}") for run in stage.runs]
        elif missing:
            decided = [Step(run, "run", missing[0]) for run in stage.runs]
        else:
            decided = decide(stage, force=force)
        if any(step.action != "skip" for step in decided):
            waiting.add(stage.name)
        steps += decided
    return steps


def _data(run: RunSpec) -> str | None:
    return run.parameters.get("data")


def decide(stage: Stage, *, force: bool = False) -> list[Step]:
    """Returns a verdict on every run of a stage whose predecessors have ended.

    Raises DarkroomError when the data that the stage needs cannot be read.
    """
    digests: dict[str | None, str | None] = {}
    steps = []
    for run in stage.runs:
        data = _data(run)
        if data not in digests:  # reading the data for each run would take long
            dataset = _dataset(run)
            digests[data] = dataset and runs.data_digest(stage.notebook, dataset)
        folder = Step(run, "", "").folder()
        known = record.key(folder)
        key = runs.key(stage.notebook, run.parameters, data=digests[data], known=known)
        reason = "forced" if force else _reason(folder, key)
        steps.append(Step(run, "skip" if reason in _FINISHED else "run", reason, key))
    return steps


def _dataset(run: RunSpec) -> Dataset | None:
    """The data set of a run, as its notebook hands it to `runs.start`."""
    if "data" not in run.parameters:
        return None
    from lib.cleaning import clean
    from lib.data import dataset

    loaded = dataset.load(run.parameters["data"])
    clean.sync(loaded)  # decisions made in the browser count before anything is judged finished
    return loaded


def _reason(folder: Path, key: dict[str, Any]) -> str:
    """Why a run must be done, or one of `_FINISHED` where it has a result that the key decides."""
    if (result := record.result(folder)) is not None:
        known = result.get("key") or {}
        if changes := runs.changes(known, key):
            return f"{CHANGED}{', '.join(changes)}"
        return OLDER_CODE if runs.is_older(known, key) else "finished"
    if (folder / record.RESULT).exists():
        return record.damage(folder)
    if (failure := record.failure(folder)) is not None:
        return f"failed before: {failure.get('exception')}"
    if (known := record.key(folder)) is not None:
        has_changed = bool(runs.changes(known, key))
        return "was interrupted, and has changed since" if has_changed else "was interrupted"
    return "new"


def with_staleness(folder: str) -> list[RunStatus]:
    """Returns the status of every run of a study; what has finished with another key than it would
    have today is `stale`, with what changed.

    A stage whose data or study file cannot be read any more is not judged.
    """
    about, reasons = status.read(folder), dict[str, str]()
    with contextlib.suppress(DarkroomError, KeyError):
        study = studies.read(
            about["file"],
            settings=about["settings"],
            tiny=about["tiny"],
            seeds=about.get("seeds"),
        )
        for stage in study.stages:
            with contextlib.suppress(DarkroomError):
                reasons |= {step.run.id: step.reason for step in decide(stage)}
    return [_judged(one, reasons.get(one.id, "")) for one in status.of_study(folder)]


def _judged(one: RunStatus, reason: str) -> RunStatus:
    if one.state != "finished":
        return one
    if reason == OLDER_CODE:
        return replace(one, changed=reason)
    changed = reason.removeprefix(CHANGED)
    return replace(one, state="stale", changed=changed) if changed != reason else one


BYTES_A_TRAINING, BYTES_A_RUN = 25_000_000, 2_000_000
"""Disk space of a run that trains, its checkpoint included, and of any other (upper estimates)."""
BYTES_ALWAYS = 200_000_000
"""Disk space that is always kept free."""


def check_disk_space(steps: Sequence[Step]) -> None:
    """Raises DarkroomError when the disk of `logs/` cannot hold the runs that are to be done."""
    todo = [step.run.parameters for step in steps if step.action != "skip"]
    if not todo:
        return
    trainings = sum("epochs" in values for values in todo)
    needed = BYTES_ALWAYS + trainings * BYTES_A_TRAINING + (len(todo) - trainings) * BYTES_A_RUN
    cached = {  # for each data set and image side
        (values["data"], values["image_side"])
        for values in todo
        if {"data", "image_side"} <= values.keys()
    }
    if cached:
        from lib.data import dataset

        images = {name: len(dataset.load(name).files()) for name in {name for name, _ in cached}}
        needed += sum(images[name] * side * side * 3 for name, side in cached)
    folder = paths.root()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DarkroomError(
            f"{len(todo)} runs need about {needed / 1e9:.1f} GB in {folder}, but its disk has "
            f"{free / 1e9:.1f} GB free. Make room (`darkroom prune`), or set DARKROOM_HOME to a "
            "folder on another disk."
        )


_TRAINING = ("3_train", "5_thumbnails")
ASSUMED_IMAGES = 2_000
"""Assumed number of images of a data set that has not been read."""
ASSUMED_TINY = 80
"""The same for the sample that a tiny study takes."""


def smallest_differences(study: Study) -> list[str]:
    """One sentence for every stage that trains two arms or more."""
    from lib.evaluation import paired_tests

    baselines = {
        run.parameters.get("baseline")
        for stage in study.stages
        if stage.notebook.name == "6_compare"
        for run in stage.runs
    }
    sentences = []
    for stage in study.stages:
        by_arm: dict[str | None, list[RunSpec]] = {}
        for run in stage.runs:
            by_arm.setdefault(run.arm, []).append(run)
        if stage.notebook.name not in _TRAINING or len(by_arm) < 2:
            continue
        first = stage.runs[0].parameters
        known = num_images(first["data"])
        images = known or ASSUMED_IMAGES
        shares = first["fractions"]
        estimate = paired_tests.before(
            num_arms=len(by_arm),
            num_runs=min(map(len, by_arm.values())),
            num_test=max(1, round(shares[2] * images)),
            num_train=max(1, round(shares[0] * images)),
            is_splits=len({run.parameters["split_seed"] for run in by_arm[stage.runs[0].arm]}) > 1,
            num_pairs=len(by_arm) - 1 if baselines & by_arm.keys() else None,
        )
        supposed = "" if known else f"If the data set has {ASSUMED_IMAGES:,} images: "
        sentences.append(f"{stage.name}: {supposed}{estimate.sentence}")
    return sentences


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
    epochs = _epochs(run) or 1
    training = images * epochs * _CNN_S
    if values.get("architecture", "custom") != "custom":
        is_tuned = values.get("strategy") in ("scratch", "fine_tune", "full")
        training = images * _IMAGE_S * (1 + _BACKWARD * epochs * is_tuned)
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
        content = files.read_json(paths.logs() / DURATIONS)
        content = hashing.unsealed(content) if isinstance(content, dict) else None
        self._noted: dict[str, dict[str, Any]] = (content or {}).get("noted", {})

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
            kept = dict(list(self._noted.items())[-_KINDS:])
            files.write_json(paths.logs() / DURATIONS, hashing.sealed({"noted": kept}))


def _epochs(run: RunSpec) -> int | None:
    """The epochs of a training, by default those of its strategy; None for other runs."""
    epochs = parameter_table.with_strategy_defaults(run.parameters).get("epochs")
    return epochs if isinstance(epochs, int) else None


def _kind_of(run: RunSpec, *, without_epochs: bool = False) -> str:
    left_out = {*_NOT_COSTLY, "epochs"} if without_epochs else _NOT_COSTLY
    costly = {name: run.parameters[name] for name in sorted(run.parameters) if name not in left_out}
    return hashing.digest(run.stage, repr(costly))


ENDED = ("finished", "skipped", "failed", "killed", "blocked")


@dataclass
class Report:
    """The progress of a study. `states` maps `<stage>/<unit>` to queued, submitted or one of
    `ENDED`.
    """

    study: Study
    states: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    slots: int = 1
    started: float = field(default_factory=time.time)
    stopping: bool = False
    durations: Durations = field(default_factory=Durations)
    unwritten: list[str] = field(default_factory=list)
    """Outputs of finished runs that could not be written to where they were wanted."""

    def count(self, *states: str) -> int:
        """Returns how many runs are in one of these states."""
        return sum(state in states for state in self.states.values())

    def complete(self) -> bool:
        """Whether every run has a result."""
        return self.count("finished", "skipped") == len(self.states)
