"""The search for a model's values: each candidate is fitted on train and judged on validation; test
images are not in here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import pandas
import psutil
import threadpoolctl

from lib.baselines import fitting, table, trials
from lib.baselines.data import Material, Part, Size, size, told
from lib.baselines.trials import Journal
from lib.batch import machine
from lib.errors import DarkroomError, suggest

METHODS = ("grid", "refined", "halving", "genetic")
"""`grid` fits every combination; the others are `lib.tuning`'s and fit what they ask for."""

_MEMORY_SHARE = 0.5
_SIZE = "size"  # a method searches the thumbnail's size as one of the values
_FACTOR, _RUNGS = 3, 3
Candidate = tuple[Size, dict[str, Any], float]
"""Size, values, and the share of the train images that it is fitted on."""


@dataclass(frozen=True)
class _Task:
    """Candidates that are fitted together, since they differ in the path's value alone."""

    size: Size
    parameters: dict[str, Any]
    values: tuple[Any, ...]
    share: float = 1.0


def run(
    kind: str,
    grid: Mapping[str, Sequence[Any]],
    sizes: Sequence[Size],
    material: Material,
    *,
    method: str = "grid",
    num_trials: int = 0,
    seed: int = 0,
    journal: Journal | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Returns the results table, the best on validation first.

    Args:
        kind: a model of the table.
        grid: the values to try of each parameter, as `table.grid` gives them.
        sizes: heights and widths of thumbnails.
        material: images, truth and split.
        method: one of METHODS.
        num_trials: how many are fitted by `genetic`; 0 for the others.
        seed: first weights, order of images and random proposals follow from it.
        journal: rows that are known already, of a search that was stopped.
        jobs: fits at the same time; all cores where None, fewer where memory is short.
        progress: called with (rows known, rows in all).

    Raises:
        DarkroomError: for an unknown method.
    """
    if method not in METHODS:
        raise DarkroomError(
            f"`search` must be one of {', '.join(METHODS)}. Received: "
            f"{method!r}.{suggest(method, METHODS)}"
        )
    journal = Journal() if journal is None else journal
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    every = [(each, values, 1.0) for each in sizes for values in combinations]
    evaluate = _Evaluator(kind, material, seed, journal, jobs, progress)
    if method == "grid" or len(every) == 1:
        return trials.frame(evaluate(every), material)
    return trials.frame(
        _asked(method, kind, grid, sizes, evaluate, num_trials or len(every) // 2 or 1, seed),
        material,
    )


class _Evaluator:
    """Fits candidates, at most once each, in parallel."""

    def __init__(
        self,
        kind: str,
        material: Material,
        seed: int,
        journal: Journal,
        jobs: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._kind, self._material, self._seed, self._journal = kind, material, seed, journal
        self._jobs, self._progress = jobs, progress
        self._path = table.get(kind).path

    def __call__(self, wanted: Sequence[Candidate]) -> list[dict[str, Any]]:
        """Returns the row of each candidate, in their order."""
        keys = [self._key(*candidate) for candidate in wanted]
        missing = {
            key: candidate
            for key, candidate in zip(keys, wanted, strict=True)
            if key not in self._journal.rows
        }
        known, new = len(wanted) - len(missing), 0
        for task, rows in self._fitted(self._tasks(list(missing.values()))):
            for value, row in zip(task.values, rows, strict=True):
                self._journal.add(self._key(task.size, self._whole(task, value), task.share), row)
            new += len(rows)
            if self._progress:
                self._progress(known + new, len(wanted))
        return [self._journal.rows[key] for key in keys]

    def _key(self, size: Size, parameters: Mapping[str, Any], share: float) -> str:
        return trials.key(self._kind, size, parameters, self._material, self._seed, share=share)

    def _whole(self, task: _Task, value: Any) -> dict[str, Any]:
        return task.parameters if self._path is None else {**task.parameters, self._path: value}

    def _tasks(self, wanted: Sequence[Candidate]) -> list[_Task]:
        """Joins what differs in the path's value alone; a path is cut again where cores would be
        idle. The longest first.
        """
        groups: dict[str, list[Candidate]] = {}
        for candidate in wanted:
            pixels, parameters, share = candidate
            rest = {name: value for name, value in parameters.items() if name != self._path}
            groups.setdefault(f"{pixels} {share} {sorted(rest.items())}", []).append(candidate)
        found = []
        for members in groups.values():
            pixels, first, share = members[0]
            rest = {name: value for name, value in first.items() if name != self._path}
            values = (
                sorted(parameters[self._path] for _, parameters, _ in members)
                if self._path
                else [None]
            )
            pieces = (
                1
                if self._path in (None, "epochs")
                else min(len(values), max(1, self._cores() // len(groups)))
            )
            found += [
                _Task(pixels, rest, tuple(values[part::pieces]), share) for part in range(pieces)
            ]
        return sorted(found, key=_cost, reverse=True)

    def _fitted(self, tasks: Sequence[_Task]) -> Iterator[tuple[_Task, list[dict[str, Any]]]]:
        if not tasks:
            return
        jobs = min(len(tasks), self._cores(), self._most_in_memory(tasks))
        threads = max(1, self._cores() // jobs)
        mode = "processes" if table.get(self._kind).processes and jobs > 1 else "threads"
        work = (
            joblib.delayed(_work)(task, *self._parts(task), self._kind, self._seed, threads)
            for task in tasks
        )
        parallel = joblib.Parallel(
            jobs, prefer=mode, return_as="generator_unordered", pre_dispatch=jobs + 1
        )
        yield from parallel(work)

    def _parts(self, task: _Task) -> tuple[Part, Part]:
        train, val = (self._material.part(name, task.size) for name in ("train", "val"))
        return train if task.share == 1 else train.some(task.share, seed=self._seed), val

    def _cores(self) -> int:
        return self._jobs or machine.num_cores()

    def _most_in_memory(self, tasks: Sequence[_Task]) -> int:
        num = len(self._material.paths("train"))
        widest = max(3 * task.size[0] * task.size[1] for task in tasks)
        needed = (
            6 * 8 * num * widest
            + (3 * 8 * num**2 if self._kind == "rbf_exact" else 0)
            + 200_000_000
        )
        return max(
            1,
            int(
                _MEMORY_SHARE
                * min(psutil.virtual_memory().available, machine.total_memory())
                / needed
            ),
        )


def _cost(task: _Task) -> float:
    layers = task.parameters.get("hidden_layers")
    pixels = 3 * task.size[0] * task.size[1]
    if layers is None:
        return float(pixels * len(task.values))
    units = [pixels, *layers]
    return float(max(task.values)) * sum(a * b for a, b in itertools.pairwise(units))


def _work(
    task: _Task, train: Part, val: Part, kind: str, seed: int, threads: int
) -> tuple[_Task, list[dict[str, Any]]]:
    with threadpoolctl.threadpool_limits(
        threads, user_api="openmp"
    ):  # the trees' own; BLAS has one thread a fit anyway
        fits = fitting.along(kind, task.parameters, task.values, train, seed=seed)
        return task, [trials.row(fit, kind, task.size, train, val, seed=seed) for fit in fits]


def _asked(
    method: str,
    kind: str,
    grid: Mapping[str, Sequence[Any]],
    sizes: Sequence[Size],
    evaluate: _Evaluator,
    num_trials: int,
    seed: int,
) -> list[dict[str, Any]]:
    """What a method of `lib.tuning` asks for, wave by wave.

    Halving begins with few epochs of a network, and with a part of the train images for what has no
    epochs.
    """
    from lib.tuning import methods

    values = {_SIZE: [told(each) for each in sizes], **grid}
    budget = _FACTOR ** (_RUNGS - 1) if method == "halving" else 1
    if table.get(kind).path == "epochs" and method == "halving":
        budget = int(max(values.pop("epochs")))
    fixed = {name: each[0] for name, each in values.items() if len(each) == 1}
    space = _space(
        {name: each for name, each in values.items() if name not in fixed},
        ranges=method in ("refined", "genetic"),
    )
    options = {
        "refined": {"points": max(3, *(len(each) for each in grid.values()))},
        "halving": {"factor": _FACTOR, "first_trials": int(min(space.size(), 81))},
    }
    found = methods.make(
        method,
        space,
        goals={"val_accuracy": "max"},
        epochs=budget,
        seed=seed,
        options=options.get(method),
        num_trials=num_trials if method == "genetic" else 0,
    )
    rows: dict[str, dict[str, Any]] = {}
    while wave := list(iter(found.ask, None)):
        candidates = [
            _candidate({**fixed, **each.values}, each.epochs, budget, "epochs" in grid)
            for each in wave
        ]
        for proposal, candidate, row in zip(wave, candidates, evaluate(candidates), strict=True):
            rows[str(candidate)] = row
            found.tell(proposal.number, [row["val_accuracy"]], [], spent=True)
    return list(rows.values())


def _space(values: Mapping[str, Sequence[Any]], *, ranges: bool) -> Any:
    """The values as a space of `lib.tuning`; with `ranges` numbers stand for all between the least
    and the greatest.
    """
    from lib.tuning import space

    written: dict[str, Any] = {}
    for name, each in values.items():
        numbers = all(type(value) in (int, float) for value in each)
        if ranges and numbers:
            low, high = min(each), max(each)
            written[name] = {"low": low, "high": high, "log": low > 0 and high / low >= 10}
        else:
            written[name] = list(each)
    return space.read(written, where="`grid`")


def _candidate(values: dict[str, Any], spent: int, budget: int, network: bool) -> Candidate:
    rest = {name: value for name, value in values.items() if name != _SIZE}
    if network and "epochs" not in rest:
        return size(values[_SIZE]), {**rest, "epochs": spent}, 1.0
    return size(values[_SIZE]), rest, spent / budget
